"""Ragged events: the particles of all events one after another, and how many each event has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
  """Names of the stored columns.

  Attributes:
    particle: columns of `Events.features`, in the order of the largest input set.
    event: columns of `Events.values`: stored targets, then spectators.
  """

  particle: tuple[str, ...] = ()
  event: tuple[str, ...] = ()


def flag_of(group: str) -> str:
  """Particle column, 1 or 0, that tells whether a detector group measured a particle.

  Data without these columns have all measurements of every particle.
  """
  return f"has_{group}"


def flags_in(names: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
  """The flags of the groups when they are among the particle columns `names`, else ()."""
  flags = tuple(map(flag_of, groups))
  return flags if set(flags) <= set(names) else ()


@dataclasses.dataclass
class Events:
  """n events with P particles in all; F and E are the columns of a `Layout`."""

  counts: np.ndarray
  """(n,) int32 particles of each event."""
  p4: np.ndarray
  """(P, 4) float32 four-momenta (E, px, py, pz) in GeV."""
  features: np.ndarray
  """(P, F) float32 stored particle features in physical units."""
  values: np.ndarray
  """(n, E) float32 stored targets and spectators."""
  label: np.ndarray
  """(n,) int32 class number."""
  event_id: np.ndarray
  """(n,) int32 number of the event in its data set."""

  def __len__(self) -> int:
    return len(self.counts)

  @property
  def starts(self) -> np.ndarray:
    """(n,) index of each event's first particle."""
    return np.cumsum(self.counts, dtype=np.int64) - self.counts

  def select(self, events: np.ndarray) -> Events:
    """The events with these indices, in this order."""
    counts = self.counts[events]
    rows = ragged_index(self.starts[events], counts)
    return Events(
      counts,
      take_rows(self.p4, rows),
      take_rows(self.features, rows),
      self.values[events],
      self.label[events],
      self.event_id[events],
    )

  def slice(self, start: int, stop: int) -> Events:
    """Events start .. stop as views."""
    first = int(self.counts[:start].sum())
    last = first + int(self.counts[start:stop].sum())
    return Events(
      self.counts[start:stop],
      self.p4[first:last],
      self.features[first:last],
      self.values[start:stop],
      self.label[start:stop],
      self.event_id[start:stop],
    )


def concatenate(parts: Sequence[Events]) -> Events:
  """One `Events` out of at least one; a single part is returned as it is."""
  if len(parts) == 1:
    return parts[0]
  return Events(
    *(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Events))
  )


def ragged_index(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Indices starts[i], starts[i] + 1, ... starts[i] + counts[i] - 1 for every i in turn."""
  ends = np.cumsum(counts, dtype=np.int64)
  total = int(ends[-1]) if len(ends) else 0
  return np.arange(total) + np.repeat(starts - (ends - counts), counts)


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
  """array[rows] for a float32 matrix; rows of 8 or 16 bytes move as one item: faster."""
  wide = {2: np.complex64, 4: np.complex128}.get(array.shape[1])
  if wide is None or not array.flags.c_contiguous:
    return array[rows]
  return array.view(wide)[rows, 0].view(np.float32).reshape(len(rows), array.shape[1])


def put_rows(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
  """array[rows] = values for a contiguous float32 matrix, with the trick of `take_rows`."""
  wide = {2: np.complex64, 4: np.complex128}.get(array.shape[1])
  if wide is None or not values.flags.c_contiguous:
    array[rows] = values
  else:
    array.view(wide)[rows, 0] = values.view(wide)[:, 0]


def leading(events: Events, limit: int) -> tuple[Events, np.ndarray]:
  """Particles by decreasing pT, at most `limit` of them per event.

  Returns: the events, and (n,) how many particles each one lost.
  """
  pt2 = events.p4[:, 1] ** 2 + events.p4[:, 2] ** 2
  starts, counts = events.starts, events.counts
  first = np.zeros(len(pt2), bool)
  first[starts[counts > 0]] = True
  if np.any((np.diff(pt2, prepend=np.inf) > 0) & ~first):
    rows = np.lexsort((-pt2, np.repeat(np.arange(len(events)), counts)))  # stable
  else:
    rows = None
  lost = np.maximum(counts - limit, 0)
  if lost.any():
    keep = ragged_index(starts, counts - lost)
    rows = keep if rows is None else rows[keep]
  if rows is None:
    return events, lost
  kept = dataclasses.replace(
    events,
    counts=(counts - lost).astype(np.int32),
    p4=take_rows(events.p4, rows),
    features=take_rows(events.features, rows),
  )
  return kept, lost
