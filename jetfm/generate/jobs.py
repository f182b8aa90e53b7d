"""Many files: in parallel processes, resumable file by file."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from jetfm.generate.root_files import OutputError, read_provenance, remove_stale, write_tables
from jetfm.generate.table import Table


class OutputFile(Protocol):
  """One file to be made; it goes to other processes by pickling."""

  @property
  def path(self) -> pathlib.Path:
    """Where it goes."""
    ...

  @property
  def count(self) -> int:
    """How many jets or events it holds."""
    ...

  def provenance(self) -> dict[str, Any]:
    """Everything that its content depends on, as JSON can hold it."""
    ...

  def tables(self) -> Iterator[Table]:
    """Its content, `count` entries in all."""
    ...


def make_files(
  files: Sequence[OutputFile],
  processes: int = 1,
  progress: Callable[[int, int], None] | None = None,
) -> list[pathlib.Path]:
  """Makes the files that are not there yet, and returns their paths.

  A file that is there is kept when it was made with the same settings, seed and versions. Content
  does not depend on the number of processes.

  Args:
    files: what to make.
    processes: how many files to make at the same time.
    progress: called now and then with the entries made so far and those to be made.

  Raises: OutputError when a file of other settings is in the way, the disk is full, or a process
    was killed. Complete files are kept, and nothing else is left under a final name.
  """
  for folder in sorted({file.path.parent for file in files}):
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
  missing = [file for file in files if not _is_done(file)]
  total = sum(file.count for file in missing)
  made = 0

  def add(entries: int) -> None:
    nonlocal made
    made += entries
    if progress is not None:
      progress(made, total)

  if processes == 1:
    for file in missing:
      _make_file(file, add)
  elif missing:
    _make_in_parallel(missing, processes, add)
  return [file.path for file in missing]


def _is_done(file: OutputFile) -> bool:
  if not file.path.exists():
    return False
  found, wanted = read_provenance(file.path), file.provenance()
  different = sorted(key for key in wanted if found.get(key) != wanted[key])
  if different:
    listed = ", ".join(
      f"{key} {found.get(key)} (now {wanted[key]})" if _is_short(wanted[key]) else f"other {key}"
      for key in different
    )
    raise OutputError(
      f"'{file.path}' was made with other settings: {listed}. Give the settings of that run to "
      "continue it, or choose another folder with --config.out"
    )
  return True


def _is_short(value: Any) -> bool:
  return not isinstance(value, (list, dict))


def _make_file(file: OutputFile, report: Callable[[int], None]) -> None:
  write_tables(file.path, _reporting(file.tables(), report), file.provenance())


def _reporting(tables: Iterator[Table], report: Callable[[int], None]) -> Iterator[Table]:
  for table in tables:
    report(len(table))
    yield table


# What a worker shares with its parent: the number of entries made, and the order to stop.
_shared: dict[str, Any] = {}


class _Stopped(Exception):
  """The parent asked to stop."""


def _start_worker(count: Any, stop: Any) -> None:
  # Ctrl-C reaches the whole process group; the parent alone decides what follows.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  _shared.update(count=count, stop=stop)


def _work(file: OutputFile) -> None:
  parent = multiprocessing.parent_process()

  def report(entries: int) -> None:
    if _shared["stop"].is_set():
      raise _Stopped
    if parent is not None and not parent.is_alive():
      os._exit(1)
    with _shared["count"].get_lock():
      _shared["count"].value += entries

  with contextlib.suppress(_Stopped):
    _make_file(file, report)


def _make_in_parallel(
  files: Sequence[OutputFile], processes: int, add: Callable[[int], None]
) -> None:
  context = multiprocessing.get_context("spawn")
  count, stop = context.Value("q", 0), context.Event()
  executor = ProcessPoolExecutor(
    min(processes, len(files)), context, initializer=_start_worker, initargs=(count, stop)
  )
  seen = 0
  try:
    waiting = {executor.submit(_work, file) for file in files}
    while waiting:
      done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
      now = count.value
      add(now - seen)
      seen = now
      for future in done:
        future.result()
  except BrokenProcessPool:
    raise OutputError(
      "a process was killed (out of memory?): complete files are kept; run the same command again "
      "to continue, perhaps with a smaller --config.processes"
    ) from None
  finally:
    stop.set()
    executor.shutdown(wait=True, cancel_futures=True)
