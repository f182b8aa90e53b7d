"""Parquet files with the branches of JetClass as columns, jagged ones as lists."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq

from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.jagged import JaggedFile
from jetfm.data.sources import Chunk

READ_BYTES = 1 << 16
"""Of a column at a time. Less than its pages, usually a megabyte: smaller ones would be kept."""


class ParquetSource:
  """A `Source`: one Parquet file, read in batches of rows."""

  splittable = False
  where = "table"

  def __init__(self, path: pathlib.Path, branches: Mapping[str, str]):
    self.path = path
    try:
      # By default the whole file is read ahead, whatever the size of the batches.
      self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES)
    except (pa.ArrowException, OSError) as error:
      raise _damaged(path, error) from None
    self.entries = self._file.metadata.num_rows
    self._jagged = JaggedFile(path, self.where, self._file.schema_arrow.names, branches)
    self.names, self.p4_names = self._jagged.names, self._jagged.p4_names
    self.classes: tuple[str, ...] | None = self._jagged.classes
    self.provides = self._jagged.provides

  def chunks(
    self, layout: Layout, classes: Sequence[str], start: int, stop: int, size: int
  ) -> Iterator[Chunk]:
    wanted = self._jagged.to_read(layout, classes)
    batches = self._file.iter_batches(size, columns=wanted)
    while True:
      try:
        batch = next(batches, None)
      except (pa.ArrowException, OSError) as error:
        raise _damaged(self.path, error) from None
      if batch is None:
        return
      yield self._jagged.to_chunk(ak.from_arrow(batch), layout, classes, start)
      start += len(batch)

  def close(self) -> None:
    self._file.close()


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
  return DataError(
    f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}). "
    "Copy it again, or leave it out (launch.ingest: --config.on_bad=drop)"
  )


def open_source(path: pathlib.Path, branches: Mapping[str, str]) -> ParquetSource:
  """Raises: DataError when the file is damaged, or lacks momenta or one of the `branches`."""
  return ParquetSource(path, branches)
