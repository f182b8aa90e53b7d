"""From a data set's directory to padded batches: a pure function of (seed, step).

    dataset = open_dataset("datasets/jets", inputs="kin4")
    loader = dataset.loader(batch_size=512, lengths=(32, 48, 64, 96, 128), seed=0)
    for groups in loader.iterate(start_step=1000, workers=2):   # a tuple of numpy Batches
      ...

`loader[step]` gives any step directly; `iterate` only runs ahead of the reader. A restart needs
no more state than the number of the next step.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.loader import Loader
from jetfm.data.manifest import Manifest
from jetfm.data.schedule import make_schedule
from jetfm.data.windows import Block
from jetfm.names import nearest
from jetfm.schema import Schema


def open_dataset(
  directory: str | os.PathLike[str],
  inputs: str = "kin",
  split: str = "train",
  classes: Sequence[str] | None = None,
  max_events: int | None = None,
  subset: int = 0,
) -> JetDataset:
  """Opens one split of a data set for reading.

  Args:
    directory: where `launch.ingest` wrote it.
    inputs: input set; only its columns are decoded.
    split: 'train', 'valid' or 'test'.
    classes: keep events of these classes only; labels then index into this list.
    max_events: keep at most so many events, a random subset with the same mix of lengths.
    subset: which one; successive numbers share hardly an event while there are others.

  Raises: DataError for a directory, input set, split or class that does not exist.
  """
  manifest = Manifest.load(directory)
  schema = manifest.schema(inputs)
  chosen = tuple(manifest.classes if classes is None else classes)
  for name in chosen:
    if name not in manifest.classes:
      near = nearest(name, manifest.classes)
      raise DataError(f"no class '{name}'; the nearest is '{near}' of {list(manifest.classes)}")
  if len(set(chosen)) != len(chosen) or not chosen:
    raise DataError(f"classes must be different names, at least one: got {list(chosen)}")
  labels = [manifest.classes.index(name) for name in chosen]
  blocks = _blocks(manifest, split, labels, max_events, subset)
  return JetDataset(
    pathlib.Path(directory),
    manifest,
    dataclasses.replace(schema, classes=chosen),
    split,
    blocks,
    None if list(chosen) == list(manifest.classes) else tuple(labels),
  )


def _blocks(
  manifest: Manifest, split: str, labels: list[int], max_events: int | None, subset: int
) -> tuple[tuple[Block, ...], ...]:
  """Blocks of each length class with the number of events to take from each."""
  per_class: list[list[Block]] = [[] for _ in manifest.edges]
  for shard in manifest.split(split).shards:
    for record, counts in enumerate(shard.blocks):
      events = sum(counts[i] for i in labels)
      if events:
        per_class[manifest.edges.index(shard.length)].append(Block(shard.file, record, events))
  if max_events is None:
    return tuple(map(tuple, per_class))
  if max_events <= 0:
    raise DataError(f"max_events must be positive, got {max_events}")
  totals = [sum(b.events for b in blocks) for blocks in per_class]
  # One of equal parts of the split: lengths in proportion, and blocks are random samples.
  cumulative = np.cumsum(totals)
  keep = np.diff(cumulative * min(max_events, cumulative[-1]) // max(cumulative[-1], 1), prepend=0)
  kept: list[tuple[Block, ...]] = []
  for blocks, events in zip(per_class, keep.tolist(), strict=True):
    first = subset * len(_leading(blocks, events)) % max(len(blocks), 1)
    kept.append(_leading([*blocks[first:], *blocks[:first]], events))
  return tuple(kept)


def _leading(blocks: Sequence[Block], events: int) -> tuple[Block, ...]:
  """So many events of the first blocks, of the last of them perhaps a part."""
  taken: list[Block] = []
  for block in blocks:
    if not events:
      break
    taken.append(dataclasses.replace(block, events=min(block.events, events)))
    events -= taken[-1].events
  return tuple(taken)


@dataclasses.dataclass(frozen=True)
class JetDataset:
  """One split of a data set, seen through one input set.

  Attributes:
    schema: features, classes, targets and spectators of its batches.
    blocks: for each length class of `manifest.edges`, the blocks and how many events of each.
  """

  directory: pathlib.Path
  manifest: Manifest
  schema: Schema
  split: str
  blocks: tuple[tuple[Block, ...], ...]
  labels: tuple[int, ...] | None = None

  @property
  def length_counts(self) -> list[int]:
    """Events of each length class."""
    return [sum(b.events for b in blocks) for blocks in self.blocks]

  @property
  def num_events(self) -> int:
    return sum(self.length_counts)

  def loader(
    self,
    batch_size: int,
    lengths: Sequence[int] | None = None,
    seed: int = 0,
    shuffle: bool = True,
    epochs: int | None = None,
    lanes: int = 4,
    process_index: int = 0,
    process_count: int = 1,
    multiple_of: int = 1,
    window: int = 16,
  ) -> Loader:
    """Batches of this split; see `Loader`.

    Args:
      batch_size: most events of a global batch; `Loader.batch_size` is what it came to.
      lengths: padded lengths of the groups, a subset of the stored edges; default all of them.
      seed: of the order.
      shuffle: False keeps the order of the files, for evaluation.
      epochs: passes over the data; None never ends.
      lanes: streams that each batch joins. The order depends on it; a process reads only its own
        lanes, so it must be a multiple of the number of processes.
      process_index, process_count: which share of every global batch to deliver.
      multiple_of: group sizes of the global batch are multiples of this, the number of devices.
      window: blocks that are shuffled together, and kept decoded.

    Raises: DataError for sizes that do not fit each other.
    """
    schedule = make_schedule(
      self.length_counts, self.manifest.edges, batch_size, lengths, lanes, multiple_of
    )
    if process_count < 1 or lanes % process_count or not 0 <= process_index < process_count:
      raise DataError(
        f"process {process_index} of {process_count} cannot share {lanes} lanes: the number of "
        "lanes must be a multiple of the number of processes"
      )
    per_process = lanes // process_count
    own = range(process_index * per_process, (process_index + 1) * per_process)
    return Loader(self, schedule, own, seed, shuffle, epochs, window)
