"""Cells of CLEAR's table: what each trains, what it is asked, and how they are worked off.

A cell is one row of the table for one seed. Two more, `pretrain` and `pretrain_views`, have no row:
others start from what they train. Cells are files; what is there is not made again, and a training
that was ended goes on. Several cells can be made at a time: `work` starts one when those that it
needs are there.
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

import numpy as np

from configs.clear import get_config
from jetfm import inference
from jetfm.data import Manifest, open_dataset
from jetfm.evals.metrics import chain_summary, macro_f1
from jetfm.evals.probes import knn_probe
from jetfm.inference import Predictor
from jetfm.train import newest_progress
from jetfm.typing import Batch

CONFIG = "configs/clear.py"
STAGES = (
  "probe_1",
  "probe_2",
  "probe_3",
  "class_attention",
  "differential",
  "multi_task",
  "two_stage",
)
PREPARATIONS = ("pretrain", "pretrain_views")
ROWS = ("knn", *STAGES, "labels")
FRACTIONS = (0.01, 0.1, 1.0)
MOST_EPOCHS = 200
"""Of training on a fraction of the labels: few are learned by heart long before the usual end."""
STARTS = ("pretrained", "scratch")
LENGTHS = (16, 32, 64)
BATCH_SIZE = 512
GRACE = 60
"""Seconds that a training has to save what it reached."""

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
    if self.row == "labels":
      return f"labels_{self.fraction:g}_{self.start}-{self.seed}"
    return f"{self.row}-{self.seed}"

  @property
  def needs(self) -> tuple[Cell, ...]:
    """The cells whose training this one starts from."""
    if self.row in PREPARATIONS or self.start == "scratch":
      return ()
    if self.row == "labels":
      return (Cell("pretrain_views", self.seed),)
    before = ("pretrain", "class_attention") if self.row == "two_stage" else ("pretrain",)
    return tuple(Cell(row, self.seed) for row in before)


def cells(seeds: int, rows: Sequence[str] = ROWS) -> list[Cell]:
  """In the order of work: a whole table of one seed before the next."""
  out: list[Cell] = []
  for seed in range(seeds):
    wanted = [Cell(row, seed) for row in ROWS if row in rows and row != "labels"]
    if "labels" in rows:
      wanted += [Cell("labels", seed, f, start) for f in FRACTIONS for start in STARTS]
    needed = {before for cell in wanted for before in cell.needs} - set(wanted)
    order = (*PREPARATIONS, *STAGES)
    out += sorted(needed, key=lambda cell: order.index(cell.row))
    out += wanted
  return out


@dataclasses.dataclass(frozen=True)
class Bench:
  """Where everything is, and until when there is time."""

  out: pathlib.Path
  data: pathlib.Path
  variant: str
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
    """Runs a launcher; one that is still running when time is up is asked to save and to end.

    Raises: OutOfTime, Failed.
    """
    timeout, path = self.left(), self.out / log
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**programs(self.out), **os.environ}
    with path.open("a") as file:
      process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=file, stderr=file, env=environment
      )
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
      raise Failed(f"{command[0]} ended with status {process.returncode}: {why}")

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
    """Trains one stage of the config, and gives its best checkpoint."""
    folder = workdir / stage
    progress = newest_progress(folder / "last")
    if progress is None or not progress["finished"]:
      given = [f"--config.{key.replace('__', '.')}={value}" for key, value in keys.items()]
      self.launch(
        "launch.train",
        f"--config={CONFIG}:{self.variant}",
        f"--workdir={workdir}",
        f"--config.data.directory={self.data}",
        f"--config.seed={seed}",
        f"--config.stages={stage}",
        *self.arguments,
        *given,
        log=str(folder.relative_to(self.out) / "log.txt"),
      )
    return folder / "best"

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


def run_cell(bench: Bench, cell: Cell) -> Numbers:
  """Trains what the cell needs, and asks it about the test split.

  Raises: OutOfTime, Failed.
  """
  workdir = bench.out / f"seed{cell.seed}"
  if cell.row in PREPARATIONS:
    bench.train(workdir, cell.seed, cell.row)
    return {}
  if cell.row == "knn":
    return neighbours(bench, workdir / "pretrain" / "best")
  if cell.row != "labels":
    return asked(bench, bench.train(workdir, cell.seed, cell.row))
  total = Manifest.load(bench.data).splits["train"].num_events
  keys: dict[str, Any] = {"data__train_events": max(1, round(cell.fraction * total))}
  keys |= few_labels(bench.variant, keys["data__train_events"])
  if cell.start == "scratch":
    keys |= {"stage__differential__strategy": "full", "stage__differential__init_from": ""}
  else:
    keys |= {"stage__differential__init_from": workdir / "pretrain_views" / "best"}
  folder = bench.out / f"labels_{cell.fraction:g}_{cell.start}" / f"seed{cell.seed}"
  return asked(bench, bench.train(folder, cell.seed, "differential", **keys))


def few_labels(variant: str, events: int) -> dict[str, int]:
  """Keys of a training on so few events that `MOST_EPOCHS` end it early; none on more."""
  config = get_config(variant)
  steps = MOST_EPOCHS * events // config.data.batch_size
  if steps >= config.stage.differential.steps:
    return {}
  every = max(1, steps // 10)
  found = {"steps": max(1, steps), "eval_every": every, "save_every": every}
  return {f"stage__differential__{key}": number for key, number in found.items()}


def asked(bench: Bench, checkpoint: pathlib.Path) -> Numbers:
  """What a classifier reaches on the test split."""
  with bench.turn():
    predictor = _loaded(checkpoint)
    batches, label = read_split(bench.data, predictor, "test")
    return numbers(predictor.classify(batches), label, predictor.schema.classes)


def neighbours(bench: Bench, checkpoint: pathlib.Path) -> Numbers:
  """What the nearest neighbours in the frozen embedding reach."""
  with bench.turn():
    predictor = _loaded(checkpoint)
    found = []
    for split in ("train", "test"):
      batches, label = read_split(bench.data, predictor, split)
      found.append((predictor.embed(batches), label))
    (train, train_label), (test, label) = found
    keep, rows = train_label >= 0, label >= 0
    classes = predictor.schema.classes
    p = knn_probe(train[keep], train_label[keep], test[rows], len(classes))
    return numbers(p, label[rows], classes)


def _loaded(checkpoint: pathlib.Path) -> Predictor:
  return Predictor(inference.load(checkpoint).trained, LENGTHS, BATCH_SIZE)


def read_split(
  data: pathlib.Path, predictor: Predictor, split: str
) -> tuple[list[Batch], np.ndarray]:
  """All batches of a split, and the label of each row; that of filler is -1."""
  opened = open_dataset(data, predictor.schema.name, split, classes=predictor.schema.classes)
  loader = opened.loader(BATCH_SIZE, shuffle=False, epochs=1)
  batches = [batch for groups in loader.iterate() for batch in groups]
  label = np.concatenate([batch.label for batch in batches])
  return batches, np.where(np.concatenate([b.weight for b in batches]) > 0, label, -1)


def numbers(p: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> Numbers:
  """The columns of the table."""
  p, label = p[label >= 0], label[label >= 0]
  found = chain_summary(p, label, classes)
  out = {name: m.value for name, m in found.items() if m.value is not None}
  return {"accuracy": float((p.argmax(axis=1) == label).mean()), **out} | {
    "macro_f1": macro_f1(p, label),
    "events": len(label),
  }


Make = Callable[[Bench, Cell], Numbers]


def work(
  bench: Bench, wanted: Sequence[Cell], make: Make = run_cell, processes: int = 1
) -> dict[Cell, Numbers]:
  """The wanted cells that are finished, also by earlier commands; what fails is said, left out.

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
          if len(running) < processes and not set(cell.needs) & {*todo, *running.values()}:
            todo.remove(cell)
            if set(cell.needs) & given_up:
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
