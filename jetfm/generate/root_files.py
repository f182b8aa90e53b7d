"""ROOT files of jets or events, written so that no half file is ever seen.

A file is written under a temporary name in its own folder, in chunks, brought to the disk, and
only then renamed. Its settings, seed and versions are kept in it, as a JSON text named `jetfm`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jetfm.generate.table import Table, concatenate
from jetfm.locks import Busy, locked

TREE = "tree"
PROVENANCE = "jetfm"
PARTICLES_PER_WRITE = 100_000
_TEMPORARY = ".{name}.part"


class OutputError(Exception):
  """A file that cannot be written or that belongs to another run: the message says what to do."""


def write_tables(
  path: pathlib.Path, tables: Iterable[Table], provenance: dict[str, Any]
) -> pathlib.Path:
  """Writes the tables to `path`, which appears complete or not at all.

  All per-particle branches share the counter `npart`. Memory does not grow with the file: `tables`
  may be a generator.

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
    with contextlib.suppress(Busy), locked(path):
      path.unlink()
      removed.append(path)
  return removed


def _write(path: pathlib.Path, tables: Iterable[Table], provenance: dict[str, Any]) -> None:
  import awkward as ak
  import uproot

  with uproot.recreate(path, compression=uproot.LZ4(4)) as file:
    file[PROVENANCE] = json.dumps(provenance, sort_keys=True)
    tree = None
    for table in _in_bunches(tables, PARTICLES_PER_WRITE):
      record = ak.contents.RecordArray(
        [ak.contents.NumpyArray(np.ascontiguousarray(x)) for x in table.particles.values()],
        list(table.particles),
      )
      offsets = ak.index.Index64(np.ascontiguousarray(table.offsets, dtype=np.int64))
      columns = {
        "part": ak.Array(ak.contents.ListOffsetArray(offsets, record)),
        **table.events,
      }
      if tree is None:
        types = {name: _branch_type(column) for name, column in columns.items()}
        tree = file.mktree(TREE, types, field_name=_branch_name)
      tree.extend(columns)


def _branch_type(column: Any) -> Any:
  import awkward as ak

  return column.dtype if isinstance(column, np.ndarray) else ak.type(column).content


def _branch_name(outer: str, inner: str) -> str:
  """Fields of the record 'part' keep their own names."""
  return inner or outer


def _in_bunches(tables: Iterable[Table], size: int) -> Iterator[Table]:
  """Tables of about `size` particles: few large writes make small files, quick to read."""
  held: list[Table] = []
  for table in tables:
    held.append(table)
    if sum(int(kept.offsets[-1]) for kept in held) >= size:
      yield concatenate(held)
      held = []
  if any(map(len, held)):
    yield concatenate(held)


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A locked temporary name next to `path`; gone afterwards, whatever happens."""
  temporary = path.with_name(_TEMPORARY.format(name=path.name))
  try:
    with locked(temporary):
      try:
        yield temporary
      finally:
        temporary.unlink(missing_ok=True)
  except Busy:
    raise OutputError(f"another run is writing '{temporary}': wait for it, or stop it") from None


def _sync_folder(folder: pathlib.Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
