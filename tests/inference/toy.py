"""One small checkpoint with every head, untrained but with weights of order one."""

import dataclasses

import jax
import numpy as np
import optax

from jetfm import train
from jetfm.data.jet_schema import jet_schema
from jetfm.typing import Batch
from tests.variables import initial

TARGETS = {"mass": (80.0, 40.0), "seed_mass": (300.0, 200.0), "gen_mass": (80.0, 40.0)}
SCHEMA = jet_schema("full", classes=("QCD", "Tbqq", "Tbl")).fitted(TARGETS)
ENCODER = {
  "kind": "lorentz_part",
  "width": 16,
  "depth": 1,
  "heads": 2,
  "embed_widths": [16],
  "pair_widths": [8],
}
HEAD = {"layers": 1, "heads": 2}
TASKS = {
  "masked_particles": {},
  "masked_directions": {"head_options": {"features": 4}},
  "classification": {"head_options": HEAD},
  "regression": {"targets": ["gen_mass", "mass"], "head_options": HEAD},
  "generation": {
    "particles": 24,
    "latent": 3,
    "condition": "jet",
    "head_options": HEAD | {"width": 16},
  },
  "super_resolution": {"given": 5, "particles": 24, "head_options": HEAD},
}


def make_events(counts, length, seed=0, schema=SCHEMA) -> Batch:
  """Jets with these numbers of particles; what an event holds depends on its id alone."""
  counts = np.asarray(counts)
  p4 = np.zeros((len(counts), length, 4), np.float32)
  features = np.zeros((len(counts), length, len(schema.stored)), np.float32)
  for b, n in enumerate(counts):
    rng = np.random.default_rng([seed, b])
    p3 = rng.normal(size=(n, 3)) * 5 + [20, 3, -8]
    p4[b, :n, 0] = np.sqrt((p3**2).sum(axis=-1) + 0.14**2)
    p4[b, :n, 1:] = p3
    features[b, :n] = rng.normal(size=(n, len(schema.stored)))
  mask = np.arange(length) < counts[:, None]
  size = len(counts)
  return Batch(
    p4=p4,
    features=features,
    present=np.repeat(mask[..., None], len(schema.groups), axis=-1),
    mask=mask,
    label=np.arange(size, dtype=np.int32) % len(schema.classes),
    targets=np.full((size, 1), 90.0, np.float32),
    weight=np.ones(size, np.float32),
    event_id=1000 * seed + np.arange(size, dtype=np.int32),
    spectators=np.zeros((size, len(schema.spectators)), np.float32),
  )


def save_checkpoint(folder, tasks, seed=0, schema=SCHEMA, encoder=ENCODER, settings=None):
  """A checkpoint of a model with these tasks, as training writes it; returns the folder.

  tasks: names in TASKS, or options by name; settings: of the training, beside the model.
  """
  chosen = tasks if isinstance(tasks, dict) else {name: TASKS[name] for name in tasks}
  description = train.describe_model(schema, encoder, chosen)
  model, made, _ = train.build_model(description)
  events, key = make_events([4], 6, schema=schema), jax.random.key(seed)

  def init(key, events):
    return model.init(key, {name: task.views(key, events, False) for name, task in made.items()})

  fresh = initial(init, key, events)
  rng = np.random.default_rng(seed)
  noise = jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), fresh["params"])
  variables = fresh | {"params": jax.tree.map(np.add, fresh["params"], noise)}
  labels = train.label(variables["params"], train.make_strategy("full", encoder["depth"]))
  state = train.create(variables, optax.sgd(0.1), labels, key)
  known = {} if settings is None else {"settings": settings}
  checkpoints = train.Checkpoints(folder, {"model": description} | known, optimizer=False)
  checkpoints.save(dataclasses.replace(state, step=np.int32(7)), {"finished": True})
  checkpoints.close()
  return folder
