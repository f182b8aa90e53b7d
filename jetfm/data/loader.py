"""Padded batches of one split, step by step, and Grain's reading ahead around it."""

from __future__ import annotations

import atexit
import signal
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jetfm.data.batch import make_batch
from jetfm.data.events import Events, Layout, flags_in
from jetfm.data.schedule import Schedule
from jetfm.data.windows import Stream, WindowCache
from jetfm.data.workers import end_with_parent
from jetfm.typing import Batch

if TYPE_CHECKING:
  from jetfm.data.pipeline import JetDataset


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
    manifest, schema = dataset.manifest, dataset.schema
    flags = flags_in(manifest.layout.particle, schema.groups)
    self._flagged = bool(flags)
    self._cache = WindowCache(
      Stream(
        dataset.directory,
        manifest.columns,
        Layout((*schema.stored, *flags), (*schema.stored_targets, *schema.spectators)),
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
    pieces: list[list[Events | int]] = [[] for _ in schedule.lengths]
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
      make_batch(rows, length, num_targets, num_groups, self._cache.empty, self._flagged)
      for rows, length in zip(pieces, schedule.lengths, strict=True)
    )

  def iterate(self, start_step: int = 0, workers: int = 0, threads: int = 1) -> Batches:
    """Batches from `start_step` on, read ahead by threads, or by worker processes.

    The order depends on neither. Each worker decodes every window for itself, so more of them
    help where padding and copying are the bottleneck, not where the disk is.
    """
    return Batches(self.grain_dataset(start_step, workers, threads), shared_memory=workers > 0)

  def grain_dataset(self, start_step: int = 0, workers: int = 0, threads: int = 1) -> Any:
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
        grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_start_reader
      )
    return dataset


class Batches(Iterator[tuple[Batch, ...]]):
  """Batches that are read ahead. `close` ends the reading, else the end of the program does.

  Args:
    shared_memory: Grain's workers deliver arrays in shared memory, which is freed when the array
      dies. JAX may keep an array until the interpreter ends, and then nobody frees it: each batch
      is copied.
  """

  def __init__(self, dataset: Iterable[tuple[Batch, ...]], shared_memory: bool = False):
    self._copy = shared_memory
    self._running = [iter(dataset)]
    # The end of the program comes before modules are taken apart, which Grain's clean-up needs.
    self._close = weakref.finalize(self, _close, self._running)
    # Surely before multiprocessing's own end, which would wait for readers that do not hear it.
    atexit.register(self._close)

  def __next__(self) -> tuple[Batch, ...]:
    if not self._running:
      raise StopIteration
    groups = next(self._running[0])
    return jax.tree.map(np.array, groups) if self._copy else groups

  def close(self) -> None:
    self._close()
    atexit.unregister(self._close)


def _close(running: list[Any]) -> None:
  running.pop().close()


def _start_reader(index: int, count: int) -> None:
  del index, count
  end_with_parent()
  # Slurm, systemd and shells send it to all processes of a job, and the one that trains needs its
  # readers until it has saved. It ends them, and they do not outlive it.
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
