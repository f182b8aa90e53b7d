"""A task of one's own, named by its place: from a config to a checkpoint and back."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.nn import masked_mean
from jetfm.objectives import weighted_mean, weighted_sum
from jetfm.schema import Schema
from jetfm.tasks import PLAIN, OneView, make_task
from jetfm.train import build_model, create, describe_model, load_model
from jetfm.train.checkpoint import Checkpoints
from jetfm.train.finetune import label, make_strategy, trained_labels
from jetfm.train.optim import Optimizer, make_optimizer
from jetfm.train.step import make_train_step
from tests.variables import initial

HERE = f"{__name__}:Multiplicity"
ENCODER = {"kind": "part", "width": 8, "depth": 1, "heads": 2, "embed_widths": (8,), "pair": None}


class OneNumber(nn.Module):
  @nn.compact
  def __call__(self, encoded, *, deterministic=True):
    return nn.Dense(1)(masked_mean(encoded.tokens, encoded.mask))[..., 0]


@dataclasses.dataclass(frozen=True)
class Multiplicity:
  """The number of particles in units of `scale`; no `head_options`."""

  schema: Schema
  name: str
  scale: float = 10.0

  @property
  def head(self):
    return OneView(OneNumber(), PLAIN)

  def views(self, key, batch, train):
    return {PLAIN: batch}

  def statistics(self, outputs, views, batch):
    true = batch.mask.sum(axis=-1) / self.scale
    return {"error": (outputs.output - true) ** 2, "one": jnp.ones_like(true)}

  def loss(self, statistics, weight, step):
    return weighted_mean(statistics["error"], statistics["one"], weight), {}

  def metrics(self, statistics, weight):
    sums = [weighted_sum(statistics[name], weight) for name in ("error", "one")]
    return {"mse": jnp.stack(sums)}


class Unfinished:
  name = "unfinished"

  def views(self, key, batch, train):
    return {PLAIN: batch}


class OptionsOnly(Multiplicity):
  def __init__(self, scale):
    pass


NOT_A_CLASS = 3.0


def test_two_tasks_of_one_kind_train_side_by_side_and_come_back(jets, schema, tmp_path):
  tasks = {"few": {"kind": HERE, "scale": 2.0}, "many": {"kind": HERE}}
  tasks["classification"] = {"head_options": {"layers": 1, "heads": 2}}
  description = describe_model(schema, ENCODER, tasks)
  model, made, _ = build_model(description)
  assert [type(task) for task in made.values()][:2] == [Multiplicity] * 2
  assert [(made[name].name, made[name].scale) for name in ("few", "many")] == [
    ("few", 2.0),
    ("many", 10.0),
  ]
  batch, key = jets([2, 5], 8), jax.random.key(0)
  views = {name: task.views(key, batch, True) for name, task in made.items()}
  variables = initial(model.init, key, views)
  strategy = make_strategy("full", 1)
  labels = label(variables["params"], strategy)
  optimizer = make_optimizer(Optimizer(), 10, trained_labels(labels), strategy.rates)
  state = create(variables, optimizer, labels, key)
  weighted = [(task, 1.0) for task in made.values()]
  before = jax.tree.map(np.asarray, state.params)
  state, logs = make_train_step(model, weighted, optimizer, labels)(state, (batch,))
  assert {"few/loss", "many/loss", "classification/accuracy"} <= set(logs)
  for name in ("few", "many"):
    changed = jax.tree.map(
      lambda a, b: not np.array_equal(a, b), before["heads"][name], state.params["heads"][name]
    )
    assert all(jax.tree.leaves(changed))

  checkpoints = Checkpoints(tmp_path, {"model": description}, optimizer=False)
  checkpoints.save(state, {"finished": True})
  checkpoints.close()
  trained = load_model(tmp_path)
  assert {name: task.name for name, task in trained.tasks.items()} == {n: n for n in tasks}
  assert trained.tasks["few"] == made["few"]
  jax.tree.map(np.testing.assert_array_equal, trained.variables["params"], state.params)


@pytest.mark.parametrize(
  ("kind", "options", "message"),
  [
    ("no_such_module:Task", {}, "no module 'no_such_module'; .*PYTHONPATH"),
    ("jetfm.no_such:Task", {}, "no module 'jetfm.no_such'"),
    ("broken_task:Task", {}, r"importing 'broken_task' raises NameError: .*broken_task.py, line 2"),
    ("needs_another:Task", {}, "importing 'needs_another' raises ModuleNotFoundError: .*not_there"),
    (f"{__name__}:Multiplicty", {}, "has no 'Multiplicty'; the nearest is 'Multiplicity'"),
    (f"{__name__}:NOT_A_CLASS", {}, "of type float, expected a class"),
    (
      f"{__name__}:Unfinished",
      {},
      r"lacks \['head', 'statistics', 'loss', 'metrics'\]; see jetfm.tasks.Task",
    ),
    (f"{__name__}:OptionsOnly", {}, r"is made from \['scale'\], expected 'schema' first"),
    (HERE, {"scales": 3.0}, "no option of task .* 'scales'; the nearest is 'scale'"),
    (HERE, {"name": "other"}, "no option of task .* 'name'"),
    ("regresion", {}, "nearest is 'regression'.*or 'package.module:Class' of your own"),
  ],
)
def test_mistakes_in_a_kind_are_said(schema, kind, options, message, tmp_path, monkeypatch):
  (tmp_path / "broken_task.py").write_text("import math\nTask = maths.pi\n")
  (tmp_path / "needs_another.py").write_text("import not_there\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match=message) as error:
    make_task("mine", schema, kind=kind, **options)
  assert "\n" not in str(error.value)


def test_a_name_must_fit_into_paths(schema):
  with pytest.raises(ValueError, match="letters, digits and underscores"):
    make_task("a/b", schema, kind="classification")
