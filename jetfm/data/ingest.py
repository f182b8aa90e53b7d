"""Files of jets -> block records, shuffled globally, with a manifest.

Two passes: `scatter` reads and checks files and spreads their events over temporary spools by
split, length class and hash; `assemble` gathers ranges of hashes into shards. Memory does not grow
with the data: per process it is some chunks of 10,000 events in pass 1, and about three times a
shard of `memory_megabytes / 4` in pass 2. The disk must hold the data twice while it works, beside
a data set that it replaces, which goes when the new one is whole.

The data set depends on the files, the settings and `memory_megabytes`, which sets the size of
shards; not on the number of processes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import numpy as np

from jetfm.data.assemble import AssembleJob, assemble, plan_shards
from jetfm.data.errors import DataError
from jetfm.data.manifest import FILE, SPLITS, Manifest, Shard, Split
from jetfm.data.moments import fit, merge
from jetfm.data.plan import Plan, Settings, SourceFile, list_files, make_plan
from jetfm.data.records import columns_of
from jetfm.data.scatter import JOB_EVENTS, ScatterJob, ScatterReport, scatter
from jetfm.data.spool import Runs, cut_runs, event_dtype, key_sizes, particle_width
from jetfm.data.workers import end_with_parent
from jetfm.locks import Busy, locked

WORK, LOCK = ".ingest", ".ingest.lock"
_TYPICAL_PARTICLES = 60
_PACKAGES = ("jetfm", "numpy", "jax", "array-record", "uproot", "awkward")
_SHARD = re.compile(rf"({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}\.arrayrecord")

Job = TypeVar("Job")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]


def ingest(
  sources: Mapping[str, str],
  out: str | os.PathLike[str],
  settings: Settings | None = None,
  processes: int = 1,
  memory_megabytes: int = 512,
  overwrite: bool = False,
  say: Callable[[str], None] = print,
  progress: Progress = lambda phase, done, total: None,
) -> Manifest:
  """Makes a data set, or keeps the one that is there when it is the same.

  Args:
    sources: comma-separated files, directories and globs by split: '' for files whose events are
      split by hash, 'train', 'valid', 'test' for files that belong to one split.
    out: directory of the data set.
    settings: what decides its content.
    processes: that read and write in parallel; 1 works in this process.
    memory_megabytes: rough bound of pass 2 per process.
    overwrite: replace another data set in `out`.
    say: gets lines worth printing.
    progress: gets (phase, done, in all): files of the phase 'check', events of 'read' and 'write'.

  Raises: DataError for bad data (see `Settings.on_bad`), a directory that holds something else, or
    a disk that is full, or another ingest into `out`. Whatever the end, without a manifest there is
    no data set.
  """
  settings = settings or Settings()
  out = pathlib.Path(out)
  files = list_files(sources, functools.partial(progress, "check"))

  def existing() -> Manifest | None:
    kept = _existing(out, files, settings, overwrite)
    if kept is not None:
      say(f"{out}: already complete, from the same files and settings; kept")
    return kept

  if (kept := existing()) is not None:
    return kept
  plan = make_plan(files, settings, say)
  try:
    with _work_folder(out) as work:
      if (kept := existing()) is not None:  # made by another run meanwhile
        return kept
      manifest = _write(plan, settings, work, processes, memory_megabytes, progress)
      _put_in_place(manifest, work, out)
  except Busy:
    raise DataError(f"another ingest is writing '{out}': wait for it, or stop it") from None
  except OSError as error:
    reason = error.strerror or str(error)
    raise DataError(
      f"cannot write the data set in {out}: {reason}. It needs about twice the size of the data "
      "while it works: free some space, or choose another directory"
    ) from None
  _say_what_is_left_out(plan, manifest, say)
  return manifest


@contextlib.contextmanager
def _work_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """An empty folder in `out` for this run alone; gone afterwards, whatever happens."""
  out.mkdir(parents=True, exist_ok=True)
  work, lock = out / WORK, out / LOCK
  with locked(lock):
    try:
      if work.exists():
        shutil.rmtree(work)  # what a killed run left
      work.mkdir()
      yield work
    finally:
      shutil.rmtree(work, ignore_errors=True)
      lock.unlink(missing_ok=True)


def _write(
  plan: Plan,
  settings: Settings,
  work: pathlib.Path,
  processes: int,
  memory_megabytes: int,
  progress: Progress,
) -> Manifest:
  """Both passes: the whole data set in `work`."""
  buckets, shard_bytes = _sizes(plan, memory_megabytes)
  reports = _scatter_all(plan, settings, work, buckets, processes, progress)
  spools = [report.spool for report in reports]
  sizes = key_sizes(spools, len(SPLITS) * len(settings.edges) * buckets)
  shards = plan_shards(sizes, settings.edges, plan.layout, shard_bytes)
  runs = cut_runs(spools, [*(s.first for s in shards), shards[-1].last], work / "cuts")
  manifest = _assemble_all(plan, settings, work, runs, shards, reports, processes, progress)
  manifest.save(work)
  return manifest


def _existing(
  out: pathlib.Path, files: Sequence[SourceFile], settings: Settings, overwrite: bool
) -> Manifest | None:
  """The data set in `out` when it is the one that is asked for."""
  if not (out / FILE).exists():
    return None
  try:
    manifest = Manifest.load(out)
    differs = _difference(manifest, files, settings)
  except DataError as error:
    differs = str(error)
  if not differs:
    return manifest
  if not overwrite:
    raise DataError(
      f"{out} holds another data set ({differs}); use --config.overwrite=True to replace it, or "
      "another --config.out"
    )
  return None


def _difference(manifest: Manifest, files: Sequence[SourceFile], settings: Settings) -> str:
  asked, default = _settings_dict(settings), _settings_dict(Settings())
  had = default | dict(manifest.settings)  # a data set may be older than a setting
  for key, value in asked.items():
    if had[key] != value:
      return f"{key} {had[key]} instead of {value}"

  def identity(split: str, path: str, sha256: str) -> tuple[str, str, str]:
    return split, pathlib.Path(path).name, sha256

  before = {identity(s["split"], s["path"], s["sha256"]) for s in manifest.sources}
  now = {identity(f.split, str(f.path), f.sha256) for f in files}
  return f"other source files: {len(now ^ before)} differ" if now != before else ""


def _settings_dict(settings: Settings) -> dict[str, Any]:
  """As JSON would give it back."""
  data = dict(vars(settings))
  return {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}


def _put_in_place(manifest: Manifest, work: pathlib.Path, out: pathlib.Path) -> None:
  """Moves a whole data set from `work` to `out`, instead of the one that is there."""
  try:
    _remove_data_set(out)
    for name in (*(s.file for split in manifest.splits.values() for s in split.shards), FILE):
      os.replace(work / name, out / name)
  except BaseException:
    _remove_data_set(out)
    raise


def _remove_data_set(out: pathlib.Path) -> None:
  """Removes a data set, its manifest first; touches nothing else in the directory."""
  (out / FILE).unlink(missing_ok=True)
  for path in out.iterdir():
    if _SHARD.fullmatch(path.name):
      path.unlink()


def _say_what_is_left_out(plan: Plan, manifest: Manifest, say: Callable[[str], None]) -> None:
  planned, stored = (next(iter(schemas.values())) for schemas in (plan.schemas, manifest.schemas))
  if lost := [t.name for t in planned.targets if t.name not in {s.name for s in stored.targets}]:
    say(f"left out of the schema: {', '.join(lost)} (0 for every event of the training split)")


def _sizes(plan: Plan, memory_megabytes: int) -> tuple[int, int]:
  """Buckets per split and length class, and the largest shard in bytes."""
  shard_bytes = max(memory_megabytes, 4) * 2**20 // 4
  row = event_dtype(plan.layout).itemsize + _TYPICAL_PARTICLES * 4 * particle_width(plan.layout)
  total = sum(f.entries for f in plan.files)
  # Four times finer than shards of typical jets need; shards join neighbouring buckets.
  return int(np.clip(4 * total * row // shard_bytes, 1, 8192)), shard_bytes


def _scatter_all(
  plan: Plan,
  settings: Settings,
  work: pathlib.Path,
  buckets: int,
  processes: int,
  progress: Progress,
) -> list[ScatterReport]:
  """Pass 1: the reports of the files that can be used."""
  jobs = _scatter_jobs(plan, work)
  run = functools.partial(
    scatter, layout=plan.layout, classes=plan.classes, settings=settings, buckets=buckets
  )
  total = sum(f.entries for f in plan.files)
  reports: list[ScatterReport] = []
  done = 0
  progress("read", 0, total)
  for job, report in zip(jobs, _run(run, jobs, processes), strict=True):
    reports.append(report)
    done += job.stop - job.start
    progress("read", done, total)
  return _account(plan, reports)


def _assemble_all(
  plan: Plan,
  settings: Settings,
  work: pathlib.Path,
  runs: Runs,
  tasks: Sequence[AssembleJob],
  used: Sequence[ScatterReport],
  processes: int,
  progress: Progress,
) -> Manifest:
  """Pass 2: the shards, in `work`, and the manifest that describes them."""
  layout, edges = plan.layout, settings.edges
  integral = np.all([r.integral for r in used], axis=0)
  columns = columns_of(layout, [n for n, i in zip(layout.particle, integral, strict=True) if i])
  schemas = tuple(plan.schemas.values())
  run_assemble = functools.partial(
    assemble,
    runs=runs,
    layout=layout,
    columns=columns,
    schemas=schemas,
    num_classes=len(plan.classes),
    block_events=settings.block_events,
    longest=edges[-1],
    directory=work,
  )
  shards: dict[str, list[Shard]] = {name: [] for name in SPLITS}
  moments = []
  done, total = 0, sum(r.kept for r in used)
  progress("write", 0, total)
  for task, (shard, new) in zip(tasks, _run(run_assemble, tasks, processes), strict=True):
    shards[task.split].append(shard)
    moments.append(new)
    done += sum(map(sum, shard.blocks))
    progress("write", done, total)
  fitted = merge(moments)
  multiplicity = np.sum([r.multiplicity for r in used], axis=0)
  truncated = np.sum([r.truncated for r in used], axis=0)
  return Manifest(
    classes=plan.classes,
    edges=edges,
    columns=columns,
    layout=layout,
    schemas={name: fit(schema, fitted) for name, schema in plan.schemas.items()},
    splits={
      name: Split(tuple(shards[name]), tuple(multiplicity[i].tolist()))
      for i, name in enumerate(SPLITS)
    },
    sources=tuple(f.to_dict() for f in plan.files),
    settings=_settings_dict(settings),
    truncated={"events": int(truncated[0]), "particles": int(truncated[1])},
    versions={name: _version(name) for name in _PACKAGES},
  )


def _scatter_jobs(plan: Plan, work: pathlib.Path) -> list[ScatterJob]:
  jobs: list[ScatterJob] = []
  for i, file in enumerate(plan.files):
    if file.refused:
      continue
    size = JOB_EVENTS if file.splittable else max(file.entries, 1)
    for start in range(0, file.entries, size):
      stop = min(start + size, file.entries)
      index = work / f"index-{len(jobs):06d}"
      jobs.append(
        ScatterJob(
          i,
          file.path,
          file.split,
          start,
          stop,
          file.first_event_id,
          file.expected_class,
          index,
        )
      )
  return jobs


def _account(plan: Plan, reports: Sequence[ScatterReport]) -> list[ScatterReport]:
  """Enters what happened in the plan's files; the reports of those that can be used."""
  for report in reports:
    file = plan.files[report.file]
    file.refused = file.refused or report.refused
  used = []
  for report in reports:
    file = plan.files[report.file]
    if file.refused:
      continue
    file.kept += report.kept
    for reason, n in report.drops.items():
      file.drops[reason] = file.drops.get(reason, 0) + n
    used.append(report)
  if not any(r.kept for r in used):
    raise DataError("no usable events in any of the files")
  return used


def _run(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
  """Results in the order of the jobs, from this process or from several."""
  if processes <= 1:
    yield from map(work, jobs)
    return
  others = set(multiprocessing.active_children())
  pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker)
  try:
    yield from pool.map(work, jobs)
  except BrokenProcessPool:
    raise DataError(
      "a worker process died: for lack of memory (use fewer --config.processes, or a smaller "
      "--config.memory_megabytes), or because the calling script has no `if __name__ == '__main__'`"
    ) from None
  finally:
    pool.shutdown(wait=False, cancel_futures=True)
    for child in set(multiprocessing.active_children()) - others:
      child.terminate()
      child.join()


def _start_worker() -> None:
  import jax

  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
  end_with_parent()
  jax.config.update("jax_platforms", "cpu")


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "not installed"
