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
import multiprocessing
import os
import pathlib
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from jetfm.data.batch import make_batch
from jetfm.data.errors import DataError, nearest
from jetfm.data.manifest import Manifest
from jetfm.data.schedule import Schedule, make_schedule
from jetfm.data.windows import Block, Stream, WindowCache
from jetfm.schema import Schema
from jetfm.typing import Batch


def open_dataset(
  directory: str | os.PathLike[str],
  inputs: str = "kin",
  split: str = "train",
  classes: Sequence[str] | None = None,
  max_events: int | None = None,
) -> JetDataset:
  """Opens one split of a data set for reading.

  Args:
    directory: where `launch.ingest` wrote it.
    inputs: input set; only its columns are decoded.
    split: 'train', 'valid' or 'test'.
    classes: keep events of these classes only; labels then index into this list.
    max_events: keep at most so many events, a fixed random subset with the same mix of lengths.

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
  blocks = _blocks(manifest, split, labels, max_events)
  return JetDataset(
    pathlib.Path(directory),
    manifest,
    dataclasses.replace(schema, classes=chosen),
    split,
    blocks,
    None if list(chosen) == list(manifest.classes) else tuple(labels),
  )


def _blocks(
  manifest: Manifest, split: str, labels: list[int], max_events: int | None
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
  # The first of equal parts of the split: lengths in proportion, and blocks are random samples.
  cumulative = np.cumsum(totals)
  keep = np.diff(cumulative * min(max_events, cumulative[-1]) // max(cumulative[-1], 1), prepend=0)
  kept: list[tuple[Block, ...]] = []
  for blocks, left in zip(per_class, keep.tolist(), strict=True):
    taken = []
    for block in blocks:
      taken.append(dataclasses.replace(block, events=min(block.events, left)))
      left -= taken[-1].events
      if left == 0:
        break
    kept.append(tuple(b for b in taken if b.events))
  return tuple(kept)


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


class Loader:
  """Random access to the steps of a run over a data set: `loader[step]` is a tuple of Batches.

  One Batch of numpy arrays per length group, short to long, of fixed shapes. Rows of the global
  batch are ordered by lane, so processes hold contiguous parts of it. Every event comes exactly
  once per epoch; slots that are left over have weight 0, event_id -1 and label -1.
  """

  def __init__(
    self,
    dataset: JetDataset,
    schedule: Schedule,
    own_lanes: Sequence[int],
    seed: int,
    shuffle: bool,
    epochs: int | None,
    window: int,
  ):
    self.dataset, self.schedule = dataset, schedule
    self.own_lanes = tuple(own_lanes)
    self.epochs = epochs
    manifest = dataset.manifest
    self._cache = WindowCache(
      Stream(
        dataset.directory,
        manifest.columns,
        dataclasses.replace(manifest.layout, particle=dataset.schema.stored),
        dataset.blocks,
        dataset.labels,
        seed if shuffle else None,
        window,
      ),
      capacity=2 * len(self.own_lanes) * len(dataset.blocks),
    )

  @property
  def steps_per_epoch(self) -> int:
    return self.schedule.steps

  @property
  def batch_size(self) -> int:
    """Events of the global batch, filler included."""
    return self.schedule.batch_size

  @property
  def lengths(self) -> tuple[int, ...]:
    """Padded length of each group."""
    return self.schedule.lengths

  @property
  def group_sizes(self) -> tuple[int, ...]:
    """Events of each group of the global batch, filler included."""
    return self.schedule.group_sizes

  def __len__(self) -> int:
    # Half of the largest index: Grain adds to it.
    return sys.maxsize // 2 if self.epochs is None else self.epochs * self.schedule.steps

  def __getitem__(self, step: int) -> tuple[Batch, ...]:
    """The own share of a step's global batch."""
    step = int(step)
    if not 0 <= step < len(self):
      raise IndexError(f"step {step} of a run of {len(self)} steps")
    epoch, step_in_epoch = divmod(step, self.schedule.steps)
    schedule = self.schedule
    pieces: list[list] = [[] for _ in schedule.lengths]
    for lane in self.own_lanes:
      first, last = schedule.share(lane, step_in_epoch)
      lane_range = schedule.lane_range(lane)
      # Long classes first: the i-th longest event takes the i-th longest slot.
      group, free = len(schedule.slots) - 1, schedule.slots[-1]
      for c in reversed(range(len(first))):
        span = (int(lane_range[0][c]), int(lane_range[1][c]))
        for events in self._cache.events(epoch, c, lane, span, int(first[c]), int(last[c]), step):
          done = 0
          while done < len(events):
            while free == 0:
              group, free = group - 1, schedule.slots[group - 1]
            take = min(free, len(events) - done)
            pieces[group].append(events.slice(done, done + take))
            done, free = done + take, free - take
      while True:
        if free:
          pieces[group].append(free)  # so many filler slots
        if group == 0:
          break
        group, free = group - 1, schedule.slots[group - 1]
    num_targets = len(self.dataset.schema.stored_targets)
    num_groups = len(self.dataset.schema.groups)
    return tuple(
      make_batch(rows, length, num_targets, num_groups, self._cache.empty)
      for rows, length in zip(pieces, schedule.lengths, strict=True)
    )

  def iterate(self, start_step: int = 0, workers: int = 0, threads: int = 1) -> Iterator:
    """Batches from `start_step` on, read ahead by threads, or by worker processes.

    The order depends on neither. Each worker decodes every window for itself, so more of them
    help where padding and copying are the bottleneck, not where the disk is.
    """
    return iter(self.grain_dataset(start_step, workers, threads))

  def grain_dataset(self, start_step: int = 0, workers: int = 0, threads: int = 1):
    """The same as a `grain.IterDataset`, to add transformations to."""
    import grain
    from absl import flags

    if workers and not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags
    steps = grain.MapDataset.source(self)[start_step:]
    dataset = steps.to_iter_dataset(
      grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
    )
    if workers:
      dataset = dataset.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_end_with_parent
      )
    return dataset


def _end_with_parent(index: int, count: int) -> None:
  """Ends a worker whose parent was killed: it would wait forever, and keep its memory."""
  del index, count
  parent = multiprocessing.parent_process()

  def watch() -> None:
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
