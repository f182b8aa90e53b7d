"""Blocks of events as bytes, and ArrayRecord files of blocks.

    block = header | column 0 | column 1 | ...

The header is four little-endian uint32: magic, events n, particles P, columns. Each column is one
contiguous little-endian buffer, (n,), (n, width) or (P, width) row by row, in the order of the
manifest's `columns`: four-byte types first, so that every buffer is aligned. A reader decodes
only the columns it wants. ArrayRecord keeps a hash of every record and refuses a damaged one.
"""

from __future__ import annotations

import dataclasses
import pathlib
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.events import Events, Layout

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"JFB1"
WRITER_OPTIONS = "group_size:1,uncompressed"
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


@dataclasses.dataclass(frozen=True)
class Column:
  """One buffer of a block: `per` is 'event' or 'particle', dtype as in numpy."""

  name: str
  per: str
  dtype: str
  width: int = 1


def columns_of(layout: Layout, integral: Sequence[str] = ()) -> tuple[Column, ...]:
  """Columns of a block; the particle columns named in `integral` are kept as int8."""
  floats = [Column(n, "particle", "<f4") for n in layout.particle if n not in integral]
  small = [Column(n, "particle", "|i1") for n in layout.particle if n in integral]
  return (
    Column("counts", "event", "<i4"),
    Column("label", "event", "<i4"),
    Column("event_id", "event", "<i4"),
    *(Column(name, "event", "<f4") for name in layout.event),
    Column("p4", "particle", "<f4", 4),
    *floats,
    *small,
  )


def encode(events: Events, layout: Layout, columns: Sequence[Column]) -> bytes:
  """The bytes of one block."""
  arrays = {
    "counts": events.counts,
    "label": events.label,
    "event_id": events.event_id,
    "p4": events.p4,
    **{name: events.values[:, i] for i, name in enumerate(layout.event)},
    **{name: events.features[:, i] for i, name in enumerate(layout.particle)},
  }
  header = _HEADER.pack(_MAGIC, len(events), len(events.p4), len(columns))
  return header + b"".join(
    np.ascontiguousarray(arrays[c.name]).astype(c.dtype, copy=False).tobytes() for c in columns
  )


def decode(data: bytes, layout: Layout, columns: Sequence[Column]) -> Events:
  """The block's events with the columns of `layout` only.

  Raises: DataError when the bytes are not a block of these columns.
  """
  if len(data) < _HEADER.size:
    raise DataError(f"a block of {len(data)} bytes is shorter than its header")
  magic, n, particles, num_columns = _HEADER.unpack_from(data)
  rows = {"event": n, "particle": particles}
  sizes = [np.dtype(c.dtype).itemsize * c.width * rows[c.per] for c in columns]
  want = _HEADER.size + sum(sizes)
  if magic != _MAGIC or num_columns != len(columns) or len(data) != want:
    raise DataError(
      f"not a block of the manifest's {len(columns)} columns: got {len(data)} bytes, magic "
      f"{magic!r} and {num_columns} columns, expected {want} bytes; ingest again"
    )
  offsets = dict(
    zip((c.name for c in columns), _HEADER.size + np.cumsum([0, *sizes[:-1]]), strict=True)
  )
  kinds = {c.name: c for c in columns}

  def column(name: str) -> np.ndarray:
    c = kinds[name]
    flat = np.frombuffer(data, c.dtype, rows[c.per] * c.width, int(offsets[name]))
    return flat.reshape(-1, c.width) if c.width > 1 else flat

  def matrix(names: Sequence[str], length: int) -> np.ndarray:
    out = np.empty((length, len(names)), np.float32)
    for i, name in enumerate(names):
      out[:, i] = column(name)
    return out

  counts = column("counts")
  if int(counts.sum()) != particles:
    raise DataError(
      f"a block's events have {int(counts.sum())} particles, its header says {particles}"
    )
  return Events(
    counts,
    column("p4"),
    matrix(layout.particle, particles),
    matrix(layout.event, n),
    column("label"),
    column("event_id"),
  )


def write_shard(path: pathlib.Path, blocks: Iterable[bytes]) -> None:
  """One ArrayRecord file.

  Raises: OSError when the file cannot be written, a full disk for example.
  """
  from array_record.python.array_record_module import ArrayRecordWriter

  try:
    writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
    for block in blocks:
      writer.write(block)
    writer.close()
  except RuntimeError as error:
    raise OSError(f"cannot write {path}: {str(error).split(';')[0]}") from None


class ShardReader:
  """Random access to the blocks of ArrayRecord files, with a bounded number of them open."""

  def __init__(self, directory: pathlib.Path, max_open: int = 64):
    self._directory, self._max_open = directory, max_open
    self._open: dict[str, Any] = {}

  def __getstate__(self):
    return {"_directory": self._directory, "_max_open": self._max_open, "_open": {}}

  def read(self, file: str, records: Sequence[int]) -> list[bytes]:
    """The blocks with these numbers.

    Raises: DataError for a missing or damaged file.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    path = self._directory / file
    try:
      reader = self._open.pop(file, None) or ArrayRecordReader(str(path), READER_OPTIONS)
      self._open[file] = reader  # the most recently used is last
      while len(self._open) > self._max_open:
        self._open.pop(next(iter(self._open))).close()
      return reader.read([int(r) for r in records])
    except (RuntimeError, IndexError, ValueError) as error:
      raise DataError(
        f"{path}: cannot read records {list(records)[:4]}: {str(error).split(';')[0]}. "
        "The file is damaged: restore it, or ingest again"
      ) from None
