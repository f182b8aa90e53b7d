"""Which events form which batch: pure index arithmetic, the same on every process.

An epoch has S steps and L lanes. Events have length classes; for class g let N_g be the number of
events of class g or longer. The epoch is cut into S L parts, part k = lane * S + step. With

    A_1(k) = floor(k N_1 / (S L)),      A_{g+1}(k) = floor(A_g(k) N_{g+1} / N_g),

part k has A_g(k+1) - A_g(k) events of class g or longer. Each A_g runs from 0 to N_g, so every
event is used exactly once; the nesting keeps every class's share of every part non-negative, which
independent floors would not; and each share follows its proportion with an error that does not
grow along the epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from jetfm.data.errors import DataError


def nested_cuts(counts: Sequence[int], parts: int, part: np.ndarray | int) -> np.ndarray:
  """Events of each length class or longer before a part: the A of this module.

  Shapes: counts (classes,), short to long; part (...) of 0 .. parts -> (classes, ...) int64.
  """
  suffix = list(itertools.accumulate(map(int, reversed(counts))))[::-1]
  cuts, whole = [part], parts
  for total in suffix:
    cuts.append(cuts[-1] * total // whole if whole else cuts[-1] * 0)
    whole = total
  return np.array(cuts[1:], np.int64)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Steps, groups and shares of an epoch.

  Attributes:
    steps: steps per epoch.
    lanes: independent streams of events that each step joins.
    lengths: padded length of each group, short to long; groups that would be empty are left out.
    slots: events of each group in one lane; a group of the global batch has lanes times as many.
    counts: events of each length class.
  """

  steps: int
  lanes: int
  lengths: tuple[int, ...]
  slots: tuple[int, ...]
  counts: tuple[int, ...]

  @property
  def group_sizes(self) -> tuple[int, ...]:
    """Events of each group of the global batch, filler included."""
    return tuple(n * self.lanes for n in self.slots)

  @property
  def batch_size(self) -> int:
    return sum(self.group_sizes)

  def lane_range(self, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """(classes,) first and last-plus-one event of a lane in each class's sequence."""
    return self._before(lane * self.steps), self._before((lane + 1) * self.steps)

  def share(self, lane: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """(classes,) first and last-plus-one event of each class for one lane of one step."""
    part = lane * self.steps + step
    return self._before(part), self._before(part + 1)

  def _before(self, part: int) -> np.ndarray:
    return _events_before(self.counts, self.lanes * self.steps, part)


@functools.lru_cache(maxsize=1024)  # steps begin where others end, and lanes stay
def _events_before(counts: tuple[int, ...], parts: int, part: int) -> np.ndarray:
  """(classes,) events before a part, read-only. Those of all parts would fill the memory."""
  cuts = nested_cuts(counts, parts, part)
  before = cuts - np.append(cuts[1:], 0)
  before.flags.writeable = False
  return before


def make_schedule(
  counts: Sequence[int],
  edges: Sequence[int],
  batch_size: int,
  lengths: Sequence[int] | None = None,
  lanes: int = 4,
  multiple_of: int = 1,
) -> Schedule:
  """Fixes the steps of an epoch and the mix of length groups.

  Args:
    counts: events of each length class, short to long.
    edges: longest event of each class.
    batch_size: most events of a global batch; the real one is the smallest that needs no more
      steps.
    lengths: padded lengths of the groups, each one of `edges`; by default all of them.
    lanes: see the module.
    multiple_of: the number of events of each group of the global batch is a multiple of this,
      the number of devices.

  Raises: DataError when there are no events, or sizes do not fit each other.
  """
  counts, edges = [int(n) for n in counts], [int(e) for e in edges]
  lengths = edges if lengths is None else sorted({int(n) for n in lengths})
  total = sum(counts)
  if total == 0:
    raise DataError("no events to make batches of: the split is empty for these classes")
  unknown = [n for n in lengths if n not in edges]
  if unknown or not lengths:
    raise DataError(f"group lengths {unknown or lengths} are not among the stored ones {edges}")
  longest = max(e for e, n in zip(edges, counts, strict=True) if n)
  if lengths[-1] < longest:
    raise DataError(
      f"the longest group has {lengths[-1]} particles but some events need {longest}: "
      f"add {longest} to the lengths {lengths}"
    )
  unit = multiple_of // math.gcd(multiple_of, lanes)
  if batch_size <= 0 or batch_size % (lanes * unit):
    raise DataError(
      f"batch_size {batch_size} is not a multiple of {lanes * unit} ({lanes} lanes, group sizes "
      f"a multiple of {multiple_of}): change batch_size, or lanes"
    )

  steps = -(-total // batch_size)
  largest = _largest_shares(counts, lanes * steps)
  largest = -(-largest // unit) * unit
  # Group j holds the classes above lengths[j-1] and up to lengths[j].
  first = [0] + [edges.index(n) + 1 for n in lengths[:-1]]
  needed = [int(largest[c]) if c < len(edges) else 0 for c in first] + [0]
  slots = [a - b for a, b in itertools.pairwise(needed)]
  groups = [(n, s) for n, s in zip(lengths, slots, strict=True) if s]
  return Schedule(
    steps,
    lanes,
    tuple(n for n, _ in groups),
    tuple(s for _, s in groups),
    tuple(counts),
  )


def _largest_shares(counts: Sequence[int], parts: int) -> np.ndarray:
  """(classes,) most events of each length class or longer in any part."""
  largest, some = np.zeros(len(counts), np.int64), 2**16
  for start in range(0, parts, some):
    part = np.arange(start, min(start + some, parts) + 1)
    largest = np.maximum(largest, np.diff(nested_cuts(counts, parts, part)).max(axis=1))
  return largest


def padding_waste(particles: int, schedule: Schedule) -> float:
  """Share of an epoch's padded slots that hold none of its particles."""
  padded = schedule.steps * sum(
    n * size for n, size in zip(schedule.lengths, schedule.group_sizes, strict=True)
  )
  return 1.0 - particles / padded
