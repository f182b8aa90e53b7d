"""Files of jets behind one interface, whatever their format."""

from __future__ import annotations

import dataclasses
import glob
import importlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.events import Events, Layout
from jetfm.data.jet_schema import BRANCHES, FILE_PREFIXES, JET_KINEMATICS
from jetfm.data.kinds import EVENTS, kind_of
from jetfm.names import nearest

READERS = {
  ".root": "jetfm.data.read_root",
  ".parquet": "jetfm.data.read_parquet",
  ".h5": "jetfm.data.read_hdf5",
  ".hdf5": "jetfm.data.read_hdf5",
  ".npz": "jetfm.data.read_npz",
}
"""Module that reads files with this suffix: its `open_source` gives a `Source`."""

WITH_BRANCHES = (".root", ".parquet")
"""Formats whose files may call their branches as they like."""


@dataclasses.dataclass(frozen=True)
class Fault:
  """A reason to refuse events: (n,) bool `bad`, the branch that shows it, perhaps its values."""

  reason: str
  branch: str
  bad: np.ndarray
  values: np.ndarray | None = None

  def of(self, event: int) -> str:
    """The reason, with the event's value."""
    return self.reason if self.values is None else f"{self.reason} ({self.values[event]})"


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Consecutive entries of a file.

  Attributes:
    events: label -1 where the file does not name exactly one class; event_id is the entry.
    event_number: (n,) generated event; jets of one event have the same number, in other files too.
      None where the file does not tell: then each entry is an event of its own.
    faults: what only the reader can see, a mask with holes for example.
  """

  events: Events
  event_number: np.ndarray | None
  faults: tuple[Fault, ...] = ()


class Source(Protocol):
  """An open file of jets.

  Attributes:
    path, where: of the file, and what inside it holds the jets, for messages.
    entries: number of jets.
    names: of the branches, columns or arrays in the file, renamed as asked for.
    p4_names: those that (E, px, py, pz) come from.
    provides: stored columns that it can give, by their names in a `Layout`.
    classes: class names that the file's layout defines, () when it has no labels, None when they
      are bare numbers.
    splittable: whether a range of entries can be read without reading what is before.
  """

  path: pathlib.Path
  where: str
  entries: int
  names: tuple[str, ...]
  p4_names: tuple[str, str, str, str]
  provides: frozenset[str]
  classes: tuple[str, ...] | None
  splittable: bool

  def chunks(
    self, layout: Layout, classes: Sequence[str], start: int, stop: int, size: int
  ) -> Iterator[Chunk]:
    """Entries start .. stop, at most `size` at a time; DataError when the file is damaged.

    Without `classes` the labels of a file are not looked at: all are -1.
    """
    ...

  def close(self) -> None:
    """Gives the file back."""
    ...


def find_files(patterns: str) -> list[pathlib.Path]:
  """Comma-separated files, directories and globs -> the data files in them, by name.

  Links are followed, also those to folders inside of a directory.
  Raises: DataError when a part matches nothing.
  """
  found: set[pathlib.Path] = set()
  for pattern in filter(None, (p.strip() for p in patterns.split(","))):
    path = pathlib.Path(pattern).expanduser()
    if path.is_dir():
      near = list(_all_below(path))
    else:
      near = [pathlib.Path(p) for p in glob.glob(str(path), recursive=True)]
    files = [f for f in near if f.suffix in READERS and f.is_file()]
    if not files:
      raise DataError(
        f"'{pattern}' holds no data files; expected a file, directory or glob of {list(READERS)}"
      )
    found.update(files)
  return sorted(found, key=lambda f: (f.name, str(f)))


def _all_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Whatever lies in a folder and those in it; none is entered twice, on whatever way."""
  entered = set()
  for name, folders, files in os.walk(folder, followlinks=True):
    folders.sort()
    real = os.path.realpath(name)
    if real in entered:
      folders.clear()
      continue
    entered.add(real)
    yield from (pathlib.Path(name, file) for file in files)


def open_source(
  path: pathlib.Path,
  branches: Mapping[str, str] | None = None,
  inputs: str = "full",
  labels: bool = True,
) -> Source:
  """Opens a file by its suffix.

  Args:
    branches: names of the layout -> names in the file, where the two differ.
    inputs: an input set of the kind of data that the file holds.
    labels: whether the file must have them, where every file of its kind does.

  Raises: DataError when it is not of that format, or lacks what every input set needs.
  """
  if path.suffix not in READERS:
    raise DataError(f"{path}: suffix '{path.suffix}' is none of {list(READERS)}")
  try:
    reader = importlib.import_module(READERS[path.suffix])
  except ImportError as error:
    raise DataError(f"{path}: reading it needs {error.name}: pip install 'jetfm[data]'") from None
  if kind_of(inputs) is EVENTS:
    if path.suffix != ".root":
      raise DataError(f"{path}: e+e- events (input set '{inputs}') are read from .root files only")
    return reader.open_events(path, branches or {}, labels)
  if path.suffix in WITH_BRANCHES:
    return reader.open_source(path, branches or {})
  if branches:
    raise DataError(
      f"{path}: branches can be named in files of {list(WITH_BRANCHES)} only; see the layout of "
      f"'{path.suffix}' in {READERS[path.suffix]}"
    )
  return reader.open_source(path, labels)


def require(source: Source, names: Sequence[str], inputs: str, hint: str) -> None:
  """Raises DataError for the first stored column of input set `inputs` that a file lacks."""
  for name in names:
    if name not in source.provides:
      branch = BRANCHES.get(name, name)
      raise missing(source.path, source.where, branch, source.names, f"input set '{inputs}'", hint)


def missing(
  path: pathlib.Path,
  where: str,
  branch: str,
  names: Sequence[str],
  needed_by: str,
  hint: str = "Is this the layout that was meant?",
) -> DataError:
  """The error for a branch that is not there."""
  return DataError(
    f"{path.name}, {where}: no branch '{branch}' (needed by {needed_by}). "
    f"Found {len(names)} branches; the nearest name is '{nearest(branch, names)}'. {hint}"
  )


def class_of_file(path: pathlib.Path) -> str | None:
  """Class that the name of a JetClass file stands for, None when no prefix fits."""
  fits = [p for p in FILE_PREFIXES if path.name.startswith(p)]
  return FILE_PREFIXES[max(fits, key=len)] if fits else None


def jet_columns(counts: np.ndarray, p4: np.ndarray, names: Sequence[str]) -> np.ndarray:
  """Kinematics of the jets from their constituents, for files without jet branches.

  Shapes: counts (n,), p4 (P, 4) -> (n, len(names)) float32, names of `JET_KINEMATICS`.
  """
  total = np.zeros((len(counts), 4))
  filled = counts > 0
  starts = (np.cumsum(counts) - counts)[filled]
  if len(starts):
    total[filled] = np.add.reduceat(p4.astype(np.float64), starts, axis=0)
  energy, px, py, pz = total.T
  pt = np.hypot(px, py)
  with np.errstate(divide="ignore", invalid="ignore"):
    eta = np.where(filled, np.arcsinh(pz / pt), 0.0)
  columns = dict(zip(JET_KINEMATICS, (pt, eta, np.arctan2(py, px), energy), strict=True))
  out = np.empty((len(counts), len(names)), np.float32)
  for i, name in enumerate(names):
    out[:, i] = columns[name]
  return out


def not_whole(branch: str, values: np.ndarray) -> Fault:
  """(n,) numbers that must be whole."""
  return Fault("no whole number", branch, values != np.rint(values), values)


def from_padded(
  p4: np.ndarray,
  present: np.ndarray,
  label: np.ndarray | None,
  num_classes: int,
  layout: Layout,
  start: int,
  branch: str,
  features: np.ndarray | None = None,
  faults: Sequence[Fault] = (),
) -> Chunk:
  """Padded arrays -> a chunk, with the `faults` that were found already.

  Shapes: p4 (n, N, 4), present (n, N) bool, label (n,) numbers or None, features (n, N, F) or None.
  """
  counts = present.sum(axis=1, dtype=np.int32)
  flat = p4[present].astype(np.float32)
  entry = np.arange(start, start + len(counts), dtype=np.int32)
  if label is None:
    label = np.full(len(counts), -1)
  known = (label >= 0) & (label < num_classes) & (label == np.rint(label))
  holes = (present[:, 1:] & ~present[:, :-1]).any(axis=1)
  return Chunk(
    Events(
      counts,
      flat,
      np.zeros((len(flat), 0), np.float32)
      if features is None
      else np.ascontiguousarray(features[present], np.float32),
      jet_columns(counts, flat, layout.event),
      np.where(known, label, -1).astype(np.int32),
      entry,
    ),
    None,
    (*faults, Fault("mask with holes: a particle after an empty slot", branch, holes)),
  )
