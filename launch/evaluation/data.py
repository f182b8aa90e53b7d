"""A split of a data set in memory: batches for the model, arrays for the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from jetfm.data import DataError, Manifest, open_dataset
from jetfm.data.kinds import KINDS
from jetfm.evals.metrics import jet_mass, jet_seed_mass
from jetfm.evals.sections import Jets
from jetfm.inference import Predictor
from jetfm.schema import Schema
from jetfm.typing import Array, Batch
from launch.cli import UserError

BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Sample:
  """Events of one split: `batches` without filler, and the same events as `jets`, in one order."""

  schema: Schema
  batches: tuple[Batch, ...]
  jets: Jets

  def __len__(self) -> int:
    return len(self.jets)

  @property
  def what(self) -> str:
    """The word for its entries: jets or events."""
    return word_for(self.schema.name)


class Samples:
  """The evaluated jets and those of training, read once for each way of seeing them.

  Args:
    directory: of the data set.
    split: that is evaluated.
    max_events, train_events: at most so many jets of each; 0 is all, and none of training.
  """

  def __init__(self, directory: str, split: str, max_events: int, train_events: int):
    self.directory, self.split = directory, split
    self._most = {split: max_events}
    # Never the evaluated jets themselves.
    self._training = "valid" if split == "train" else "train"
    self._most[self._training] = train_events
    self._read: dict[tuple, Sample | None] = {}

  def test(self, predictor: Predictor) -> Sample:
    """What is evaluated. Raises: UserError as `read_sample`, and when there is no jet."""
    sample = self._sample(predictor, self.split)
    if sample is None:
      splits = Manifest.load(self.directory).splits
      counts = ", ".join(f"{name} {split.num_events:,}" for name, split in splits.items())
      raise UserError(f"{self.directory}: split '{self.split}' holds no jet; there are {counts}")
    return sample

  def training(self, predictor: Predictor) -> Sample | None:
    """Other jets, for probes and trivial generators; None when there are none."""
    return self._sample(predictor, self._training) if self._most[self._training] else None

  def describe(self) -> str:
    """One sentence for the report."""
    return f"{self.what.capitalize()} of the {self.split} split of {self.directory}."

  @property
  def what(self) -> str:
    """The word for the entries of the data set: jets or events."""
    return word_for(next(iter(Manifest.load(self.directory).schemas)))

  def _sample(self, predictor: Predictor, split: str) -> Sample | None:
    wanted = predictor.schema
    key = (split, wanted.name, wanted.stored, wanted.groups, wanted.classes)
    if key not in self._read:
      self._read[key] = read_sample(self.directory, predictor, split, self._most[split])
    sample = self._read[key]
    if sample is None:
      return None
    longest = int(sample.jets.mask.sum(axis=1).max())
    if longest > predictor.lengths[-1]:
      raise UserError(
        f"the lengths of predictions are {predictor.lengths}, but a jet of split '{split}' has "
        f"{longest} particles: the last of --config.lengths must be at least that"
      )
    if needs_labels(predictor):
      try:
        predictor.check_schema(sample.schema)
      except ValueError as error:
        raise UserError(str(error)) from None
    return sample


def word_for(inputs: str) -> str:
  """Jets or events, by the input set."""
  return next((kind.what for kind in KINDS if inputs in kind.input_sets), "jets")


def needs_labels(predictor: Predictor) -> bool:
  """Whether a prediction is compared with a class, or made for one."""
  generation = [predictor.trained.tasks[name] for name in predictor.of_kind("generation")]
  conditioned = any(getattr(task, "condition", "") == "jet" for task in generation)
  return bool(predictor.of_kind("classification")) or conditioned


def read_sample(directory: str, predictor: Predictor, split: str, max_events: int) -> Sample | None:
  """The split as the checkpoint's model wants it; None when it holds no events.

  Classes of the same names in another order get the checkpoint's order.

  Args:
    max_events: a fixed random subset of so many, 0 for all.
  Raises: UserError for features that are not the checkpoint's, and for what is wrong with the data
    set.
  """
  try:
    manifest = Manifest.load(directory)
    _check_columns(manifest, predictor, directory)
    same = sorted(manifest.classes) == sorted(predictor.schema.classes)
    data = open_dataset(
      directory,
      predictor.schema.name,
      split,
      classes=predictor.schema.classes if same else None,
      max_events=max_events or None,
    )
    predictor.check_schema(data.schema, labels=False)
    if not data.num_events:
      return None
    loader = data.loader(min(BATCH, data.num_events), shuffle=False, epochs=1, lanes=1)
    return make_sample(data.schema, (batch for groups in loader.iterate() for batch in groups))
  except (DataError, ValueError) as error:
    raise UserError(str(error)) from None


def _check_columns(manifest: Manifest, predictor: Predictor, directory: str) -> None:
  """Says which features are missing when the data set lacks the input set as a whole."""
  wanted = predictor.schema
  missing = [name for name in wanted.stored if name not in manifest.layout.particle]
  if wanted.name not in manifest.schemas and missing:
    raise DataError(
      f"{directory} has the input sets {list(manifest.schemas)}; the checkpoint "
      f"{predictor.trained.checkpoint.folder} was trained with '{wanted.name}', which also needs "
      f"{', '.join(missing)}"
    )


def make_sample(schema: Schema, batches: Iterable[Batch]) -> Sample:
  """Batches of any lengths, in their order; rows of weight 0 are left out.

  Raises: ValueError for a negative weight.
  """
  kept: list[Batch] = []
  for batch in batches:
    weight = np.asarray(batch.weight)
    if (weight < 0).any():
      raise ValueError(
        f"event weights must not be negative, got {weight.min()}; evaluate with absolute weights"
      )
    if (weight > 0).any():
      kept.append(jax.tree.map(lambda x, rows=weight > 0: np.asarray(x)[rows], batch))
  return Sample(schema, tuple(kept), _jets(schema, kept))


def _jets(schema: Schema, batches: Sequence[Batch]) -> Jets:
  length = max((batch.length for batch in batches), default=1)

  def padded(values: Array) -> np.ndarray:
    x = np.asarray(values)
    return np.pad(x, ((0, 0), (0, length - x.shape[1]), *[(0, 0)] * (x.ndim - 2)))

  mask = np.concatenate([padded(b.mask) for b in batches])
  p4 = np.concatenate([padded(np.where(b.mask[..., None], b.p4, 0)) for b in batches])
  stored = np.concatenate([b.targets for b in batches]).astype(np.float64)
  targets = {}
  for target in schema.targets:
    if target.derived:
      exact = {"mass": jet_mass, "seed_mass": jet_seed_mass}
      targets[target.name] = exact[target.name](p4, mask)
      continue
    column = stored[:, schema.stored_targets.index(target.name)]
    targets[target.name] = np.where(target.known(column), column, np.nan)
  spectators = np.concatenate([b.spectators for b in batches])
  return Jets(
    p4,
    mask,
    np.concatenate([b.label for b in batches]),
    np.concatenate([b.weight for b in batches]).astype(np.float64),
    targets,
    {name: spectators[:, i] for i, name in enumerate(schema.spectators)},
  )
