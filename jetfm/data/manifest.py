"""manifest.json: what a data set holds. Without it there is no data set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.records import Column
from jetfm.names import nearest
from jetfm.schema import Schema

FILE = "manifest.json"
FORMAT, VERSION = "jetfm-dataset", 1
SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Shard:
  """One ArrayRecord file: blocks of one split and one length class.

  Attributes:
    file: name in the data set's directory.
    length: the length class, an edge of the manifest.
    bytes, sha256: of the file.
    blocks: (blocks, classes) events of each class in each record, in order.
  """

  file: str
  length: int
  bytes: int
  sha256: str
  blocks: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Split:
  """One split: its shards, and its (max length + 1,) histogram of particles per event."""

  shards: tuple[Shard, ...] = ()
  multiplicity: tuple[int, ...] = ()

  @property
  def num_events(self) -> int:
    return sum(self.multiplicity)

  @property
  def num_particles(self) -> int:
    return sum(i * n for i, n in enumerate(self.multiplicity))

  def class_counts(self, classes: int) -> np.ndarray:
    """(classes,) events of each class."""
    blocks = [np.sum(s.blocks, axis=0, dtype=np.int64) for s in self.shards]
    return np.sum(blocks, axis=0) if blocks else np.zeros(classes, np.int64)

  def length_counts(self, edges: tuple[int, ...]) -> list[int]:
    """Events of each length class."""
    return [
      sum(map(sum, (b for s in self.shards if s.length == e for b in s.blocks))) for e in edges
    ]


@dataclasses.dataclass(frozen=True)
class Manifest:
  """Everything known about a data set.

  Attributes:
    classes: names; a label is an index into them.
    edges: longest event of each length class, ascending.
    columns: the buffers of a block, in order.
    layout: names of the stored particle and event columns.
    schemas: by input set, with the standardisation constants of the training split.
    splits: by name, of `SPLITS`.
    sources: the files it was made of: path, bytes, sha256, entries, first event_id, split, kept
      events and drops by reason.
    settings: what ingest was asked for.
    truncated: {'events', 'particles'} cut off at the last edge.
    versions: of the packages that wrote it.
  """

  classes: tuple[str, ...]
  edges: tuple[int, ...]
  columns: tuple[Column, ...]
  layout: Layout
  schemas: Mapping[str, Schema]
  splits: Mapping[str, Split]
  sources: tuple[Mapping[str, Any], ...]
  settings: Mapping[str, Any]
  truncated: Mapping[str, int]
  versions: Mapping[str, str]

  @classmethod
  def load(cls, directory: str | os.PathLike[str]) -> Manifest:
    """Reads and validates `directory`/manifest.json; shards must exist with their sizes.

    Raises: DataError that says what is wrong and what to do.
    """
    path = pathlib.Path(directory) / FILE
    if not path.is_file():
      raise DataError(
        f"{directory}: no {FILE}, so this is no complete data set; make one with "
        f"python -m launch.ingest --config.sources=... --config.out={directory}"
      )
    try:
      data = json.loads(path.read_text())
    except ValueError as error:
      raise DataError(f"{path}: not JSON ({error}): ingest again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
      raise DataError(f"{path}: not a manifest of format '{FORMAT}'")
    if data.get("version") != VERSION:
      raise DataError(
        f"{path}: version {data.get('version')}, this library reads {VERSION}: ingest again"
      )
    try:
      manifest = cls._from_dict(data)
    except (KeyError, TypeError, ValueError) as error:
      raise DataError(f"{path}: damaged ({error!r}): ingest again") from None
    for name, split in manifest.splits.items():
      for shard in split.shards:
        file = pathlib.Path(directory) / shard.file
        got = file.stat().st_size if file.is_file() else None
        if got != shard.bytes:
          raise DataError(
            f"{file}: {'missing' if got is None else f'{got} bytes'}, the manifest of split "
            f"'{name}' says {shard.bytes} bytes: restore the file, or ingest again"
          )
    return manifest

  def save(self, directory: str | os.PathLike[str]) -> None:
    """Writes the file in one atomic step, once everything else is on disk."""
    path = pathlib.Path(directory) / FILE
    part = path.with_name(f".{FILE}.part")
    with part.open("w") as file:
      json.dump(self._to_dict(), file, separators=(",", ":"))
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)

  def verify(self, directory: str | os.PathLike[str]) -> None:
    """Reads every shard and compares checksums.

    Raises: DataError for a file that has changed.
    """
    for split in self.splits.values():
      for shard in split.shards:
        path = pathlib.Path(directory) / shard.file
        if file_digest(path) != shard.sha256:
          raise DataError(
            f"{path}: its checksum differs from the manifest's: restore or ingest again"
          )

  def schema(self, inputs: str) -> Schema:
    """The schema of an input set.

    Raises: DataError when its columns are not stored.
    """
    if inputs not in self.schemas:
      raise DataError(
        f"no input set '{inputs}' in this data set, the nearest is "
        f"'{nearest(inputs, self.schemas)}' of {list(self.schemas)}; ingest again with "
        f"--config.inputs={inputs} if the files allow it"
      )
    return self.schemas[inputs]

  def split(self, name: str) -> Split:
    """Raises: DataError for an unknown split."""
    if name not in self.splits:
      raise DataError(f"no split '{name}', the nearest is '{nearest(name, SPLITS)}' of {SPLITS}")
    return self.splits[name]

  def _to_dict(self) -> dict[str, Any]:
    data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    data["schemas"] = {name: s.to_dict() for name, s in self.schemas.items()}
    # Not by `asdict`, which copies every count of every block.
    data["splits"] = {
      name: {**vars(s), "shards": [vars(shard) for shard in s.shards]}
      for name, s in self.splits.items()
    }
    data["columns"] = [dataclasses.asdict(c) for c in self.columns]
    data["layout"] = dataclasses.asdict(self.layout)
    return {"format": FORMAT, "version": VERSION, **data}

  @classmethod
  def _from_dict(cls, data: Mapping[str, Any]) -> Manifest:
    def shard(d: Mapping[str, Any]) -> Shard:
      return Shard(**{**d, "blocks": tuple(map(tuple, d["blocks"]))})

    return cls(
      classes=tuple(data["classes"]),
      edges=tuple(data["edges"]),
      columns=tuple(Column(**c) for c in data["columns"]),
      layout=Layout(tuple(data["layout"]["particle"]), tuple(data["layout"]["event"])),
      schemas={name: Schema.from_dict(s) for name, s in data["schemas"].items()},
      splits={
        name: Split(tuple(map(shard, s["shards"])), tuple(s["multiplicity"]))
        for name, s in data["splits"].items()
      },
      sources=tuple(data["sources"]),
      settings=data["settings"],
      truncated=data["truncated"],
      versions=data["versions"],
    )


def file_digest(path: pathlib.Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
