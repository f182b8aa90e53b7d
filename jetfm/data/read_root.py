"""ROOT files of jets, in the published JetClass layout, or of e+e- events."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import uproot

from jetfm.data.branches import TREE
from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.jagged import JaggedFile
from jetfm.data.jagged_events import MOMENTUM, EventFile
from jetfm.data.sources import Chunk

NAMES = "jetfm"
"""JSON that files of ours keep: its 'chains' are the names of the classes."""


class RootSource:
  """A `Source`: the tree 'tree' of a ROOT file, or its only tree.

  Args:
    branches: names of the layout -> names in the file; 'tree' -> that of another tree.
    events: the file is of e+e- events; it is of jets otherwise.
    labels: whether decay chains of events will be asked for.
  """

  splittable = True

  def __init__(
    self, path: pathlib.Path, branches: Mapping[str, str], events: bool, labels: bool = True
  ):
    self.path = path
    try:
      self._file = uproot.open(path)
      found = self._file.keys(filter_classname="TTree")
      trees = sorted({k.split(";")[0] for k in found})
    except Exception as error:  # uproot raises many kinds for a damaged file
      raise _damaged(path, error) from None
    branches = dict(branches)
    name = branches.pop(TREE, TREE if len(trees) != 1 else trees[0])
    if name not in trees:
      raise self._no_tree(name, trees)
    try:
      self._tree = self._file[name]
      self.entries = int(self._tree.num_entries)
      found = self._tree.keys()
    except Exception as error:
      raise _damaged(path, error) from None
    self.where = f"tree '{name}'"
    if not events and MOMENTUM[0] in found and not branches:
      raise DataError(f"{path}: a file of e+e- events; ingest it with --config.inputs=bes")
    self._jagged: JaggedFile | EventFile
    if events:
      chains = _chains(self._file)
      self._jagged = EventFile(path, self.where, found, branches, chains, labels)
    else:
      self._jagged = JaggedFile(path, self.where, found, branches)
    self.names, self.p4_names = self._jagged.names, self._jagged.p4_names
    self.classes: tuple[str, ...] | None = self._jagged.classes
    self.provides = self._jagged.provides

  def _no_tree(self, name: str, trees: Sequence[str]) -> DataError:
    tuples = sorted({k.split(";")[0] for k in self._file.keys(filter_classname="*RNTuple")})
    if tuples and not trees:
      return DataError(
        f"{self.path}: has {', '.join(tuples)} as RNTuple, which is not read: write a TTree, with "
        "uproot by mktree"
      )
    has = f"the trees {trees}: say which by --config.branches={TREE}=NAME" if trees else "none"
    return DataError(f"{self.path}: no tree '{name}'; the file has {has}")

  def chunks(
    self, layout: Layout, classes: Sequence[str], start: int, stop: int, size: int
  ) -> Iterator[Chunk]:
    wanted = self._jagged.to_read(layout, classes)
    steps = self._tree.iterate(
      filter_name=wanted, entry_start=start, entry_stop=stop, step_size=size
    )
    while True:
      try:
        arrays = next(steps, None)
      except Exception as error:
        raise _damaged(self.path, error, start) from None
      if arrays is None:
        return
      yield self._jagged.to_chunk(arrays, layout, classes, start)
      start += len(arrays)

  def close(self) -> None:
    self._file.close()


def _damaged(path: pathlib.Path, error: Exception, entry: int | None = None) -> DataError:
  lines = str(error).strip().splitlines()
  reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
  at = "" if entry is None else f" from entry {entry} on"
  return DataError(
    f"{path}: not a readable ROOT file{at}, truncated or damaged ({reason}). "
    "Copy it again, or leave it out (launch.ingest: --config.on_bad=drop)"
  )


def open_source(path: pathlib.Path, branches: Mapping[str, str]) -> RootSource:
  """Jets. Raises: DataError when the file is damaged, or lacks momenta or one of the `branches`."""
  return RootSource(path, branches, events=False)


def open_events(path: pathlib.Path, branches: Mapping[str, str], labels: bool = True) -> RootSource:
  """e+e- events. Raises: DataError as `open_source` does, and without chains for `labels`."""
  return RootSource(path, branches, events=True, labels=labels)


def _chains(file: Any) -> tuple[str, ...] | None:
  """Names of the decay chains that a file keeps; None when it keeps none."""
  try:
    names = json.loads(str(file[NAMES]))["chains"]
  except (KeyError, TypeError, ValueError, uproot.DeserializationError):
    return None
  return tuple(map(str, names))
