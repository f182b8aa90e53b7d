"""Cells of a table of `benchmarks.reproduce`: made once, in order, and kept as files.

A cell is one row of a table for one seed, or something that others start from. What is there is not
made again, and a training that was ended goes on. Several cells can be made at a time: `work`
starts one when those that it needs are there.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.bench import Bench, Failed, OutOfTime
from jetfm.data import DataError
from launch import cli

STARTS = ("pretrained", "scratch")
SAID = (OutOfTime, Failed, DataError, cli.UserError)
"""What ends one cell in a line, and not the others."""

Numbers = dict[str, Any]
"""Of a cell by column; a word where another library made it: its `versions`."""


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
    if not isinstance(error, SAID):
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
