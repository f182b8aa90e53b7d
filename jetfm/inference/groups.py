"""Events in canonical shapes, so that the bits of a result belong to the event alone.

Sums over padded particles and products of matrices are not the same to the last bit in other
shapes. So every event comes to the model padded to a length that its own particles decide, in a
group of a fixed number of rows: which events it shares a batch with, and how those were padded,
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jetfm.schema import Schema
from jetfm.typing import Batch

LENGTHS = (16, 32, 48, 64, 96, 128, 256, 512)
"""Padded lengths; an event takes the shortest that holds its particles."""
ROWS = 64
"""Events of a group, filler included."""


class Group(NamedTuple):
  """Events of one length; rows beyond `places` are filler of weight 0."""

  places: np.ndarray
  """(n,) number of each event in the order in which they came, n <= rows."""
  batch: Batch


def canonical_groups(
  batches: Iterable[Batch], schema: Schema, lengths: Sequence[int], rows: int
) -> Iterator[Group]:
  """Batches of any sizes and lengths -> groups of `rows` events of the `lengths`, ascending.

  Targets and spectators are left out: no prediction reads them. What padded slots held is gone.
  Raises: ValueError for columns that are not the schema's, hidden particles, or an event that is
    longer than the longest length; TypeError for what is no Batch.
  """
  waiting: dict[int, list[Group]] = {length: [] for length in lengths}
  first = 0
  for batch in batches:
    if not isinstance(batch, Batch):
      raise TypeError(
        f"got {type(batch).__name__}, expected Batch: jetfm.batch_of makes one of arrays"
      )
    _check(batch, schema, lengths[-1])
    mask = np.asarray(batch.mask)
    count = np.where(mask.any(axis=1), mask.shape[1] - np.argmax(mask[:, ::-1], axis=1), 0)
    of_length = np.searchsorted(lengths, count)
    for i in np.unique(of_length):
      index = np.flatnonzero(of_length == i)
      queue, start = waiting[lengths[i]], 0
      while start < len(index):
        free = rows - sum(len(group.places) for group in queue)
        part = index[start : start + free]
        queue.append(Group(first + part, _take(batch, part, lengths[i], schema)))
        start += len(part)
        if len(part) == free:
          yield _join(queue)
          queue.clear()
    first += len(mask)
  for length, queue in waiting.items():
    if queue:
      free = rows - sum(len(group.places) for group in queue)
      queue.append(Group(np.zeros(0, int), filler(schema, free, length)))
      yield _join(queue)


def filler(schema: Schema, rows: int, length: int) -> Batch:
  """Events without particles, of weight 0, event_id -1 and label -1."""
  return Batch(
    p4=np.zeros((rows, length, 4), np.float32),
    features=np.zeros((rows, length, len(schema.stored)), np.float32),
    present=np.zeros((rows, length, len(schema.groups)), bool),
    mask=np.zeros((rows, length), bool),
    label=np.full(rows, -1, np.int32),
    targets=np.zeros((rows, len(schema.stored_targets)), np.float32),
    weight=np.zeros(rows, np.float32),
    event_id=np.full(rows, -1, np.int32),
    spectators=np.zeros((rows, len(schema.spectators)), np.float32),
  )


def _take(batch: Batch, index: np.ndarray, length: int, schema: Schema) -> Batch:
  """Some events of a batch, padded to `length`."""
  out = filler(schema, len(index), length)
  kept = min(length, batch.length)
  mask = np.asarray(batch.mask)[index, :kept]
  out.mask[:, :kept] = mask
  for name in ("p4", "features", "present"):
    values = np.asarray(getattr(batch, name))[index, :kept]
    getattr(out, name)[:, :kept] = np.where(mask[..., None], values, 0)
  out.label[:] = np.asarray(batch.label)[index]
  out.event_id[:] = np.asarray(batch.event_id)[index]
  out.weight[:] = 1
  return out


def _join(groups: Sequence[Group]) -> Group:
  fields = [field for field, value in vars(groups[0].batch).items() if value is not None]
  arrays = {f: np.concatenate([getattr(g.batch, f) for g in groups]) for f in fields}
  return Group(np.concatenate([g.places for g in groups]), Batch(**arrays))


def _check(batch: Batch, schema: Schema, longest: int) -> None:
  for what, got, names in (
    ("stored features", batch.features.shape[-1], schema.stored),
    ("detector groups", batch.present.shape[-1], schema.groups),
  ):
    if got != len(names):
      raise ValueError(
        f"the batch has {got} {what}, the checkpoint's input set '{schema.name}' has "
        f"{len(names)}: {list(names)}. Read the data set with that input set"
      )
  if batch.hidden_rank is not None or batch.hidden_groups is not None:
    raise ValueError("the batch hides particles (hidden_rank): give the batch as it was read")
  if np.asarray(batch.mask)[:, longest:].any():
    count = int(np.asarray(batch.mask).sum(axis=1).max())
    raise ValueError(
      f"an event has {count} particles, expected at most {longest}: keep the leading ones"
    )
