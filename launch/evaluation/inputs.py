"""What the section of a task is made from: a model, jets, and the keys of the config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jetfm.evals.sections import Jets
from jetfm.inference import Predictor
from jetfm.progress import Progress
from jetfm.typing import Batch
from launch.evaluation.data import Sample


@dataclasses.dataclass(frozen=True)
class Options:
  """Keys of configs/evaluate.py that sections depend on."""

  seed: int
  background: str
  bootstrap: int
  jetnet_events: int
  probes: tuple[str, ...]
  figures: bool
  map_events: int


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a task is evaluated with: the model, its name in it, jets, and jets of training if any.

  `often` is called while predictions are made; what it raises ends them.
  """

  predictor: Predictor
  task: str
  sample: Sample
  training: Sample | None
  options: Options
  often: Callable[[], None] = lambda: None

  @property
  def settings(self) -> Any:
    """The task; of type Any because each has attributes of its own."""
    return self.predictor.trained.tasks[self.task]

  @property
  def training_jets(self) -> Jets | None:
    return self.training.jets if self.training is not None else None

  def predict(self, name: str, method: Callable[..., Any], sample: Sample, **options: Any) -> Any:
    """What a method of the predictor makes of a sample, with a progress line."""
    return method(self.watched(name, sample.batches), **options)

  def watched(self, name: str, batches: Sequence[Batch]) -> Iterator[Batch]:
    """The batches, with a line that says how many of their jets were taken."""
    progress, done = Progress(name, self.sample.what), 0
    total = sum(batch.num_events for batch in batches)
    try:
      for batch in batches:
        self.often()
        yield batch
        done += batch.num_events
        progress.update(done, total)
    finally:
      progress.close()
