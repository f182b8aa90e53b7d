"""Pass 1 of ingest: read, check, split, and scatter events into spools."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib

import numpy as np

from jetfm.data.checks import find_faults
from jetfm.data.errors import DataError
from jetfm.data.events import Layout, leading
from jetfm.data.kinds import kind_of
from jetfm.data.manifest import SPLITS
from jetfm.data.plan import HASHED, Settings
from jetfm.data.sources import Chunk, open_source
from jetfm.data.spool import Spool, SpoolWriter, mix64, seed64

CHUNK_EVENTS = 10_000  # about 100 MB with everything that is made of them
JOB_EVENTS = 50_000


@dataclasses.dataclass(frozen=True)
class ScatterJob:
  """A stretch of one file, and where the index of its runs goes, beside the spools."""

  file: int
  path: pathlib.Path
  split: str
  start: int
  stop: int
  first_event_id: int
  expected_class: int | None
  index: pathlib.Path


@dataclasses.dataclass
class ScatterReport:
  """What one job found.

  Attributes:
    spool: where its events are.
    multiplicity: (splits, longest + 1) histogram of particles per event.
    drops: events left out, by reason.
    truncated: events and particles cut at the last edge.
    integral: (F,) whether a particle column held only small integers.
    refused: why the whole file cannot be used, None when it can.
  """

  file: int
  spool: Spool
  multiplicity: np.ndarray
  drops: dict[str, int]
  truncated: np.ndarray
  integral: np.ndarray
  refused: str | None = None

  @property
  def kept(self) -> int:
    return int(self.multiplicity.sum())


def scatter(
  job: ScatterJob, layout: Layout, classes: tuple[str, ...], settings: Settings, buckets: int
) -> ScatterReport:
  """Reads one stretch of a file.

  Memory: a few times one chunk. Raises: DataError with `on_bad='error'` for the first bad event.
  """
  writer = SpoolWriter(job.index, layout)
  report = ScatterReport(
    job.file,
    writer.spool,
    np.zeros((len(SPLITS), settings.edges[-1] + 1), np.int64),
    {},
    np.zeros(2, np.int64),
    np.ones(len(layout.particle), bool),
  )
  try:
    with contextlib.closing(open_source(job.path, settings.branches, settings.inputs)) as source:
      labels = () if source.classes == () else classes
      for chunk in source.chunks(layout, labels, job.start, job.stop, CHUNK_EVENTS):
        if not labels:
          assert job.expected_class is not None, "the plan refuses such files"
          chunk.events.label[:] = job.expected_class
        good = _without_faults(chunk, layout, source.p4_names, job, settings, report)
        _scatter_chunk(chunk, good, job, settings, buckets, report, writer)
  except DataError as error:
    if settings.on_bad == "error":
      raise
    report.refused = str(error)
  finally:
    report.spool = writer.close()
  return report


def _scatter_chunk(
  chunk: Chunk,
  good: np.ndarray,
  job: ScatterJob,
  settings: Settings,
  buckets: int,
  report: ScatterReport,
  writer: SpoolWriter,
) -> None:
  events, lost = leading(chunk.events.select(good), settings.edges[-1])
  report.truncated += (int((lost > 0).sum()), int(lost.sum()))
  for i in np.flatnonzero(report.integral):
    report.integral[i] = _small_integers(events.features[:, i])
  event_id = events.event_id + np.int32(job.first_event_id)
  events = dataclasses.replace(events, event_id=event_id)
  split = _splits(chunk, job, settings)[good]
  np.add.at(report.multiplicity, (split, events.counts), 1)
  order = mix64(events.event_id, seed64("order", settings.seed))
  length_class = np.searchsorted(settings.edges, events.counts)
  bucket = (order >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
  key = (split * len(settings.edges) + length_class) * buckets + bucket.astype(np.int64)
  writer.write(events, order, key)


def _without_faults(
  chunk: Chunk,
  layout: Layout,
  p4_names: tuple[str, ...],
  job: ScatterJob,
  settings: Settings,
  report: ScatterReport,
) -> np.ndarray:
  """Indices of the usable events; counts the others, or raises for the first of them."""
  good = np.ones(len(chunk.events), bool)
  faults = find_faults(chunk, layout, p4_names, job.expected_class)
  if faults and settings.on_bad == "error":
    first = min(faults, key=lambda f: int(f.bad.argmax()))
    at = int(first.bad.argmax())
    entry = chunk.events.event_id[at]
    branch = settings.branches.get(first.branch, first.branch)
    raise DataError(
      f"{job.path.name}, entry {entry}, branch '{branch}': {first.of(at)}. "
      f"Mend the file, or leave such {kind_of(settings.inputs).what} out, counted, with "
      "--config.on_bad=drop"
    )
  for fault in faults:
    new = int((fault.bad & good).sum())
    if new:
      reason = f"{fault.reason} ({settings.branches.get(fault.branch, fault.branch)})"
      report.drops[reason] = report.drops.get(reason, 0) + new
    good &= ~fault.bad
  return np.flatnonzero(good)


def _splits(chunk: Chunk, job: ScatterJob, settings: Settings) -> np.ndarray:
  """(n,) split of each event: a hash of its number, or of its file's name and entry without one."""
  if job.split != HASHED:
    return np.full(len(chunk.events), SPLITS.index(job.split))
  if chunk.event_number is None:
    bits = mix64(chunk.events.event_id, seed64("split", settings.seed, job.path.name))
  else:
    bits = mix64(chunk.event_number, seed64("split", settings.seed))
  u = (bits >> np.uint64(11)) / 2.0**53
  return np.searchsorted(np.cumsum(settings.fractions)[:2], u, side="right")


def _small_integers(x: np.ndarray) -> bool:
  """Whether int8 holds every value bit by bit; minus zero it does not."""

  def fits(x: np.ndarray) -> bool:
    whole = (x == np.rint(x)) & (np.abs(x) <= 127)
    return bool(np.all(whole & ((x != 0) | ~np.signbit(x))))

  return fits(x[:100]) and fits(x)
