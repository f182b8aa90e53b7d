"""Temporary files between the two passes of ingest: an external shuffle in bounded memory.

Pass 1 gives every event a place: a key = (split, length class, bucket), where the bucket is the top
bits of a 64-bit hash of the event. Each process appends runs to a spool of its own: the events of a
chunk, ordered by key. Each job keeps an index of where each key starts in each of its runs. Once it
is known where shards begin, `cut_runs` looks up where they do in each run, and pass 2 reads a
shard's part of every run and sorts by the hash. The result is the events of a split and length
class sorted by their hash: a random order that depends on nothing but the seed and the events.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jetfm.data.events import Events, Layout

_EVENTS, _PARTICLES = ".events", ".particles"
_TOGETHER = 256  # runs whose cuts are stored side by side
_END = np.iinfo(np.int64).max  # beyond every key
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def mix64(x: np.ndarray, seed: int) -> np.ndarray:
  """(n,) integers -> (n,) uniform uint64: output x of SplitMix64 (Steele, Lea, Flood 2014)."""
  with np.errstate(over="ignore"):
    z = x.astype(np.uint64) * _MIX[0] + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * _MIX[1]
    z = (z ^ (z >> np.uint64(27))) * _MIX[2]
  return z ^ (z >> np.uint64(31))


def seed64(*parts: str | int) -> int:
  """A 64-bit seed from names and numbers, the same on every machine."""
  text = "\0".join(map(str, parts)).encode()
  return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def event_dtype(layout: Layout) -> np.dtype:
  """A row of a spool's event file."""
  return np.dtype(
    [
      ("order", "<u8"),
      ("counts", "<i4"),
      ("label", "<i4"),
      ("event_id", "<i4"),
      ("values", "<f4", (len(layout.event),)),
    ]
  )


def particle_width(layout: Layout) -> int:
  """float32 numbers in a row of a spool's particle file."""
  return 4 + len(layout.particle)


@dataclasses.dataclass(frozen=True)
class Spool:
  """The runs of one job.

  Attributes:
    stem: of the two files of the process that wrote them, where other jobs' runs are too.
    index: file with an array (keys + 1, 3) for each run: a key, and the events and particles in
      the two files before it; at last those before the end.
    runs: how many they are.
  """

  stem: pathlib.Path
  index: pathlib.Path
  runs: int

  def read_index(self) -> Iterator[np.ndarray]:
    """The array of each run."""
    with self.index.open("rb") as file:
      for _ in range(self.runs):
        yield np.load(file)


class SpoolWriter:
  """Appends the runs of a job to the files of this process, which are beside its `index`."""

  def __init__(self, index: pathlib.Path, layout: Layout):
    self._layout = layout
    self.spool = Spool(index.with_name(f"spool-{os.getpid()}"), index, 0)
    self._index = index.open("wb")
    self._events = self.spool.stem.with_suffix(_EVENTS).open("ab")
    self._particles = self.spool.stem.with_suffix(_PARTICLES).open("ab")
    sizes = event_dtype(layout).itemsize, 4 * particle_width(layout)
    self._done = np.array([self._events.tell(), self._particles.tell()]) // sizes

  def write(self, events: Events, order: np.ndarray, key: np.ndarray) -> None:
    """A run: events with their (n,) hash and (n,) key."""
    by_key = np.argsort(key, kind="stable")
    events, key = events.select(by_key), key[by_key]
    rows = np.empty(len(events), event_dtype(self._layout))
    rows["order"], rows["counts"] = order[by_key], events.counts
    rows["label"], rows["event_id"], rows["values"] = events.label, events.event_id, events.values
    self._events.write(rows.tobytes())
    self._particles.write(np.concatenate([events.p4, events.features], axis=1).tobytes())
    first = np.flatnonzero(np.diff(key, prepend=-1))
    before = np.append(first, len(key))
    particles = np.concatenate([[0], np.cumsum(events.counts, dtype=np.int64)])
    places = np.stack([before, particles[before]], axis=1) + self._done
    np.save(self._index, np.column_stack([np.append(key[first], _END), places]))
    self._done += (len(events), len(events.p4))
    self.spool = dataclasses.replace(self.spool, runs=self.spool.runs + 1)

  def close(self) -> Spool:
    """Finishes the files."""
    for file in (self._events, self._particles, self._index):
      file.close()
    return self.spool


def key_sizes(spools: Iterable[Spool], keys: int) -> np.ndarray:
  """(keys, 2) events and particles of each key."""
  total = np.zeros((keys, 2), np.int64)
  for run in itertools.chain.from_iterable(spool.read_index() for spool in spools):
    total[run[:-1, 0]] += np.diff(run[:, 1:], axis=0)
  return total


@dataclasses.dataclass(frozen=True)
class Runs:
  """All runs, cut where shards begin.

  Attributes:
    stems: of the processes' files, and how many runs each has.
    cuts: file of events and particles before each shard, and before the end: int64 arrays
      (shards + 1, _TOGETHER, 2), as many as it takes, so that a shard's are close together.
    shards: how many they are.
  """

  stems: tuple[tuple[pathlib.Path, int], ...]
  cuts: pathlib.Path
  shards: int

  def around(self, shard: int) -> np.ndarray:
    """(2, runs, 2) events and particles before a shard, and before what follows it."""
    total, parts = sum(count for _, count in self.stems), []
    with self.cuts.open("rb") as file:
      for first in range(0, total, _TOGETHER):
        runs = min(_TOGETHER, total - first)
        file.seek(2 * 8 * ((self.shards + 1) * first + shard * runs))
        parts.append(np.fromfile(file, np.int64, 4 * runs).reshape(2, runs, 2))
    return np.concatenate(parts, axis=1)


def cut_runs(spools: Iterable[Spool], bounds: Sequence[int], cuts: pathlib.Path) -> Runs:
  """Looks up the first key of each shard, and the key after the last one, in every run.

  Memory: that of one index and some cuts, however many there are.
  """
  stems: dict[pathlib.Path, int] = {}
  spools = sorted(spools, key=lambda s: s.stem)
  for spool in spools:
    stems[spool.stem] = stems.get(spool.stem, 0) + spool.runs
  runs = itertools.chain.from_iterable(spool.read_index() for spool in spools)
  found = (run[np.searchsorted(run[:, 0], bounds), 1:] for run in runs)
  with cuts.open("wb") as file:
    while some := list(itertools.islice(found, _TOGETHER)):
      file.write(np.stack(some, axis=1).tobytes())
  return Runs(tuple(stems.items()), cuts, len(bounds) - 1)


def read_shard(runs: Runs, layout: Layout, shard: int) -> Events:
  """Events of a shard, sorted by their hash.

  Memory: twice what those events take.
  """
  begin, end = runs.around(shard)
  sizes = end - begin
  row = np.empty(sizes[:, 0].sum(), event_dtype(layout))
  particle = np.empty((sizes[:, 1].sum(), particle_width(layout)), np.float32)
  _gather(runs, _EVENTS, begin[:, 0], sizes[:, 0], row)
  _gather(runs, _PARTICLES, begin[:, 1], sizes[:, 1], particle)
  events = Events(
    row["counts"],
    np.ascontiguousarray(particle[:, :4]),
    np.ascontiguousarray(particle[:, 4:]),
    row["values"],
    row["label"],
    row["event_id"],
  )
  del particle
  return events.select(np.lexsort((row["event_id"], row["order"])))


def _gather(
  runs: Runs, suffix: str, begin: np.ndarray, sizes: np.ndarray, array: np.ndarray
) -> None:
  """Fills an array with `sizes` rows from `begin` on of each run, one after another."""
  row, view, at = array.strides[0], array.reshape(-1).view(np.uint8).data, 0
  places = zip((begin * row).tolist(), (sizes * row).tolist(), strict=True)
  for stem, count in runs.stems:
    with stem.with_suffix(suffix).open("rb") as file:
      for place, size in itertools.islice(places, count):
        if size:
          file.seek(place)
          if file.readinto(view[at : at + size]) != size:
            raise OSError(f"{file.name} is cut short")
          at += size
