"""ROOT friend trees: one entry for each entry of another tree, in its order."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

TREE = "tree_friend"
PROVENANCE = "jetfm"
"""Name of the JSON text in the file that says where its numbers come from."""


def write_friend(
  path: pathlib.Path,
  types: Mapping[str, np.dtype],
  chunks: Iterable[Mapping[str, np.ndarray]],
  provenance: Mapping[str, Any],
) -> None:
  """Writes the chunks to `path`, which appears complete or not at all.

  Args:
    types: of the branches, arrays of a fixed size included. They are there without chunks too.
    chunks: successive entries; memory holds one of them.

  Raises: OSError when the file cannot be written, and whatever `chunks` raises.
  """
  import uproot

  # Of this process alone, and with no suffix that anything reads.
  temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
  try:
    with uproot.recreate(temporary, compression=uproot.LZ4(4)) as file:
      file[PROVENANCE] = json.dumps(provenance, sort_keys=True)
      tree = file.mktree(TREE, dict(types))
      for chunk in chunks:
        tree.extend(dict(chunk))
    with open(temporary, "rb+") as written:
      os.fsync(written.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def read_provenance(path: pathlib.Path) -> dict[str, Any] | None:
  """What `write_friend` was told; None for a file that it did not write."""
  import uproot

  try:
    with uproot.open(path) as file:
      told = json.loads(str(file[PROVENANCE]))
  except (OSError, ValueError, KeyError, uproot.DeserializationError):
    return None
  return told if isinstance(told, dict) else None
