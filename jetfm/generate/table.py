"""Events as columns: some with one value per event, some with one per particle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Table:
  """Events, or jets, as columns; all tables of one file have the same names and types.

  Attributes:
    events: branch name -> (n,).
    offsets: (n + 1,) where each event's particles start.
    particles: branch name -> (offsets[-1],).
  """

  events: dict[str, np.ndarray]
  offsets: np.ndarray
  particles: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.offsets) - 1

  def head(self, count: int) -> Table:
    """The first `count` events."""
    offsets = self.offsets[: count + 1]
    return Table(
      {name: values[:count] for name, values in self.events.items()},
      offsets,
      {name: values[: offsets[-1]] for name, values in self.particles.items()},
    )

  def select(self, good: np.ndarray) -> Table:
    """The events with (n,) bool `good`."""
    counts = np.diff(self.offsets)
    members = np.repeat(good, counts)
    return Table(
      {name: values[good] for name, values in self.events.items()},
      np.concatenate([[0], np.cumsum(counts[good])]),
      {name: values[members] for name, values in self.particles.items()},
    )


def empty_table(events: Mapping[str, str], particles: Mapping[str, str]) -> Table:
  """A table without events; names and types of its columns."""
  return Table(
    {name: np.zeros(0, kind) for name, kind in events.items()},
    np.zeros(1, np.int64),
    {name: np.zeros(0, kind) for name, kind in particles.items()},
  )


def concatenate(tables: Sequence[Table]) -> Table:
  """At least one table, one after the other."""
  counts = np.concatenate([np.diff(table.offsets) for table in tables])
  first = tables[0]
  return Table(
    {name: np.concatenate([table.events[name] for table in tables]) for name in first.events},
    np.concatenate([[0], np.cumsum(counts)]),
    {name: np.concatenate([table.particles[name] for table in tables]) for name in first.particles},
  )
