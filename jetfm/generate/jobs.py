"""Many files: in parallel processes, resumable file by file."""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from jetfm.generate.generator import EVENTS_PER_CHUNK, generate_jets, take
from jetfm.generate.jet_table import JetTable
from jetfm.generate.processes import COMMON_SETTINGS, PROCESSES
from jetfm.generate.root_files import OutputError, read_provenance, remove_stale, write_jets

# To be raised whenever a change here gives other jets for the same seed.
REVISION = 1


@dataclass(frozen=True)
class JetFile:
  """One file to be made.

  Attributes:
    path: where it goes.
    class_name: class of its jets.
    number: its number within the class.
    jets: how many jets it holds.
    seed: seed of the whole data set.
  """

  path: pathlib.Path
  class_name: str
  number: int
  jets: int
  seed: int

  def provenance(self) -> dict[str, Any]:
    """Everything that its content depends on."""
    process = PROCESSES[self.class_name]
    return {
      "class": self.class_name,
      "file_number": self.number,
      "jets": self.jets,
      "seed": self.seed,
      "revision": REVISION,
      "events_per_chunk": EVENTS_PER_CHUNK,
      "settings": [list(COMMON_SETTINGS), *map(list, process.settings)],
      "pythia8mc": importlib.metadata.version("pythia8mc"),
      "fastjet": importlib.metadata.version("fastjet"),
    }


def plan_files(
  out: pathlib.Path, classes: Sequence[str], jets_per_class: int, jets_per_file: int, seed: int
) -> list[JetFile]:
  """The files of a data set: `jets_per_class` jets of each class, the last file taking the rest."""
  files = []
  for name in classes:
    for number, first in enumerate(range(0, jets_per_class, jets_per_file)):
      path = out / f"{PROCESSES[name].prefix}_{number:03d}.root"
      files.append(JetFile(path, name, number, min(jets_per_file, jets_per_class - first), seed))
  return files


def make_files(
  files: Sequence[JetFile],
  processes: int = 1,
  progress: Callable[[int, int], None] | None = None,
) -> list[pathlib.Path]:
  """Makes the files that are not there yet, and returns their paths.

  A file that is there is kept when it was made with the same settings, seed and versions. Content
  does not depend on the number of processes.

  Args:
    files: what to make.
    processes: how many files to make at the same time.
    progress: called now and then with the jets made so far and the jets to be made.

  Raises: OutputError when a file of other settings is in the way, the disk is full, or a process
    was killed. Complete files are kept, and nothing else is left under a final name.
  """
  for folder in sorted({file.path.parent for file in files}):
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
  missing = [file for file in files if not _is_done(file)]
  total = sum(file.jets for file in missing)
  made = 0

  def add(jets: int) -> None:
    nonlocal made
    made += jets
    if progress is not None:
      progress(made, total)

  if processes == 1:
    for file in missing:
      _make_file(file, add)
  elif missing:
    _make_in_parallel(missing, processes, add)
  return [file.path for file in missing]


def _is_done(file: JetFile) -> bool:
  if not file.path.exists():
    return False
  found, wanted = read_provenance(file.path), file.provenance()
  different = sorted(key for key in wanted if found.get(key) != wanted[key])
  if different:
    listed = ", ".join(
      f"{k} {found.get(k)} (now {wanted[k]})" for k in different if k != "settings"
    )
    raise OutputError(
      f"'{file.path}' was made with other settings: {listed or 'Pythia settings'}. Give the "
      "settings of that run to continue it, or choose another folder with --config.out"
    )
  return True


def _make_file(file: JetFile, report: Callable[[int], None]) -> None:
  tables = take(generate_jets(file.class_name, file.seed, file.number), file.jets)
  write_jets(file.path, _reporting(tables, report), file.provenance())


def _reporting(tables: Iterator[JetTable], report: Callable[[int], None]) -> Iterator[JetTable]:
  for table in tables:
    report(len(table))
    yield table


# What a worker shares with its parent: the number of jets made, and the order to stop.
_shared: dict[str, Any] = {}


class _Stopped(Exception):
  """The parent asked to stop."""


def _start_worker(count: Any, stop: Any) -> None:
  # Ctrl-C reaches the whole process group; the parent alone decides what follows.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  _shared.update(count=count, stop=stop)


def _work(file: JetFile) -> None:
  parent = multiprocessing.parent_process()

  def report(jets: int) -> None:
    if _shared["stop"].is_set():
      raise _Stopped
    if parent is not None and not parent.is_alive():
      os._exit(1)
    with _shared["count"].get_lock():
      _shared["count"].value += jets

  with contextlib.suppress(_Stopped):
    _make_file(file, report)


def _make_in_parallel(files: Sequence[JetFile], processes: int, add: Callable[[int], None]) -> None:
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
