"""What fine-tuning strategies cost for the published size, by XLA's count."""

import pathlib

import jax
import numpy as np
import pytest

from jetfm import train
from jetfm.data import jet_schema
from jetfm.typing import Batch
from launch.cli import load_file

ROOT = pathlib.Path(__file__).parents[2]


def base(stage):
  """Model, tasks and options of the config's variant `base`, in float32 and without remat."""
  config = load_file(str(ROOT / "configs" / "lorentz_part.py") + ":base")
  encoder = config.encoder.to_dict() | {"remat": False}
  tasks = config.stage[stage].tasks.to_dict()
  for options in tasks.values():
    options.pop("weight")
  numbers = {name: (100.0, 50.0) for name in ("mass", "seed_mass", "gen_mass")}
  description = train.describe_model(jet_schema().fitted(numbers), encoder, tasks)
  model, tasks, schema = train.build_model(description)
  return model, tasks, schema, encoder["depth"]


def flops(strategy, stage="classify", events=8, length=64):
  model, tasks, schema, depth = base(stage)
  shape = (events, length)
  batch = Batch(
    p4=np.ones((*shape, 4), np.float32),
    features=np.zeros((*shape, len(schema.stored)), np.float32),
    present=np.ones((*shape, len(schema.groups)), bool),
    mask=np.ones(shape, bool),
    label=np.zeros(events, np.int32),
    targets=np.ones((events, len(schema.stored_targets)), np.float32),
    weight=np.ones(events, np.float32),
    event_id=np.arange(events, dtype=np.int32),
    spectators=np.ones((events, len(schema.spectators)), np.float32),
  )
  key = jax.random.key(0)

  def start():
    views = {name: task.views(key, batch, True) for name, task in tasks.items()}
    return model.init(key, views)

  variables = jax.eval_shape(start)
  chosen = train.make_strategy(strategy, depth)
  labels = train.label(variables["params"], chosen)
  optimizer = train.make_optimizer(
    train.Optimizer(), 100, train.trained_labels(labels), chosen.rates
  )
  state = jax.eval_shape(lambda v: train.create(v, optimizer, labels, key), variables)
  step = train.make_train_step(model, [(t, 1.0) for t in tasks.values()], optimizer, labels)
  # Counted before optimisation: what is never used is counted in both, which only makes it harder.
  return step.lower(state, (batch,)).cost_analysis()["flops"]


@pytest.mark.slow
def test_frozen_fine_tuning_costs_less_than_60_percent_of_a_full_step():
  assert flops("frozen") < 0.6 * flops("full")
