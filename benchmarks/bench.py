"""How the commands behind a table of `benchmarks.reproduce` are run, and how long."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from jetfm.train import newest_progress
from launch import cli

GRACE = 60
"""Seconds that a training has to save what it reached."""
MOST_EPOCHS = 200
"""Of training on a fraction of the labels: few are learned by heart long before the usual end."""


class OutOfTime(Exception):
  """The budget is spent."""


class Failed(Exception):
  """A command ended with an error, or what it made is of no use."""


@dataclasses.dataclass(frozen=True)
class Bench:
  """Where everything is, how trainings are made, and until when there is time.

  config: FILE:VARIANT of launch.train; arguments: further ones of every training; processes: cells
  made at the same time.
  """

  out: pathlib.Path
  data: pathlib.Path
  config: str
  arguments: tuple[str, ...]
  end: float
  processes: int = 1
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
    """The config of every training, without the keys of single ones. Raises: UserError."""
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
