"""The order of events within an epoch, and the few decoded windows that reading needs at a time.

The blocks of a length class are permuted; a lane walks its contiguous range of the permuted
sequence; the range is cut into windows of `window` blocks; events are shuffled within a window.
Every permutation is drawn from Philox keyed by (seed, epoch, class, lane, window).
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jetfm.data.events import Events, Layout, concatenate
from jetfm.data.records import Column, ShardReader, decode

_STALE_STEPS = 32  # a window not used for so many steps is behind every reader


@dataclasses.dataclass(frozen=True)
class Block:
  """One record of a shard, and how many of its events are wanted."""

  file: str
  record: int
  events: int


class WindowKey(NamedTuple):
  """Names a window: the number `window` of a lane's range of a length class in an epoch."""

  epoch: int
  length_class: int
  lane: int
  window: int


def permutation(size: int, *key: int) -> np.ndarray:
  """A random order of 0 .. size-1 that depends on nothing but the key, not on NumPy's version."""
  bits = np.random.Philox(np.random.SeedSequence(key)).random_raw(size)
  return np.argsort(bits, kind="stable")


class Stream:
  """Decodes windows.

  `labels` keeps only the events of these classes and renumbers them; seed None keeps file order.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    columns: Sequence[Column],
    layout: Layout,
    blocks: Sequence[Sequence[Block]],
    labels: tuple[int, ...] | None,
    seed: int | None,
    window: int,
  ):
    self._reader = ShardReader(directory)
    self._columns, self._layout, self._blocks = tuple(columns), layout, blocks
    self._labels, self._seed, self.window = labels, seed, window

  @property
  def layout(self) -> Layout:
    return self._layout

  def order(self, epoch: int, length_class: int) -> tuple[np.ndarray, np.ndarray]:
    """(blocks,) permuted block numbers of an epoch, and (blocks,) where each one ends."""
    blocks = self._blocks[length_class]
    order = np.arange(len(blocks))
    if self._seed is not None:
      order = permutation(len(blocks), self._seed, epoch, length_class)
    sizes = np.fromiter((b.events for b in blocks), np.int64, len(blocks))
    return order, np.cumsum(sizes[order])

  def read(self, key: WindowKey, order: np.ndarray, head: int, tail: int) -> Events:
    """The blocks `order` without `head` events at their start and `tail` at their end, shuffled."""
    blocks = [self._blocks[key.length_class][i] for i in order]
    data: list[bytes] = [b""] * len(blocks)
    for file in dict.fromkeys(b.file for b in blocks):
      where = [i for i, b in enumerate(blocks) if b.file == file]
      for i, record in zip(
        where, self._reader.read(file, [blocks[i].record for i in where]), strict=True
      ):
        data[i] = record
    events = concatenate([self._wanted(b, d) for b, d in zip(blocks, data, strict=True)])
    keep = np.arange(head, len(events) - tail)
    if self._seed is not None:
      keep = keep[permutation(len(keep), self._seed, *key)]
    return events.select(keep)

  def _wanted(self, block: Block, data: bytes) -> Events:
    events = decode(data, self._layout, self._columns)
    if self._labels is not None:
      renumber = np.full(max(int(events.label.max()), *self._labels) + 1, -1, np.int32)
      renumber[list(self._labels)] = np.arange(len(self._labels))
      label = renumber[events.label]
      events = dataclasses.replace(events, label=label).select(np.flatnonzero(label >= 0))
    return events if len(events) == block.events else events.slice(0, block.events)


class WindowCache:
  """Ranges of an epoch's sequences, from at most `capacity` decoded windows.

  Consecutive steps read consecutive events, so a window is decoded once: memory is about one
  window for each lane and length class. Threads may share it; a copy in another process is empty.
  """

  def __init__(self, stream: Stream, capacity: int):
    self._stream, self._capacity = stream, capacity
    self._reset()

  def _reset(self) -> None:
    self._windows: OrderedDict[WindowKey, tuple[Events, int]] = OrderedDict()
    self._lock = threading.Lock()
    self._order = functools.lru_cache(maxsize=32)(self._stream.order)

  def __getstate__(self):
    return {"_stream": self._stream, "_capacity": self._capacity}

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._reset()

  @property
  def empty(self) -> Events:
    """No events, of the right widths."""
    layout = self._stream.layout
    return Events(
      np.zeros(0, np.int32),
      np.zeros((0, 4), np.float32),
      np.zeros((0, len(layout.particle)), np.float32),
      np.zeros((0, len(layout.event)), np.float32),
      np.zeros(0, np.int32),
      np.zeros(0, np.int32),
    )

  def events(
    self,
    epoch: int,
    length_class: int,
    lane: int,
    lane_range: tuple[int, int],
    start: int,
    stop: int,
    step: int,
  ) -> Iterator[Events]:
    """Events start .. stop of a lane's range of a class's sequence, one piece per window."""
    if start == stop:
      return
    order, ends = self._order(epoch, length_class)
    begin, end = lane_range
    size = self._stream.window
    first_block = int(np.searchsorted(ends, begin, side="right"))
    last_block = int(np.searchsorted(ends, end - 1, side="right")) + 1
    while start < stop:
      window = (int(np.searchsorted(ends, start, side="right")) - first_block) // size
      a = first_block + window * size
      b = min(a + size, last_block)
      low, high = (int(ends[a - 1]) if a else 0), int(ends[b - 1])
      head, tail = max(begin - low, 0), max(high - end, 0)
      key = WindowKey(epoch, length_class, lane, window)
      decoded = self._get(key, step, order[a:b], head, tail)
      low, high = low + head, high - tail
      yield decoded.slice(start - low, min(stop, high) - low)
      start = min(stop, high)

  def _get(self, key: WindowKey, step: int, order: np.ndarray, head: int, tail: int) -> Events:
    with self._lock:
      if key not in self._windows:
        for old in [k for k, (_, used) in self._windows.items() if used < step - _STALE_STEPS]:
          del self._windows[old]
        while len(self._windows) >= self._capacity:
          self._windows.popitem(last=False)
        self._windows[key] = (self._stream.read(key, order, head, tail), step)
      events, _ = self._windows[key]
      self._windows[key] = (events, step)
      self._windows.move_to_end(key)
      return events
