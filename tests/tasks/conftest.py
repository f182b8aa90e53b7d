"""Toy jets: one or two prongs of massive particles, in the shape of a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.data.jet_schema import jet_schema
from jetfm.models import ParT
from jetfm.models.foundation import FoundationModel
from jetfm.tasks import make_task
from jetfm.typing import Batch
from tests.variables import initial

CONSTANTS = {"mass": (80.0, 40.0), "seed_mass": (300.0, 200.0), "gen_mass": (80.0, 40.0)}


def make_jets(counts, length, seed=0, classes=2, features=10, dtype=np.float32) -> Batch:
  """Jets with the given numbers of particles, sorted by pT, at random directions.

  The class is the number of prongs - 1; a feature column holds noise of its own.
  """
  counts = np.asarray(counts)
  size, events = len(counts), []
  p4 = np.zeros((size, length, 4))
  label = np.zeros(size, np.int32)
  for b, n in enumerate(counts):
    rng = np.random.default_rng([seed, b])
    label[b] = rng.integers(classes)
    fraction = np.sort(rng.dirichlet(np.full(n, 0.4)) + 2e-3)[::-1]
    pt = rng.uniform(500, 700) * fraction
    prong = rng.integers(label[b] + 1, size=n)[:, None]
    centre = rng.normal(0, 0.25, size=(label[b] + 1, 2))
    eta, phi = (centre[prong[:, 0]] + rng.normal(0, 0.08, (n, 2))).T
    eta, phi = eta + rng.uniform(-1.5, 1.5), phi + rng.uniform(-np.pi, np.pi)
    energy = np.hypot(pt * np.cosh(eta), 0.14)
    p4[b, :n] = np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], -1)
    events.append(rng.normal(size=(length, features)))
  mask = np.arange(length) < counts[:, None]
  jet = p4.sum(axis=1)
  mass = np.sqrt(np.maximum(jet[:, 0] ** 2 - (jet[:, 1:] ** 2).sum(axis=-1), 0))
  return Batch(
    p4=p4.astype(dtype),
    features=(np.stack(events) * mask[..., None]).astype(dtype),
    present=np.ones((size, length, 3), bool) & mask[..., None],
    mask=mask,
    label=label,
    targets=(mass + 5)[:, None].astype(dtype),
    weight=np.ones(size, dtype),
    event_id=(1000 * seed + np.arange(size)).astype(np.int32),
    spectators=np.zeros((size, 10), dtype),
  )


SMALL = {
  "masked_particles": {"mass_term": 0.1},
  "masked_jet": {},
  "masked_directions": {"head_options": {"features": 4}},
  "classification": {"smoothing": 0.1, "head_options": {"layers": 1, "heads": 2}},
  "regression": {"targets": ("gen_mass", "mass"), "head_options": {"layers": 1, "heads": 2}},
  "generation": {
    "particles": 24,
    "latent": 3,
    "condition": "jet",
    "jet_term": 0.1,
    "head_options": {"layers": 1, "heads": 2, "width": 16},
  },
  "super_resolution": {
    "given": 4,
    "particles": 24,
    "head_options": {"layers": 1, "heads": 2},
  },
  # Jets have no encoder that could hide single groups.
  "masked_features": {"object_ratio": 0.3, "group_ratio": 0.0, "head_options": {"widths": (16,)}},
  "supervised_contrastive": {"head_options": {"widths": (8,)}},
  "view_contrastive": {"head_options": {"widths": (8,)}},
}
"""Options of a small instance of every task."""


class TinyRun:
  """A task on a tiny encoder: what the training loop does, in a few lines.

  Nothing is sampled: the autoencoder decodes its posterior's mean. Parameters are float32.
  """

  def __init__(self, task, schema, batch, width=16, depth=1, heads=2, pair=None):
    self.task = task
    encoder = ParT(schema, width=width, depth=depth, heads=heads, embed_widths=(width,), pair=pair)
    self.model = FoundationModel(encoder, {task.name: task.head})

    def init(key, batch):
      return self.model.init(key, {task.name: task.views(key, batch, True)})

    self.variables = initial(init, jax.random.key(1), batch)

  def outputs(self, params, key, batch):
    """Predictions and views of one length group."""
    variables = self.variables | {"params": params}
    views = self.task.views(key, batch, True)
    encoded = {
      name: self.model.encode(variables, view, deterministic=True) for name, view in views.items()
    }
    return self.model.head(
      self.task.name, variables, encoded, views, deterministic=True, key=key
    ), views

  def statistics(self, params, key, batch):
    outputs, views = self.outputs(params, key, batch)
    return self.task.statistics(outputs, views, batch)

  def loss(self, params, key, groups, step=10):
    """Loss and terms of a global batch of length groups."""
    parts = [self.statistics(params, key, batch) for batch in groups]
    statistics = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    weight = jnp.concatenate([batch.weight for batch in groups])
    return self.task.loss(statistics, weight, jnp.asarray(step))


@functools.cache
def small_run(name) -> TinyRun:
  schema = toy_schema()
  with jax.enable_x64(False):
    return TinyRun(make_task(name, schema, **SMALL[name]), schema, make_jets([4, 7], 8))


@pytest.fixture
def tiny_run():
  """Name of a task -> TinyRun of its small instance, made once."""
  return small_run


@pytest.fixture
def new_run(schema):
  """(name of a task, batch, width, depth, options) -> TinyRun of that task."""

  def make(name, batch, width, depth, **options):
    task = make_task(name, schema, **options)
    return TinyRun(task, schema, batch, width=width, depth=depth, heads=4)

  return make


@pytest.fixture
def jets():
  """The function that makes toy jets, see `make_jets`."""
  return make_jets


def toy_schema():
  """Input set `full` with two classes and the three regression targets, fitted by hand."""
  return jet_schema("full", classes=("one_prong", "two_prongs")).fitted(CONSTANTS)


@pytest.fixture
def schema():
  return toy_schema()
