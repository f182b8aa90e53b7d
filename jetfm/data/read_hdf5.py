"""HDF5 files of the top-quark tagging reference data set (zenodo.org/records/2603256).

A pandas table with key 'table': columns E_0 PX_0 PY_0 PZ_0 ... E_199 PX_199 PY_199 PZ_199 in GeV,
zeros after the last constituent, and is_signal_new (1 top, 0 QCD). pandas keeps columns of one
type together in `values_block_<k>`, and their names, pickled, in an attribute: the names are taken
out of the pickle's text without running it.
"""

from __future__ import annotations

import contextlib
import pathlib
import pickletools
import re
from collections.abc import Iterator, Sequence

import h5py
import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.jet_schema import JET_KINEMATICS
from jetfm.data.sources import Chunk, from_padded, missing, not_whole

with contextlib.suppress(ImportError):  # the published files are compressed with Blosc
  import hdf5plugin  # noqa: F401

TABLE, LABEL = "table/table", "is_signal_new"
COMPONENTS = ("E", "PX", "PY", "PZ")


class Hdf5Source:
  """A `Source`: one HDF5 file with a pandas table of padded jets, with or without `labels`."""

  splittable = True
  where = f"'{TABLE}'"
  p4_names = ("E_*", "PX_*", "PY_*", "PZ_*")
  provides = frozenset(JET_KINEMATICS)
  classes: tuple[str, ...] | None = ("QCD", "top")

  def __init__(self, path: pathlib.Path, labels: bool = True):
    self.path = path
    try:
      self._file = h5py.File(path, "r")
      self._table = self._file.get(TABLE)
    except OSError as error:
      raise _damaged(path, error) from None
    if not isinstance(self._table, h5py.Dataset) or not self._table.dtype.names:
      raise DataError(f"{path}: no pandas table '{TABLE}'; expected the top tagging layout")
    self.entries = int(self._table.shape[0])
    self._place: dict[str, tuple[str, int]] = {}
    for block in (n for n in self._table.dtype.names if n.startswith("values_block")):
      for i, name in enumerate(_strings(self._table.attrs.get(f"{block}_kind", b""))):
        self._place[name] = (block, i)
    self.names = tuple(self._place)
    numbers = (int(m[1]) for n in self.names if (m := re.fullmatch(r"E_(\d+)", n)))
    self._slots = max(numbers, default=-1) + 1
    needed = [f"{c}_{i}" for i in range(max(self._slots, 1)) for c in COMPONENTS]
    for name in (*needed, *([LABEL] if labels else [])):
      if name not in self._place:
        raise missing(path, self.where, name, self.names, "every input set")
    self._momenta = needed

  def chunks(
    self, layout: Layout, classes: Sequence[str], start: int, stop: int, size: int
  ) -> Iterator[Chunk]:
    for at in range(start, stop, size):
      try:
        rows = self._table[at : min(at + size, stop)]
      except OSError as error:
        raise _damaged(self.path, error) from None
      p4 = self._columns(rows, self._momenta).reshape(len(rows), self._slots, 4)
      label = self._columns(rows, [LABEL])[:, 0] if classes else None
      faults = () if label is None else (not_whole(LABEL, label),)
      present = (p4 != 0).any(axis=-1)
      yield from_padded(p4, present, label, len(classes), layout, at, "E_*", faults=faults)

  def close(self) -> None:
    self._file.close()

  def _columns(self, rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
    blocks = {self._place[n][0] for n in names}
    if len(blocks) == 1:
      return rows[blocks.pop()][:, [self._place[n][1] for n in names]]
    return np.stack([rows[self._place[n][0]][:, self._place[n][1]] for n in names], axis=1)


def _strings(pickled: bytes) -> list[str]:
  """The strings in a pickled list of strings, in order."""
  return [
    arg
    for opcode, arg, _ in pickletools.genops(bytes(pickled) or b"N.")
    if isinstance(arg, str) and opcode.name not in ("GLOBAL", "PERSID")
  ]


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
  reason = str(error).splitlines()[0]
  hint = "pip install hdf5plugin" if "filter" in reason else "copy it again"
  return DataError(f"{path}: not a readable HDF5 file ({reason}): {hint}")


def open_source(path: pathlib.Path, labels: bool = True) -> Hdf5Source:
  """Raises: DataError when the file is damaged, has another layout, or lacks `labels`."""
  return Hdf5Source(path, labels)
