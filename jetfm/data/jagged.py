"""The JetClass layout as awkward arrays, which ROOT and Parquet files share."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import awkward as ak
import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.events import Events, Layout
from jetfm.data.jet_schema import BRANCHES, JETCLASS
from jetfm.data.sources import Chunk, Fault, missing

P4 = ("part_energy", "part_px", "part_py", "part_pz")
EVENT_NUMBER = "event_number"


def provided(names: Sequence[str]) -> frozenset[str]:
  """Stored columns that these branches give, by their names in a `Layout`."""
  by_branch = {branch: column for column, branch in BRANCHES.items()}
  return frozenset(by_branch.get(n, n) for n in names)


def class_names(path: pathlib.Path, where: str, names: Sequence[str]) -> tuple[str, ...]:
  """Classes of the label branches: in the order of JetClass when they are its ten; () without any.

  Raises: DataError when momenta are missing.
  """
  for branch in P4:
    if branch not in names:
      raise missing(path, where, branch, names, "every input set")
  labels = tuple(n.removeprefix("label_") for n in names if n.startswith("label_"))
  return JETCLASS if set(labels) == set(JETCLASS) else labels


def branches(layout: Layout, classes: Sequence[str], names: Sequence[str]) -> list[str]:
  """What to read of a file for these columns."""
  stored = [BRANCHES.get(n, n) for n in (*layout.particle, *layout.event)]
  number = [EVENT_NUMBER] if EVENT_NUMBER in names else []
  return [*P4, *stored, *(f"label_{c}" for c in classes), *number]


def to_chunk(
  arrays: ak.Array, layout: Layout, classes: Sequence[str], start: int, described: str
) -> Chunk:
  """Awkward records with those branches -> a chunk whose first entry is number `start`.

  Without `classes` no label is read, and all are -1. Branch types may be bool, integer or float. Raises: DataError for one that is not numbers.
  """
  counts, energy = _flat(arrays[P4[0]], described, P4[0])
  faults = []

  def per_particle(branch: str) -> np.ndarray:
    own, flat = _flat(arrays[branch], described, branch)
    wrong = own != counts
    if wrong.any():
      faults.append(Fault(f"as many values as {P4[0]} expected", branch, wrong))
      return np.resize(flat, len(energy)) if len(flat) else np.zeros(len(energy), np.float32)
    return flat

  def per_event(branch: str) -> np.ndarray:
    return _numbers(arrays[branch], described, branch)

  p4 = np.stack([energy, *(per_particle(b) for b in P4[1:])], axis=1)
  features = np.empty((len(energy), len(layout.particle)), np.float32)
  for i, name in enumerate(layout.particle):
    features[:, i] = per_particle(BRANCHES.get(name, name))
  values = np.empty((len(counts), len(layout.event)), np.float32)
  with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
    for i, name in enumerate(layout.event):
      values[:, i] = per_event(BRANCHES.get(name, name))
  label = np.full(len(counts), -1, np.int32)
  if classes:
    flags = np.stack([per_event(f"label_{c}") for c in classes], axis=1).astype(np.float64)
    known = ((flags == 0) | (flags == 1)).all(axis=1) & (flags.sum(axis=1) == 1)
    label = np.where(known, flags.argmax(axis=1), -1).astype(np.int32)
  entry = np.arange(start, start + len(counts))
  number = entry
  if EVENT_NUMBER in arrays.fields:
    number = per_event(EVENT_NUMBER).astype(np.int64)
  return Chunk(
    Events(
      counts,
      p4,
      features,
      values,
      label,
      entry.astype(np.int32),
    ),
    number,
    tuple(faults),
  )


def _flat(array: ak.Array, described: str, branch: str) -> tuple[np.ndarray, np.ndarray]:
  if array.ndim != 2:
    raise DataError(f"{described}: branch '{branch}' has {array.ndim} axes, expected one per jet")
  counts = ak.to_numpy(ak.num(array)).astype(np.int32)
  return counts, _numbers(ak.flatten(array), described, branch, np.float32)


def _numbers(array: ak.Array, described: str, branch: str, dtype=None) -> np.ndarray:
  try:
    values = ak.to_numpy(array, allow_missing=False)
  except (ValueError, TypeError) as error:
    reason = str(error).strip().splitlines()[0]
    raise DataError(f"{described}: branch '{branch}' is not plain numbers ({reason})") from None
  if values.dtype.kind not in "biuf" or values.ndim != 1:
    raise DataError(f"{described}: branch '{branch}' holds {values.dtype}, expected numbers")
  with np.errstate(over="ignore"):
    return values if dtype is None else values.astype(dtype)
