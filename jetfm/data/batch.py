"""Pads ragged events to one Batch of numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.data.events import Events, put_rows, ragged_index
from jetfm.typing import Batch


def make_batch(
  rows: Sequence[Events | int],
  length: int,
  num_targets: int,
  num_groups: int,
  empty: Events,
  flagged: bool = False,
) -> Batch:
  """Events, and integers that stand for so many filler slots, one after another -> a Batch.

  Args:
    rows: what fills the batch, in order; no event is longer than `length`.
    num_targets: how many of `Events.values` are targets; the others are spectators.
    num_groups: detector groups of the schema.
    empty: no events, which gives the widths of the columns.
    flagged: the last `num_groups` feature columns say which groups measured a particle; else all
      did.

  Returns: arrays of the dtypes that `Batch` names, padded slots and filler all zero; filler has
    weight 0, event_id -1 and label -1.
  """
  size = sum(r if isinstance(r, int) else len(r) for r in rows)
  num_features, num_values = empty.features.shape[1], empty.values.shape[1]
  counts = np.zeros(size, np.int32)
  p4 = np.zeros((size * length, 4), np.float32)
  features = np.zeros((size * length, num_features), np.float32)
  values = np.zeros((size, num_values), np.float32)
  label = np.full(size, -1, np.int32)
  event_id = np.full(size, -1, np.int32)
  weight = np.zeros(size, np.float32)
  at = 0
  for row in rows:
    if isinstance(row, int):
      at += row
      continue
    here = slice(at, at + len(row))
    slots = ragged_index(np.arange(here.start, here.stop) * length, row.counts)
    put_rows(p4, slots, row.p4)
    if num_features:
      put_rows(features, slots, row.features)
    counts[here], values[here] = row.counts, row.values
    label[here], event_id[here], weight[here] = row.label, row.event_id, 1.0
    at = here.stop
  mask = np.arange(length) < counts[:, None]
  columns = features.reshape(size, length, num_features)
  present = np.repeat(mask[..., None], num_groups, axis=-1)
  if flagged:
    present = columns[..., num_features - num_groups :] > 0
    columns = np.ascontiguousarray(columns[..., : num_features - num_groups])
  return Batch(
    p4=p4.reshape(size, length, 4),
    features=columns,
    present=present,
    mask=mask,
    label=label,
    targets=values[:, :num_targets],
    weight=weight,
    event_id=event_id,
    spectators=values[:, num_targets:],
  )
