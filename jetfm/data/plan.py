"""What an ingest is asked to do, and what the files turn out to allow."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jetfm.data.branches import LABEL, check_branches
from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.jet_schema import BRANCHES, FILE_PREFIXES
from jetfm.data.kinds import EVENTS, Kind, kind_of
from jetfm.data.manifest import SPLITS, file_digest
from jetfm.data.sources import (
  Source,
  class_of_file,
  find_files,
  missing,
  open_source,
  require,
)
from jetfm.names import nearest
from jetfm.schema import Schema

HASHED = "by hash"  # the split of files whose events are divided by `Settings.fractions`


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the content of a data set.

  Attributes:
    inputs: the largest input set to store; its branches must be there.
    classes: names of the labels, None to take those of the files.
    fractions: of events in train, valid and test; sum 1.
    edges: longest event of each length class. Longer jets keep their leading particles.
    block_events: most events of a record.
    seed: of the split and of the order.
    on_bad: 'error' stops at the first bad event or file; 'drop' leaves it out and counts it.
    check_names: file names must tell the class and agree with the labels, if all are JetClass's.
    branches: names of the JetClass layout -> names in the files, for ROOT and Parquet.

  Raises: DataError for values that make no sense.
  """

  inputs: str = "full"
  classes: tuple[str, ...] | None = None
  fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
  edges: tuple[int, ...] = (16, 32, 48, 64, 80, 96, 128)
  block_events: int = 256
  seed: int = 0
  on_bad: str = "error"
  check_names: bool = True
  branches: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    kind = kind_of(self.inputs)
    if len(self.fractions) != 3 or min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
      raise DataError(
        f"fractions must be three numbers of train, valid, test with sum 1, got {self.fractions}"
      )
    if not self.edges or list(self.edges) != sorted(set(self.edges)) or self.edges[0] < 1:
      raise DataError(f"edges must be ascending positive lengths, got {self.edges}")
    if self.block_events < 1:
      raise DataError(f"block_events must be positive, got {self.block_events}")
    if self.on_bad not in ("error", "drop"):
      raise DataError(f"on_bad must be 'error' or 'drop', got '{self.on_bad}'")
    check_branches(self.branches, kind)


@dataclasses.dataclass
class SourceFile:
  """One file: what it is, and what became of it. `split` is one of SPLITS, or HASHED."""

  path: pathlib.Path
  split: str
  bytes: int
  sha256: str
  entries: int = 0
  first_event_id: int = 0
  splittable: bool = False
  expected_class: int | None = None
  kept: int = 0
  drops: dict[str, int] = dataclasses.field(default_factory=dict)
  refused: str | None = None

  def to_dict(self) -> dict[str, Any]:
    hidden = ("splittable", "expected_class")
    data = {k: v for k, v in dataclasses.asdict(self).items() if k not in hidden}
    return {**data, "path": str(self.path)}


@dataclasses.dataclass(frozen=True)
class Plan:
  """What to store: columns, classes and unfitted schemas, and the files to take it from."""

  layout: Layout
  classes: tuple[str, ...]
  schemas: Mapping[str, Schema]
  files: tuple[SourceFile, ...]


def list_files(
  sources: Mapping[str, str], progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[SourceFile, ...]:
  """Patterns by split ('' for files that are split by hash) -> the files, with their digests.

  `progress` gets (files done, files in all).
  Raises: DataError for a pattern without files, or no pattern at all.
  """
  found: list[tuple[str, pathlib.Path]] = []
  for split, patterns in sources.items():
    if split and split not in SPLITS:
      raise DataError(f"no split '{split}'; expected one of {SPLITS}")
    found += [(split or HASHED, path) for path in find_files(patterns)]
  files: list[SourceFile] = []
  progress(0, len(found))
  for split, path in found:
    files.append(SourceFile(path, split, path.stat().st_size, file_digest(path)))
    progress(len(files), len(found))
  if not files:
    raise DataError("no sources: name a file, directory or glob with --config.sources=...")
  return tuple(files)


def make_plan(files: Sequence[SourceFile], settings: Settings, say: Callable[[str], None]) -> Plan:
  """Opens every file and decides what can be stored.

  Files that cannot be used get `refused` with `on_bad='drop'`. Optional columns that some file
  lacks are left out, with a line that says so.
  Raises: DataError for a file that is there twice, and with `on_bad='error'` for the first file
    that cannot be used.
  """
  kind = kind_of(settings.inputs)
  particle = kind.stored(settings.inputs)
  opened: list[tuple[SourceFile, frozenset[str]]] = []
  classes = settings.classes
  next_id = 0
  for file in files:
    source = None
    try:
      source = open_source(file.path, settings.branches, settings.inputs)
      require(source, particle, settings.inputs, _hint(source, kind))
      classes = _same_classes(file.path, source, classes, settings)
      file.expected_class = _expected_class(file.path, source, classes, settings)
    except DataError as error:
      if settings.on_bad == "error":
        raise
      file.refused = str(error)
      say(f"skipped: {error}")
      continue
    finally:
      if source is not None:
        source.close()
    file.entries, file.splittable = source.entries, source.splittable
    file.first_event_id = next_id
    next_id += source.entries
    opened.append((file, source.provides))
  if not opened:
    raise DataError("none of the files can be used: see the lines above")
  if next_id >= 2**31:
    raise DataError(f"{next_id} events do not fit a 32-bit number: make several data sets")
  _refuse_copies(file for file, _ in opened)
  assert classes is not None

  left_out: list[str] = []

  def provided(name: str) -> bool:
    without = sum(name not in provides for _, provides in opened)
    if without:
      branch = BRANCHES.get(name, name)
      left_out.append(f"{name} (no branch '{branch}' in {without} of {len(opened)} files)")
    return not without

  targets = tuple(t for t in kind.targets if t.derived or provided(t.name))
  spectators = tuple(filter(provided, kind.spectators))
  if left_out:
    say(f"left out of the schema: {', '.join(left_out)}")
  schemas = {
    name: Schema(name, features, classes, targets, spectators)
    for name, features in kind.input_sets.items()
    if all(f.derived or f.name in particle for f in features)
  }
  event = (*(t.name for t in targets if not t.derived), *spectators)
  return Plan(Layout(particle, event), classes, schemas, tuple(files))


def _refuse_copies(files: Iterable[SourceFile]) -> None:
  """By content: links and copies too. Files without entries may well be the same."""
  seen: dict[str, SourceFile] = {}
  for file in files:
    other = seen.setdefault(file.sha256, file) if file.entries else file
    if other is file:
      continue
    same = f"{other.path} and {file.path} are the same file"
    if file.split != other.split:
      raise DataError(f"{same}, named for two splits ({other.split}, {file.split}): leave one out")
    raise DataError(f"{same}, whose events would be stored twice: leave one out")


def _hint(source: Source, kind: Kind) -> str:
  fits = [name for name in kind.input_sets if set(kind.stored(name)) <= source.provides]
  other = f"Use --config.inputs={fits[-1]}, or say" if fits else "Say"
  return f"{other} what the file calls it: --config.branches=NAME=BRANCH."


def _same_classes(
  path: pathlib.Path, source: Source, classes: tuple[str, ...] | None, settings: Settings
) -> tuple[str, ...]:
  found = source.classes
  if kind_of(settings.inputs) is EVENTS and found is not None:
    return _same_chains(path, found, classes, settings)
  if found == ():
    if settings.classes is not None:
      return settings.classes
    raise missing(
      path,
      source.where,
      f"{LABEL}QCD",
      source.names,
      "the class of every jet",
      "Or name the classes, with which the names of such files begin: --config.classes=QCD,top.",
    )
  if classes is None:
    if found is None:
      raise DataError(
        f"{path.name}: its labels are bare numbers; name them in order with "
        "--config.classes=background,signal (or --config.classes=jetclass)"
      )
    return found
  by_branch = found is not None and f"label_{found[0]}" in source.names
  unknown = [c for c in classes if by_branch and c not in (found or ())]
  if unknown:
    raise DataError(
      f"{path.name}: no branch 'label_{unknown[0]}'; its classes are {list(found or ())}, "
      f"the data set's are {list(classes)}"
    )
  if not by_branch and found is not None and settings.classes is None and found != classes:
    raise DataError(
      f"{path.name}: its classes {list(found)} are not those of the files before it, "
      f"{list(classes)}: make two data sets, or name them with --config.classes=..."
    )
  return classes


def _same_chains(
  path: pathlib.Path,
  found: tuple[str, ...],
  classes: tuple[str, ...] | None,
  settings: Settings,
) -> tuple[str, ...]:
  if classes is None:
    return found
  for name in classes:
    if name not in found:
      whose = "--config.classes" if settings.classes is not None else "the files before it"
      raise DataError(
        f"{path.name}: none of its {len(found)} decay chains is '{name}' of {whose}; the nearest "
        f"is '{nearest(name, found)}'. Name the chains of the data set: --config.classes=FILE.csv"
      )
  return classes


def _expected_class(
  path: pathlib.Path, source: Source, classes: tuple[str, ...], settings: Settings
) -> int | None:
  """The class that the file's name tells, None when it is not asked."""
  published = {prefix: name for prefix, name in FILE_PREFIXES.items() if name in classes}
  if source.classes == ():
    known = {name: name for name in classes} | published
    fits = [prefix for prefix in known if path.name.startswith(prefix)]
    if not fits:
      raise DataError(
        f"{path.name}: it has no label branches, and its name begins with none of {list(known)}. "
        "Rename it, or name the branches that hold the labels: --config.branches=label_CLASS=NAME"
      )
    return classes.index(known[max(fits, key=len)])
  foreign = not set(classes) <= set(FILE_PREFIXES.values())
  if not settings.check_names or foreign or f"{LABEL}{classes[0]}" not in source.names:
    return None
  name = class_of_file(path)
  if name is None or name not in classes:
    raise DataError(
      f"{path.name}: the file name tells no class of {list(classes)}; known prefixes are "
      f"{list(published)}. Rename it, or use --config.check_names=False"
    )
  return classes.index(name)
