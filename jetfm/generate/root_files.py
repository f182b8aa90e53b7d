"""ROOT files in the published JetClass layout, written so that no half file is ever seen.

A file is written under a temporary name in its own folder, in chunks, brought to the disk, and
only then renamed. Its settings, seed and versions are kept in it, as a JSON text named `jetfm`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jetfm.generate.jet_table import JET_BRANCHES, PARTICLE_BRANCHES, JetTable, concatenate

TREE = "tree"
PROVENANCE = "jetfm"
JETS_PER_WRITE = 2_500
_TEMPORARY = ".{name}.part"


class OutputError(Exception):
  """A file that cannot be written or that belongs to another run: the message says what to do."""


def write_jets(
  path: pathlib.Path, tables: Iterable[JetTable], provenance: dict[str, Any]
) -> pathlib.Path:
  """Writes the tables to `path`, which appears complete or not at all.

  Memory does not grow with the file: `tables` may be a generator.

  Raises: OutputError when another run writes the same file, or the disk is full; OSError otherwise.
  """
  with _temporary(path) as temporary:
    try:
      _write(temporary, tables, provenance)
      with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
      os.replace(temporary, path)
      _sync_folder(path.parent)
    except OSError as error:
      if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise OutputError(
          f"no space left on the disk of '{path.parent}' while writing {path.name}: complete files "
          "are kept; free some space and run the same command again to continue"
        ) from None
      raise
  return path


def read_provenance(path: pathlib.Path) -> dict[str, Any]:
  """Settings, seed and versions that a file was made with.

  Raises: OutputError for a file that this package did not write.
  """
  import uproot

  try:
    with uproot.open(path) as file:
      return json.loads(str(file[PROVENANCE]))
  except (OSError, ValueError, KeyError, uproot.DeserializationError) as error:
    raise OutputError(
      f"'{path}' is in the way: it is not a file written by jetfm ({type(error).__name__}). "
      "Move it, or choose another output folder"
    ) from None


def remove_stale(folder: pathlib.Path) -> list[pathlib.Path]:
  """Deletes temporary files that a killed run left behind; those of a running one stay."""
  removed = []
  for path in sorted(folder.glob(_TEMPORARY.format(name="*.root"))):
    with contextlib.suppress(OutputError), _locked(path):
      path.unlink()
      removed.append(path)
  return removed


def _write(path: pathlib.Path, tables: Iterable[JetTable], provenance: dict[str, Any]) -> None:
  import awkward as ak
  import uproot

  with uproot.recreate(path, compression=uproot.LZ4(4)) as file:
    file[PROVENANCE] = json.dumps(provenance, sort_keys=True)
    tree = None
    for table in _in_bunches(tables, JETS_PER_WRITE):
      fields = {name.removeprefix("part_"): table.particles[name] for name in PARTICLE_BRANCHES}
      record = ak.contents.RecordArray(
        [ak.contents.NumpyArray(np.ascontiguousarray(values)) for values in fields.values()],
        list(fields),
      )
      offsets = ak.index.Index64(np.ascontiguousarray(table.offsets, dtype=np.int64))
      columns = {
        "part": ak.Array(ak.contents.ListOffsetArray(offsets, record)),
        **{name: table.jets[name] for name in JET_BRANCHES},
      }
      if tree is None:
        tree = file.mktree(TREE, {name: _branch_type(column) for name, column in columns.items()})
      tree.extend(columns)


def _branch_type(column: Any) -> Any:
  import awkward as ak

  return column.dtype if isinstance(column, np.ndarray) else ak.type(column).content


def _in_bunches(tables: Iterable[JetTable], size: int) -> Iterator[JetTable]:
  """Few large writes make small files that are quick to read."""
  held: list[JetTable] = []
  for table in tables:
    held.append(table)
    if sum(map(len, held)) >= size:
      yield concatenate(held)
      held = []
  if any(map(len, held)):
    yield concatenate(held)


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A locked temporary name next to `path`; gone afterwards, whatever happens."""
  temporary = path.with_name(_TEMPORARY.format(name=path.name))
  with _locked(temporary):
    try:
      yield temporary
    finally:
      temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
  """Holds the file's lock, which ends with the process, so that a killed run holds nothing."""
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      raise OutputError(f"another run is writing '{path}': wait for it, or stop it") from None
    yield
  finally:
    os.close(descriptor)


def _sync_folder(folder: pathlib.Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
