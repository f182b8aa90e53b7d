"""Small batches of jets for the laws of the models."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jetfm.data.jet_schema import JETCLASS, jet_schema
from jetfm.typing import Batch

SIZES = {
  "width": 16,
  "depth": 1,
  "heads": 2,
  "mlp_ratio": 2,
  "embed_widths": (16,),
  "pair_widths": (8,),
}


@pytest.fixture(scope="session")
def sizes():
  """Attributes that make an encoder tiny."""
  return SIZES


@pytest.fixture(scope="session")
def schema():
  """Input set `full`, with targets that are standardised."""
  targets = {name: (100.0, 30.0) for name in ("mass", "seed_mass", "gen_mass")}
  return jet_schema("full").fitted(targets)


@pytest.fixture(scope="session")
def initialise():
  """initialise(module, *args, seed=0) -> variables of the shapes of `module.init`, in float32.

  Random numbers of order one, biases included: a law that holds for zero biases only is none.
  Compiling `init` itself would cost more than the gradient of the model.
  """

  def fill(path, leaf, rng):
    collection, *_, name = (key.key for key in path)
    noise = rng.normal(size=leaf.shape).astype(np.float32)
    if collection == "constants":
      return np.full(leaf.shape, name == "std", np.float32)
    if "scale" in name:
      return 1 + 0.1 * noise
    if "kernel" in name:
      return noise / leaf.shape[0] ** 0.5
    return 0.3 * noise

  def make(module, *args, seed=0, **kwargs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args, **kwargs)
    rng = np.random.default_rng(seed)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fill(path, leaf, rng), shapes)

  return make


@pytest.fixture(scope="session")
def make_batch(schema):
  """make_batch(seed=0, lengths=(6, 4), padded=6, hide=False, dtype=float32) -> Batch of jets.

  Particles have masses of about 1 GeV and are not collimated: laws hold for those as well, and
  rounding is not amplified. Every second particle of every jet is hidden with `hide`.
  """

  def make(seed=0, lengths=(6, 4), padded=None, hide=False, dtype=np.float32) -> Batch:
    padded = max(lengths) if padded is None else padded
    p4 = np.zeros((len(lengths), padded, 4))
    features = np.zeros((len(lengths), padded, len(schema.stored)))
    for event, length in enumerate(lengths):
      rng = np.random.default_rng((seed, event))  # of this event alone, whatever it is padded to
      p3 = rng.normal(size=(length, 3)) * 5 + [20, 3, -8]
      energy = np.sqrt((p3**2).sum(axis=-1) + rng.uniform(0.5, 2, length))
      p4[event, :length] = np.concatenate([energy[:, None], p3], axis=-1)
      features[event, :length] = rng.normal(size=(length, len(schema.stored)))
    mask = np.arange(padded) < np.array(lengths)[:, None]
    pt = np.where(mask, np.hypot(p4[..., 1], p4[..., 2]), -1)
    rank = np.argsort(np.argsort(-pt, axis=-1, kind="stable"), axis=-1)
    hidden = mask & (np.arange(padded) % 2 == 1)
    size = len(lengths)
    return Batch(
      p4=p4.astype(dtype),
      features=features.astype(dtype),
      present=np.ones((size, padded, len(schema.groups)), bool),
      mask=mask,
      label=np.arange(size, dtype=np.int32) % len(JETCLASS),
      targets=np.full((size, len(schema.stored_targets)), 90.0, dtype),
      weight=np.ones(size, dtype),
      event_id=np.arange(size, dtype=np.int32),
      spectators=np.zeros((size, len(schema.spectators)), dtype),
      hidden_rank=np.where(hidden, rank, -1).astype(np.int32) if hide else None,
    )

  return make
