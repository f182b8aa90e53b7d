"""Temporary files between the two passes of ingest: an external shuffle in bounded memory.

Pass 1 gives every event a place: a key = (split, length class, bucket), where the bucket is the top
bits of a 64-bit hash of the event. A spool holds the events of one stretch of one source file, each
chunk ordered by key, with an index of where each key starts in each chunk. Pass 2 reads a range of
keys out of all spools and sorts by the hash. The result is the events of a split and length class
sorted by their hash: a random order that depends on nothing but the seed and the events.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from jetfm.data.events import Events, Layout

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
  """The three files of one spool."""

  stem: pathlib.Path

  @property
  def events(self) -> pathlib.Path:
    return self.stem.with_suffix(".events")

  @property
  def particles(self) -> pathlib.Path:
    return self.stem.with_suffix(".particles")

  @property
  def index(self) -> pathlib.Path:
    return self.stem.with_suffix(".npy")


class SpoolWriter:
  """Appends chunks to a spool; `keys` is the number of different keys."""

  def __init__(self, spool: Spool, layout: Layout, keys: int):
    self._spool, self._layout, self._keys = spool, layout, keys
    self._events = spool.events.open("wb")
    self._particles = spool.particles.open("wb")
    self._done = np.zeros(2, np.int64)
    self._index: list[np.ndarray] = []

  def write(self, events: Events, order: np.ndarray, key: np.ndarray) -> None:
    """Events with their (n,) hash and (n,) key."""
    by_key = np.argsort(key, kind="stable")
    events, key = events.select(by_key), key[by_key]
    rows = np.empty(len(events), event_dtype(self._layout))
    rows["order"], rows["counts"] = order[by_key], events.counts
    rows["label"], rows["event_id"], rows["values"] = events.label, events.event_id, events.values
    self._events.write(rows.tobytes())
    self._particles.write(np.concatenate([events.p4, events.features], axis=1).tobytes())
    first = np.searchsorted(key, np.arange(self._keys + 1))
    ends = np.concatenate([[0], np.cumsum(events.counts, dtype=np.int64)])
    self._index.append(np.stack([first, ends[first]], axis=1) + self._done)
    self._done += (len(events), len(events.p4))

  def close(self) -> np.ndarray:
    """Finishes the files; returns (keys, 2) events and particles of each key."""
    self._events.close()
    self._particles.close()
    shape = (len(self._index), self._keys + 1, 2)
    index = np.stack(self._index) if self._index else np.zeros(shape, np.int64)
    np.save(self._spool.index, index)
    return np.diff(index, axis=1).sum(axis=0)


def read_spools(spools: Sequence[Spool], layout: Layout, first: int, last: int) -> Events:
  """Events whose key is in first .. last, sorted by their hash.

  Memory: twice what those events take.
  """
  dtype, width = event_dtype(layout), particle_width(layout)
  rows: list[np.ndarray] = [np.zeros(0, dtype)]
  particles: list[np.ndarray] = [np.zeros((0, width), np.float32)]
  for spool in spools:
    index = np.load(spool.index, mmap_mode="r")
    for begin, end in zip(index[:, first].tolist(), index[:, last].tolist(), strict=True):
      if end[0] == begin[0]:
        continue
      with spool.events.open("rb") as file:
        file.seek(begin[0] * dtype.itemsize)
        rows.append(np.fromfile(file, dtype, end[0] - begin[0]))
      with spool.particles.open("rb") as file:
        file.seek(begin[1] * width * 4)
        flat = np.fromfile(file, np.float32, (end[1] - begin[1]) * width)
        particles.append(flat.reshape(-1, width))
  row, particle = np.concatenate(rows), np.concatenate(particles)
  particles.clear()
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
