"""NPZ files of padded jets, in two layouts.

`p4` (n, N, 4) in GeV as (E, px, py, pz), `label` (n,), and `mask` (n, N) or `num_particles` (n,) or
neither, in which case empty slots are zero; class names come from the config.

`X` (n, N, 4) as (pT, rapidity, phi, PDG id), `y` (n,), 1 quark and 0 gluon: the quark-gluon jets of
EnergyFlow (zenodo.org/records/3164691). Masses follow from the PDG id.

Arrays are read row by row through the zip file, so memory does not grow with the file.
"""

from __future__ import annotations

import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.jet_schema import JET_KINEMATICS
from jetfm.data.sources import Chunk, Fault, from_padded, missing, not_whole

_MASS = {11: 0.000511, 13: 0.105658, 22: 0.0, 130: 0.497611, 211: 0.13957}
_MASS |= {310: 0.497611, 321: 0.493677, 2112: 0.939565, 2212: 0.938272}
"""Masses in GeV of what may be in a jet (pdg.lbl.gov)."""

_PID_FEATURES = {
  "part_charge": lambda pid: (
    np.where(np.isin(abs(pid), (11, 13)), -np.sign(pid), np.sign(pid))
    * np.isin(abs(pid), (11, 13, 211, 321, 2212))
  ),
  "part_isChargedHadron": lambda pid: np.isin(abs(pid), (211, 321, 2212)),
  "part_isNeutralHadron": lambda pid: np.isin(abs(pid), (130, 310, 2112)),
  "part_isPhoton": lambda pid: pid == 22,
  "part_isElectron": lambda pid: abs(pid) == 11,
  "part_isMuon": lambda pid: abs(pid) == 13,
}


class _Rows:
  """An array of a zip file, read in consecutive rows."""

  def __init__(self, archive: zipfile.ZipFile, name: str):
    self._file = archive.open(f"{name}.npy")
    version = np.lib.format.read_magic(self._file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
      version, np.lib.format.read_array_header_2_0
    )
    self.shape, fortran, self.dtype = read(self._file)
    if fortran or self.dtype.kind not in "biuf":
      raise ValueError(f"array '{name}' must hold plain numbers in C order")

  def take(self, rows: int) -> np.ndarray:
    shape = (rows, *self.shape[1:])
    size = int(np.prod(shape)) * self.dtype.itemsize
    data = self._file.read(size)
    if len(data) != size:
      raise ValueError(f"{size - len(data)} bytes are missing")
    return np.frombuffer(data, self.dtype).reshape(shape)


class NpzSource:
  """A `Source`: one NPZ file in one of the two layouts, with or without `labels`."""

  splittable = False

  def __init__(self, path: pathlib.Path, labels: bool = True):
    self.path = path
    try:
      self._archive = zipfile.ZipFile(path)
      self.names = tuple(n.removesuffix(".npy") for n in self._archive.namelist())
      quark_gluon = "X" in self.names and "p4" not in self.names
      momenta, label = ("X", "y") if quark_gluon else ("p4", "label")
      for name in (momenta, *([label] if labels else [])):
        if name not in self.names:
          raise missing(path, "archive", name, self.names, "every input set")
      extra = () if quark_gluon else (n for n in ("mask", "num_particles") if n in self.names)
      self._extra = next(iter(extra), None)
      beside = [name for name in (label if labels else None, self._extra) if name]
      shape, *others = (self._open(name).shape for name in (momenta, *beside))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
      raise error if isinstance(error, DataError) else _damaged(path, error) from None
    if len(shape) != 3 or shape[2] != 4:
      raise DataError(f"{path}: '{momenta}' has shape {shape}, expected (jets, particles, 4)")
    self.entries, self._slots = int(shape[0]), int(shape[1])
    for name, found in zip(beside, others, strict=True):
      _check_shape(path, name, found, shape[: 2 if name == "mask" else 1])
    self._momenta, self._label, self._quark_gluon = momenta, label, quark_gluon
    self.where = "archive"
    self.p4_names = (momenta,) * 4
    self.provides = frozenset((*JET_KINEMATICS, *(_PID_FEATURES if quark_gluon else ())))
    self.classes: tuple[str, ...] | None = ("gluon", "quark") if quark_gluon else None

  def chunks(
    self, layout: Layout, classes: Sequence[str], start: int, stop: int, size: int
  ) -> Iterator[Chunk]:
    wanted = (self._momenta, self._label if classes else None, self._extra)
    try:
      arrays = {n: self._open(n) for n in wanted if n}
      for at in range(0, self.entries, size):
        rows = {n: a.take(min(size, self.entries - at)) for n, a in arrays.items()}
        yield self._chunk(rows, layout, classes, at)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
      raise error if isinstance(error, DataError) else _damaged(self.path, error) from None

  def close(self) -> None:
    self._archive.close()

  def _open(self, name: str) -> _Rows:
    return _Rows(self._archive, name)

  def _chunk(self, rows: dict, layout: Layout, classes: Sequence[str], at: int) -> Chunk:
    momenta, label = rows[self._momenta], rows.get(self._label)
    faults = [] if label is None else [not_whole(self._label, label)]
    present, branch = (momenta != 0).any(axis=-1), self._momenta
    if self._extra == "mask":
      mask = rows["mask"]
      present, branch = mask.astype(bool), "mask"
      faults.append(Fault("mask that is neither 0 nor 1", "mask", (mask != present).any(axis=1)))
    elif self._extra == "num_particles":
      number = rows["num_particles"]
      present = np.arange(self._slots) < number[:, None]
      bad = (number != np.rint(number)) | (number < 0) | (number > self._slots)
      reason = f"no whole number of particles from 0 to {self._slots}"
      faults.append(Fault(reason, "num_particles", bad, number))
    features = None
    if self._quark_gluon:
      pid = np.rint(momenta[..., 3]).astype(np.int64)
      columns = [_PID_FEATURES[name](pid) for name in layout.particle]
      features = np.stack(columns, axis=-1) if columns else None
      momenta = _from_pt_y_phi(momenta, pid)
    return from_padded(momenta, present, label, len(classes), layout, at, branch, features, faults)


def _from_pt_y_phi(x: np.ndarray, pid: np.ndarray) -> np.ndarray:
  """(pT, y, phi, id) -> (E, px, py, pz); a particle of unknown id gets a NaN energy."""
  mass = np.full(pid.shape, np.nan)
  for known, value in _MASS.items():
    mass[abs(pid) == known] = value
  mass[x[..., 0] == 0] = 0.0
  pt, y, phi = np.moveaxis(x[..., :3].astype(np.float64), -1, 0)
  transverse = np.sqrt(pt**2 + mass**2)
  return np.stack(
    [transverse * np.cosh(y), pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(y)], axis=-1
  )


def _check_shape(
  path: pathlib.Path, name: str, found: tuple[int, ...], expected: tuple[int, ...]
) -> None:
  if found != expected:
    one_hot = name in ("label", "y") and len(found) == 2
    hint = ". Labels are class numbers: of one-hot ones, store the argmax" if one_hot else ""
    raise DataError(f"{path}: array '{name}' has shape {found}, expected {expected}{hint}")


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
  return DataError(
    f"{path}: not a readable NPZ file ({error}). "
    "Copy it again, or leave it out (launch.ingest: --config.on_bad=drop)"
  )


def open_source(path: pathlib.Path, labels: bool = True) -> NpzSource:
  """Raises: DataError when the file is damaged, has another layout, or lacks `labels`."""
  return NpzSource(path, labels)
