"""Runs -> columns of a report: every checkpoint of a run, task by task."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

from jetfm.evals.catalogue import TASKS
from jetfm.evals.metrics import Measurement
from jetfm.evals.sections import Section
from jetfm.inference import LENGTHS, Predictor
from jetfm.train import CheckpointError, load_model
from launch.cli import UserError
from launch.evaluation.data import Samples
from launch.evaluation.inputs import Inputs, Options
from launch.evaluation.runs import Curve, RunFolder, StageFolder, read_curves
from launch.evaluation.tasks import JOINED, SECTIONS, embedding

ONLY_TRAINED = ("masked_jet", "supervised_contrastive", "view_contrastive")
"""Kinds of tasks whose only use is what they teach the encoder: probes of its embedding show it."""

Figure = tuple[str, str, bytes, str]
"""Section, kind, PNG bytes and caption, as `jetfm.evals.report.ReportFigure` takes them."""


@dataclasses.dataclass
class Column:
  """One run of the report; `settings` of its training by stage, {} where they are not known."""

  name: str
  sections: dict[str, dict[str, Measurement]] = dataclasses.field(default_factory=dict)
  details: dict[str, Any] = dataclasses.field(default_factory=dict)
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)
  settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

  def in_order(self) -> dict[str, dict[str, Measurement]]:
    """Sections as the report orders them."""
    return {name: self.sections[name] for name in TASKS if name in self.sections}


class Evaluation:
  """Runs that are evaluated one after the other, and what they gave so far.

  Args:
    samples: the jets; lengths: of predictions, () for those of the Predictor.
    often: called while it works; what it raises ends the work.

  Attributes:
    columns: one for each run; or one for each of its stages, where several hold the same task; and
      one for each further task of a kind that a stage has already.
    figures: all but the training curves.
  """

  def __init__(
    self,
    samples: Samples,
    lengths: tuple[int, ...],
    options: Options,
    often: Callable[[], None] = lambda: None,
  ):
    self.columns: list[Column] = []
    self.figures: list[Figure] = []
    self._samples, self._lengths, self._options = samples, lengths, options
    self._often = often
    self._curves: dict[str, dict[str, dict[str, Curve]]] = {}

  def add(self, run: RunFolder) -> None:
    """Evaluates a run.

    Raises: UserError for a checkpoint that is damaged, or that the data do not fit.
    """
    for name in run.unfinished:
      _say(f"{run.name}: stage '{name}' has no checkpoint yet, left out")
    loaded = [(stage, _load(stage, self._lengths)) for stage in run.stages]
    stages = sorted(loaded, key=lambda pair: _place(pair[1]))
    held = [s for _, predictor in stages for s in {section for section, *_ in _jobs(predictor)}]
    apart = len(set(held)) < len(held)
    columns: dict[str, Column] = {}
    for i, (stage, predictor) in enumerate(stages):
      jobs = _jobs(predictor)
      only_trained = (task for kind in ONLY_TRAINED for task in predictor.of_kind(kind))
      if others := sorted(set(predictor.tasks) - {task for _, task, _ in jobs} - {*only_trained}):
        _say(f"{run.name}: there are no metrics for {others} of '{stage.name}', left out")
      # Sorted: the first stage is pretraining, where there is one.
      if i == 0 and (self._options.probes or (self._options.figures and self._options.map_events)):
        jobs.append(("embedding", "", embedding))
      for section, task, make in jobs:
        name = f"{run.name}/{stage.name}" if apart else run.name
        taken = name in columns and section in columns[name].sections
        if taken and not any(predictor.of_kind(kind)[:1] == (task,) for kind in JOINED):
          name = f"{run.name}/{stage.name}/{task}"
        column = columns.setdefault(name, Column(name))
        self._describe(column, stage, predictor)
        self._evaluate(column, stage, predictor, section, task, make)
      if self._options.figures and (curves := read_curves(stage.metrics)):
        first = jobs[0][0] if jobs else "pretraining"
        self._curves.setdefault(first, {})[f"{run.name}/{stage.name}"] = curves
    self.columns += columns.values() or [Column(run.name)]

  def training_figures(self) -> list[Figure]:
    """The losses of all stages of a section, of all runs in one picture."""
    if not self._curves:
      return []
    from jetfm.evals import plots

    figures = []
    for section, curves in self._curves.items():
      if len(curves) == 1:
        (caption,) = curves
        shown = {"": curves[caption]}
      else:
        caption, shown = "", curves
      figures.append((section, "training", plots.png(plots.training_figure(shown)), caption))
    return figures

  def _evaluate(
    self,
    column: Column,
    stage: StageFolder,
    predictor: Predictor,
    section: str,
    task: str,
    make: Callable[[Inputs], Section],
  ) -> None:
    start = time.monotonic()
    self._often()
    test, training = self._samples.test(predictor), self._samples.training(predictor)
    made = make(Inputs(predictor, task, test, training, self._options, self._often))
    column.sections[section] = column.sections.get(section, {}) | made.metrics
    column.details[section] = made.details | column.details.get(section, {})
    self.figures.extend(_rendered(section, column.name, made))
    seconds = time.monotonic() - start
    _say(f"{column.name}: {TASKS[section].lower()} of stage '{stage.name}' took {seconds:.0f} s")

  def _describe(self, column: Column, stage: StageFolder, predictor: Predictor) -> None:
    """The facts of a column: its stages, and what its last one says of the encoder."""
    trained = predictor.trained
    description = trained.checkpoint.description
    size = sum(x.size for x in jax.tree.leaves(trained.variables["params"]["encoder"]))
    steps, before = f"{stage.name} {predictor.step}", column.facts.get("stages and steps")
    if before is None or steps not in before.split(", "):
      column.facts["stages and steps"] = f"{before}, {steps}" if before else steps
    column.facts["encoder"] = f"{description['model']['encoder']['kind']}, {size:,} parameters"
    column.facts["inputs"] = predictor.schema.name
    settings = column.settings[stage.name] = description.get("settings", {})
    if "seed" in settings:
      column.facts["seed"] = settings["seed"]
    column.facts[self._samples.what] = len(self._samples.test(predictor))


def _jobs(predictor: Predictor) -> list[tuple[str, str, Callable[[Inputs], Section]]]:
  """(section, task, what makes it) of a checkpoint, as the report orders them."""
  return [
    (section, task, make)
    for kind, (section, make) in SECTIONS.items()
    for task in predictor.of_kind(kind)
  ]


def _place(predictor: Predictor) -> list[int]:
  """Where the report has the first task of a checkpoint."""
  order = list(TASKS)
  # A stage of several tasks comes after one that has only the first of them.
  return sorted(order.index(section) for section, _, _ in _jobs(predictor)) or [len(order)]


def _load(stage: StageFolder, lengths: tuple[int, ...]) -> Predictor:
  try:
    return Predictor(load_model(stage.checkpoint), lengths or LENGTHS)
  except CheckpointError as error:
    raise UserError(str(error)) from None


def _rendered(name: str, column: str, section: Section) -> list[Figure]:
  if not section.figures:
    return []
  from jetfm.evals import plots

  return [
    (name, kind, plots.png(figure), f"{column}: {caption}" if caption else column)
    for kind, caption, figure in section.figures
  ]


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
