"""From events as they are in a file to branches of predictions, one row for each event."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from jetfm.data.batch import make_batch
from jetfm.data.checks import find_faults
from jetfm.data.errors import DataError
from jetfm.data.events import Events, Layout, flag_of, leading
from jetfm.data.kinds import EVENTS, JETS
from jetfm.data.sources import Chunk, Source
from jetfm.inference import EMBED, ROWS, Predictor
from jetfm.typing import Batch
from launch.cli import UserError

BATCH = 4 * ROWS
"""Events that are handed to a model at a time."""


class Models:
  """Some checkpoints, and the branches that they give.

  Attributes:
    kind: of the data that they were trained with.
    columns: particle columns that any of them reads, flags of detector groups included.
    types: of the branches, by name: score_<class>, pred_<target>, embedding; with the task's name
      in front, <task>_score_<class>, where a checkpoint has several tasks of one kind. Classes that
      are no names of branches, such as decay chains, are numbered: score_007.

  Raises: UserError for a checkpoint that gives no branch, two that give the same, or checkpoints of
    jets and of e+e- events together.
  """

  def __init__(self, predictors: Sequence[Predictor], embedding: bool):
    self.predictors = tuple(predictors)
    kinds = [EVENTS if p.schema.name in EVENTS.input_sets else JETS for p in predictors]
    self.kind = kinds[0]
    if any(kind is not self.kind for kind in kinds):
      raise UserError("checkpoints of jets and of e+e- events: predict in two runs")
    self.columns = tuple(dict.fromkeys(itertools.chain(*map(self.read_by, predictors))))
    self._names = [_names(p, embedding and i == 0) for i, p in enumerate(predictors)]
    self.types: dict[str, np.dtype] = {}
    owner: dict[str, Predictor] = {}
    for predictor, names in zip(self.predictors, self._names, strict=True):
      if not names:
        raise UserError(
          f"{_folder(predictor)} has the tasks {list(predictor.tasks)}: only classification and "
          "regression give branches, and --config.embedding=True for the first checkpoint"
        )
      for name, values in _branches(predictor, names, ()).items():
        if name in self.types:
          raise UserError(
            f"branch '{name}' comes from both {_folder(owner[name])} and {_folder(predictor)}: "
            "predict with one of them, or write to two folders"
          )
        self.types[name] = np.dtype((values.dtype, values.shape[1:]))
        owner[name] = predictor

  def read_by(self, predictor: Predictor) -> tuple[str, ...]:
    """Particle columns that a model reads, its detector groups' flags last."""
    schema = predictor.schema
    flags = tuple(map(flag_of, schema.groups)) if self.kind.partly_missing else ()
    return (*schema.stored, *flags)

  def predict(self, events: Events, often: Callable[[], None]) -> dict[str, np.ndarray]:
    """Branches of usable events with the features `columns`; `often` is called while it works."""
    found: dict[str, np.ndarray] = {}
    for predictor, names in zip(self.predictors, self._names, strict=True):
      found |= _branches(predictor, names, self._batches(predictor, events, often))
    return found

  def _batches(
    self, predictor: Predictor, events: Events, often: Callable[[], None]
  ) -> Iterator[Batch]:
    """Small batches of the columns that this model reads."""
    own = [self.columns.index(name) for name in self.read_by(predictor)]
    features = np.ascontiguousarray(events.features[:, own])
    events = dataclasses.replace(events, features=features)
    nothing, groups = events.slice(0, 0), len(predictor.schema.groups)
    for start in range(0, len(events), BATCH):
      often()
      some = events.slice(start, min(start + BATCH, len(events)))
      length, flagged = int(some.counts.max()), self.kind.partly_missing
      yield make_batch([some], length, 0, groups, nothing, flagged)


@dataclasses.dataclass(frozen=True)
class Reading:
  """How files are read.

  Attributes:
    branches: names of the JetClass layout -> names in the files, where the two differ.
    max_particles: longer jets keep their leading particles.
    on_bad: 'error' for the first unusable event, or 'nan' in all its branches.
    chunk: events at a time.
  """

  branches: Mapping[str, str]
  max_particles: int
  on_bad: str
  chunk: int


@dataclasses.dataclass
class Counts:
  """Events that were not predicted, by reason, and events that lost particles before."""

  bad: dict[str, int] = dataclasses.field(default_factory=dict)
  truncated: int = 0


def predictions(
  source: Source,
  models: Models,
  reading: Reading,
  counts: Counts,
  progress: Callable[[int], None],
  often: Callable[[], None],
) -> Iterator[dict[str, np.ndarray]]:
  """Branches of all entries of a file, a chunk at a time.

  Particles are checked, ordered and cut as by ingest.

  Args:
    counts: gets the unusable and the truncated events; progress: the entries done.
    often: called while it works; what it raises ends the work.
  Raises: DataError for a damaged file, and with on_bad 'error' for the first unusable event.
  """
  layout, read = Layout(models.columns, ()), 0
  for chunk in source.chunks(layout, (), 0, source.entries, reading.chunk):
    good = _usable(chunk, layout, source, reading, counts)
    events, lost = leading(chunk.events.select(good), reading.max_particles)
    counts.truncated += int((lost > 0).sum())
    size, branches = len(chunk.events), {}
    for name, values in models.predict(events, often).items():
      branches[name] = np.full((size, *values.shape[1:]), np.nan, values.dtype)
      branches[name][good] = values
    yield branches
    read += size
    progress(read)
  if read != source.entries:
    raise DataError(f"{source.path}: {read} entries could be read, expected {source.entries}")


def class_branches(classes: Sequence[str]) -> tuple[str, ...]:
  """What follows score_ for each class: its name where all can be names of branches, else its
  number, with as many digits as the last one."""
  if all(re.fullmatch(r"\w+", name) for name in classes):
    return tuple(classes)
  digits = len(str(len(classes) - 1))
  return tuple(f"{i:0{digits}d}" for i in range(len(classes)))


def _names(predictor: Predictor, embedding: bool) -> list[str]:
  """What there is to predict."""
  kinds = ("classification", "regression")
  return [name for kind in kinds for name in predictor.of_kind(kind)] + [EMBED] * embedding


def _branches(
  predictor: Predictor, names: Sequence[str], batches: Iterable[Batch]
) -> dict[str, np.ndarray]:
  made = predictor.predict(batches, names)
  branches: dict[str, np.ndarray] = {}
  for kind, word in (("classification", "score"), ("regression", "pred")):
    tasks = predictor.of_kind(kind)
    for task in tasks:
      columns = made[task]
      if kind == "classification":
        names_of = class_branches(predictor.schema.classes)
        columns = dict(zip(names_of, columns.T, strict=True))
      first = f"{task}_{word}" if len(tasks) > 1 else word
      branches |= {f"{first}_{name}": values for name, values in columns.items()}
  if EMBED in made:
    branches["embedding"] = made[EMBED]
  return branches


def _usable(
  chunk: Chunk, layout: Layout, source: Source, reading: Reading, counts: Counts
) -> np.ndarray:
  """Indices of the events that can be predicted; the others are counted, or an error."""
  # No label was read, and none is needed.
  labelled = dataclasses.replace(chunk.events, label=np.zeros_like(chunk.events.label))
  faults = find_faults(dataclasses.replace(chunk, events=labelled), layout, source.p4_names, None)
  good = np.ones(len(chunk.events), bool)
  if faults and reading.on_bad == "error":
    first = min(faults, key=lambda fault: int(fault.bad.argmax()))
    at = int(first.bad.argmax())
    entry = chunk.events.event_id[at]
    branch = reading.branches.get(first.branch, first.branch)
    raise DataError(
      f"{source.path.name}, entry {entry}, branch '{branch}': {first.of(at)}. "
      "Mend the file, or give such entries NaN, counted, with --config.on_bad=nan"
    )
  for fault in faults:
    if new := int((fault.bad & good).sum()):
      reason = f"{fault.reason} ({reading.branches.get(fault.branch, fault.branch)})"
      counts.bad[reason] = counts.bad.get(reason, 0) + new
    good &= ~fault.bad
  return np.flatnonzero(good)


def _folder(predictor: Predictor) -> str:
  return str(predictor.trained.checkpoint.folder)
