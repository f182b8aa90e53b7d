"""Many files: in parallel processes, resumable file by file, with a progress line."""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TextIO

from jetfm.generate.generator import EVENTS_PER_CHUNK, generate_jets, take
from jetfm.generate.jet_table import JetTable
from jetfm.generate.processes import COMMON_SETTINGS, PROCESSES
from jetfm.generate.root_files import OutputError, read_provenance, remove_stale, write_jets

# To be raised whenever a change here gives other jets for the same seed.
REVISION = 1
_SECONDS_PER_LINE = 30.0


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
  files: Sequence[JetFile], processes: int = 1, stream: TextIO | None = None
) -> list[pathlib.Path]:
  """Makes the files that are not there yet, and returns the paths of all.

  A file that is there is kept when it was made with the same settings, seed and versions. Content
  does not depend on the number of processes. Progress goes to `stream` (stderr by default).

  Raises: OutputError when a file of other settings is in the way, the disk is full, or a process
    was killed. Complete files are kept, and nothing else is left under a final name.
  """
  folders = sorted({file.path.parent for file in files})
  for folder in folders:
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
  missing = [file for file in files if not _is_done(file)]
  with Progress(files, missing, stream or sys.stderr) as progress:
    if processes == 1:
      for file in missing:
        _make_file(file, progress.add)
        progress.finish_file()
    elif missing:
      _make_in_parallel(missing, processes, progress)
  return [file.path for file in files]


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


def _make_in_parallel(files: Sequence[JetFile], processes: int, progress: Progress) -> None:
  context = multiprocessing.get_context("spawn")
  count, stop = context.Value("q", 0), context.Event()
  executor = ProcessPoolExecutor(
    min(processes, len(files)), context, initializer=_start_worker, initargs=(count, stop)
  )
  try:
    waiting = {executor.submit(_work, file) for file in files}
    while waiting:
      done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
      progress.set(count.value)
      for future in done:
        future.result()
        progress.finish_file()
  except BrokenProcessPool:
    raise OutputError(
      "a process was killed (out of memory?): complete files are kept; run the same command again "
      "to continue, perhaps with a smaller --config.processes"
    ) from None
  finally:
    stop.set()
    executor.shutdown(wait=True, cancel_futures=True)


class Progress:
  """A line with jets, files, rate and time left: rewritten on a terminal, else one now and then."""

  def __init__(self, files: Sequence[JetFile], missing: Sequence[JetFile], stream: TextIO):
    self._stream, self._terminal = stream, stream.isatty()
    self._files, self._kept = len(files), len(files) - len(missing)
    self._total = sum(file.jets for file in missing)
    self._jets, self._done = 0, 0
    self._begin = self._last = time.monotonic()

  def __enter__(self) -> Progress:
    kept = f", {self._kept} files are there already" if self._kept else ""
    missing = self._files - self._kept
    self._stream.write(f"generating {self._total:,} jets in {missing} files{kept}\n")
    return self

  def __exit__(self, kind: Any, *_: Any) -> None:
    if self._total and kind is None:
      self._write(self._line())
    if self._terminal and self._total:
      self._stream.write("\n")
    self._stream.flush()

  def add(self, jets: int) -> None:
    """More jets were made."""
    self.set(self._jets + jets)

  def set(self, jets: int) -> None:
    """So many jets were made in all."""
    self._jets = jets
    now = time.monotonic()
    if now - self._last >= (0.2 if self._terminal else _SECONDS_PER_LINE):
      self._last = now
      self._write(self._line())

  def finish_file(self) -> None:
    """One more file is complete."""
    self._done += 1

  def _line(self) -> str:
    elapsed = time.monotonic() - self._begin
    rate = self._jets / max(elapsed, 1e-9)
    left = (self._total - self._jets) / rate if rate else float("nan")
    return (
      f"{self._jets:,}/{self._total:,} jets, {self._kept + self._done}/{self._files} files, "
      f"{rate:.0f} jets/s, {_clock(elapsed)} so far, {_clock(left)} left"
    )

  def _write(self, line: str) -> None:
    # The escape clears what a longer line before left behind.
    self._stream.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
    self._stream.flush()


def _clock(seconds: float) -> str:
  if seconds != seconds:
    return "?"
  minutes, seconds = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
