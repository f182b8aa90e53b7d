"""Guesses of hidden measurements: those that the pretraining is evaluated by."""

import jax
import numpy as np
import optax
import pytest

from jetfm import inference, train
from jetfm.models.foundation import named_key
from jetfm.tasks.hiding import hidden_measurements
from tests.jpsi import event_schema, make_events
from tests.variables import initial

ENCODER = {
  "kind": "clear",
  "width": 8,
  "depth": 1,
  "class_depth": 1,
  "heads": 2,
  "embed_widths": [8],
  "pair_widths": [8],
}
TASKS = {"masked_features": {"components": 2, "head_options": {"widths": [8]}}}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  description = train.describe_model(event_schema(), ENCODER, TASKS)
  model, tasks, _ = train.build_model(description)
  key = jax.random.key(0)

  def init(key, events):
    return model.init(key, {name: task.views(key, events, False) for name, task in tasks.items()})

  variables = initial(init, key, make_events([4], 6))
  labels = train.label(variables["params"], train.make_strategy("full", 1))
  checkpoints = train.Checkpoints(folder, {"model": description}, optimizer=False)
  checkpoints.save(train.create(variables, optax.sgd(0.1), labels, key), {"finished": True})
  checkpoints.close()
  return inference.Predictor(train.load_model(folder), lengths=(8,), rows=8)


@pytest.mark.slow
def test_what_is_hidden_is_guessed_and_nothing_else(predictor):
  """The hidden measurements are those of the task's view, and sum to its errors."""
  events = make_events([5, 3, 8, 6, 7], 8)
  found = predictor.guess_measurements(events)
  task, schema = predictor.trained.tasks["masked_features"], predictor.schema
  key = named_key(named_key(jax.random.key(0), "evaluation"), "views")
  model = predictor.trained.model

  @jax.jit
  def direct(variables, events):
    views, sure = task.views(key, events, False), {"deterministic": True}
    encoded = {name: model.encode(variables, view, **sure) for name, view in views.items()}
    outputs = model.head(task.name, variables, encoded, views, key=key, **sure)
    hidden = hidden_measurements(views[task.view], events, schema)
    return hidden, task.statistics(outputs, views, events)

  hidden, statistics = jax.tree.map(np.asarray, direct(predictor.trained.variables, events))
  np.testing.assert_array_equal(found.hidden, hidden)
  assert hidden.any() and not found.true[~hidden].any() and not found.guessed[~hidden].any()
  categorical = np.array([f.likelihood == "categorical" for f in schema.features])
  off = found.guessed - found.true
  errors = np.where(categorical, off != 0, off**2).sum(axis=1)
  np.testing.assert_allclose(errors, statistics["error"], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(found.nll.sum(axis=1), statistics["nll"], rtol=1e-4, atol=1e-4)
  assert np.isfinite(found.sampled).all() and not found.sampled[~hidden].any()
  categories = found.sampled[..., categorical][hidden[..., categorical]]
  np.testing.assert_array_equal(categories, categories.round())
  again, other = predictor.guess_measurements(events), predictor.guess_measurements(events, seed=1)
  np.testing.assert_array_equal(again.sampled, found.sampled)
  both = hidden & other.hidden
  assert both.any() and (other.sampled != found.sampled)[both].any()


def test_other_checkpoints_have_no_such_task(predictor):
  with pytest.raises(ValueError, match="no task 'masked_particles'"):
    predictor.reconstruct(make_events([3], 8))
