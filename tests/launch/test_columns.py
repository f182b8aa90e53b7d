"""Which column of a report the numbers of a task stand in."""

import types

import pytest

from jetfm.evals.metrics import Measurement
from jetfm.evals.sections import Section
from launch.evaluation import columns
from launch.evaluation.inputs import Options
from launch.evaluation.runs import RunFolder, StageFolder


class Trained:
  """Stands for a Predictor whose checkpoint has these tasks, {name: kind}."""

  def __init__(self, tasks):
    self.tasks, self.kinds = tuple(tasks), tasks

  def of_kind(self, kind):
    return tuple(name for name, own in self.kinds.items() if own == kind)


@pytest.mark.parametrize(
  "tasks, expected",
  [
    ({"a": "masked_particles", "b": "masked_directions"}, {"run": {"a", "b"}}),
    ({"b": "masked_directions", "a": "masked_features"}, {"run": {"a", "b"}}),
    ({"b": "masked_directions"}, {"run": {"b"}}),
    ({"a": "masked_particles", "b": "masked_particles"}, {"run": {"a"}, "run/pre/b": {"b"}}),
    (
      {"a": "masked_particles", "b": "masked_directions", "c": "masked_directions"},
      {"run": {"a", "b"}, "run/pre/c": {"c"}},
    ),
  ],
)
def test_one_section_of_a_column_has_one_task_and_what_joins_it(monkeypatch, tasks, expected):
  def section(inputs):
    return Section({inputs.task: Measurement(1.0)}, {"of": inputs.task})

  stubs = {kind: (name, section) for kind, (name, _) in columns.SECTIONS.items()}
  monkeypatch.setattr(columns, "SECTIONS", stubs)
  monkeypatch.setattr(columns, "_load", lambda *_: Trained(tasks))
  monkeypatch.setattr(columns.Evaluation, "_describe", lambda *_: None)
  samples = types.SimpleNamespace(test=lambda _: None, training=lambda _: None)
  options = Options(0, "QCD", 0, 0, (), figures=False, map_events=0)
  done = columns.Evaluation(samples, (), options)
  done.add(RunFolder("run", (StageFolder("pre", None, None),)))
  found = {column.name: set(column.sections["pretraining"]) for column in done.columns}
  assert found == expected
