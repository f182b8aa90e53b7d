"""Cells of a table of `benchmarks.reproduce`: made once, worked off within a budget, kept as files.

A cell is one row of a table for one seed, or something that others start from. What is there is not
made again, and a training that was ended goes on. Several cells can be made at a time: `work`
starts one when those that it needs are there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jetfm.train import newest_progress
from launch import cli

GRACE = 60
"""Seconds that a training has to save what it reached."""
MOST_EPOCHS = 200
"""Of training on a fraction of the labels: few are learned by heart long before the usual end."""

STARTS = ("pretrained", "scratch")

Numbers = dict[str, float]


class OutOfTime(Exception):
  """The budget is spent."""


class Failed(Exception):
  """A command of a cell ended with an error."""


@dataclasses.dataclass(frozen=True)
class Cell:
  """A row of the table for one seed; `fraction` of the labels, and where training starts."""

  row: str
  seed: int
  fraction: float = 1.0
  start: str = "pretrained"

  @property
  def name(self) -> str:
    """Of its file."""
    if self.row == "labels":
      return f"labels_{self.fraction:g}_{self.start}-{self.seed}"
    return f"{self.row}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Bench:
  """Where everything is, how trainings are made, and until when there is time.

  config: FILE:VARIANT of launch.train; arguments: further ones of every training.
  """

  out: pathlib.Path
  data: pathlib.Path
  config: str
  arguments: tuple[str, ...]
  end: float
  running: set[subprocess.Popen] = dataclasses.field(default_factory=set)
  asking: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  """Of the models in this process: one at a time, so that their CPU time is known."""
  spent: threading.local = dataclasses.field(default_factory=threading.local)

  def left(self) -> float:
    """Seconds. Raises: OutOfTime when there are none."""
    left = self.end - time.monotonic()
    if left <= 0:
      raise OutOfTime
    return left

  def charge(self, cpu_seconds: float) -> None:
    """Adds to the CPU time of the cell that this thread works on."""
    self.spent.cpu = getattr(self.spent, "cpu", 0.0) + cpu_seconds

  def launch(self, *command: str, log: str = "log.txt") -> None:
    """Runs a module with this interpreter, as `run` does. Raises: OutOfTime, Failed."""
    self.run([sys.executable, "-m", *command], log)

  def run(self, command: Sequence[str], log: str) -> None:
    """Runs PYTHON -m MODULE; one that is there when time is up is asked to save and to end.

    Raises: OutOfTime, Failed.
    """
    timeout, path = self.left(), self.out / log
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**programs(self.out), **os.environ}
    with path.open("a") as file:
      process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
      self.running.add(process)
      try:
        self._wait(process, timeout)
      except subprocess.TimeoutExpired:
        self._end(process)
        raise OutOfTime from None
      except BaseException:
        self._end(process)
        raise
      finally:
        self.running.discard(process)
    if process.returncode:
      lines = path.read_text().splitlines()
      why = lines[-1] if lines else ""
      raise Failed(f"{command[2]} ended with status {process.returncode}: {why}")

  def _wait(self, process: subprocess.Popen, timeout: float) -> None:
    """Until the process has ended; its CPU time, which only wait4 tells, is charged."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
      pid, status, usage = os.wait4(process.pid, os.WNOHANG)
      if pid:
        process.returncode = os.waitstatus_to_exitcode(status)
        self.charge(usage.ru_utime + usage.ru_stime)
        return
      time.sleep(0.1)
    raise subprocess.TimeoutExpired(process.args, timeout)

  def _end(self, process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
      process.terminate()
    try:
      self._wait(process, GRACE)
    except subprocess.TimeoutExpired:
      process.kill()
      self._wait(process, GRACE)

  def train(self, workdir: pathlib.Path, seed: int, stage: str, **keys: Any) -> pathlib.Path:
    """Trains one stage of the config, and gives its best checkpoint.

    keys: of the config, with '__' for dots.
    """
    folder = workdir / stage
    progress = newest_progress(folder / "last")
    if progress is None or not progress["finished"]:
      given = [f"--config.{key.replace('__', '.')}={value}" for key, value in keys.items()]
      self.launch(
        "launch.train",
        f"--config={self.config}",
        f"--workdir={workdir}",
        f"--config.data.directory={self.data}",
        f"--config.seed={seed}",
        f"--config.stages={stage}",
        *self.arguments,
        *given,
        log=str(folder.relative_to(self.out) / "log.txt"),
      )
    return folder / "best"

  def settings(self) -> ConfigDict:
    """The config of every training, without the keys of single ones."""
    return cli.load_config(["", f"--config={self.config}", *self.arguments], "")

  def few_labels(self, stage: str, events: int) -> dict[str, int]:
    """Keys of `train` for so few events that `MOST_EPOCHS` end it early; none for more."""
    config = self.settings()
    steps = MOST_EPOCHS * events // config.data.batch_size
    if steps >= config.stage[stage].steps:
      return {}
    every = max(1, steps // 10)
    found = {"steps": max(1, steps), "eval_every": every, "save_every": every}
    found["optimizer__warmup"] = min(config.stage[stage].optimizer.warmup, steps // 2)
    return {f"stage__{stage}__{key}": number for key, number in found.items()}

  @contextlib.contextmanager
  def turn(self) -> Iterator[None]:
    """Of using a model in this process."""
    self.left()
    with self.asking:
      self.left()
      start = time.process_time()
      try:
        yield
      finally:
        self.charge(time.process_time() - start)


def programs(out: pathlib.Path) -> dict[str, str]:
  """Environment in which what was compiled for one cell is there for all: a small model's training
  takes less time than its compilation."""
  return {
    "JAX_COMPILATION_CACHE_DIR": str(out / "programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
  }


Make = Callable[[Bench, Cell], Numbers]
Needs = Callable[[Cell], tuple[Cell, ...]]


def work(
  bench: Bench, wanted: Sequence[Cell], needs: Needs, make: Make, processes: int = 1
) -> dict[Cell, Numbers]:
  """The wanted cells that are finished, also by earlier commands; what fails is said, left out.

  `needs` are the cells whose training one starts from, `make` trains and asks it.
  Each has `seconds` and `cpu_seconds` (user and system) beside its numbers, of all attempts but
  those that were killed.
  """
  folder = bench.out / "cells"
  folder.mkdir(parents=True, exist_ok=True)
  done: dict[Cell, Numbers] = {}
  for cell in wanted:
    if (path := folder / f"{cell.name}.json").exists():
      done[cell] = json.loads(path.read_text())
  todo = [cell for cell in wanted if cell not in done]
  given_up: set[Cell] = set()
  with concurrent.futures.ThreadPoolExecutor(processes) as pool:
    running: dict[concurrent.futures.Future, Cell] = {}
    try:
      while todo or running:
        for cell in list(todo):
          if len(running) < processes and not {*needs(cell)} & {*todo, *running.values()}:
            todo.remove(cell)
            if {*needs(cell)} & given_up:
              given_up.add(cell)
            else:
              running[pool.submit(_attempt, bench, cell, make, folder)] = cell
        ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in ended:
          cell, found = running.pop(future), future.result()
          if found is None:
            given_up.add(cell)
          else:
            done[cell] = found
    except BaseException:
      for process in list(bench.running):
        process.terminate()  # the threads wait for them
      raise
  return {cell: done[cell] for cell in wanted if cell in done}


def _attempt(bench: Bench, cell: Cell, make: Make, folder: pathlib.Path) -> Numbers | None:
  """The numbers of a cell, which are written too; None when it failed or time is up."""
  start, bench.spent.cpu = time.monotonic(), 0.0
  so_far = folder / f"{cell.name}.spent"
  spent: Mapping[str, float] = json.loads(so_far.read_text()) if so_far.exists() else {}

  def cost() -> Numbers:
    now = {"seconds": time.monotonic() - start, "cpu_seconds": bench.spent.cpu}
    return {name: round(value + spent.get(name, 0.0), 1) for name, value in now.items()}

  try:
    bench.left()
    found = make(bench, cell) | cost()
  except BaseException as error:  # also Ctrl-C: what was spent counts, whatever ended it
    so_far.write_text(json.dumps(cost()) + "\n")
    if not isinstance(error, (OutOfTime, Failed)):
      raise
    why = str(error) or "the budget is spent; the same command goes on"
    print(f"{cell.name}: {why}", file=sys.stderr)
    return None
  new = folder / f"{cell.name}.new"
  new.write_text(json.dumps(found) + "\n")
  new.replace(folder / f"{cell.name}.json")
  accuracy = f"accuracy {found['accuracy']:.4f}, " if "accuracy" in found else ""
  print(
    f"{cell.name}: {accuracy}{found['seconds']:.0f} s, CPU {found['cpu_seconds']:.0f} s",
    file=sys.stderr,
    flush=True,
  )
  return found
