"""The published table of CLEAR: every way of fine-tuning, and what pretraining saves in labels.

  python -m benchmarks.reproduce --table=clear [--data=DATASET] [--out=FOLDER] [--variant=cpu]
      [--events=60000] [--seeds=3] [--rows=ROWS] [--processes=1] [--budget=SECONDS]
      [--results=FILE.json] [LAUNCH.TRAIN-ARGUMENTS]

Without --data so many events of training are generated and ingested, 10,000 to choose checkpoints
with and 30,000 to test with. A cell is one strategy and one seed: a
stage of configs/clear.py, trained by launch.train and asked on the whole test split. Label cells
train everything on 1 %, 10 % and 100 % of the training labels: from an encoder that was pretrained
on all events without labels (stage pretrain_views; the stage pretrain of the other cells is taught
by all labels), with learning rates that fall block by block, and from scratch, at the full rate.
With all labels, the row `differential` stands below them: there pretraining used the labels too.
Cells are kept in FOLDER: the same command goes on where it was ended, also in the middle of a
training. --rows=labels,knn,... are the rows that are worked on, and what they start from;
--processes=2 makes so many cells at a time: a training of `cpu` keeps one core busy. When --budget
is spent, what is finished is shown. Further arguments go to every launch.train, such as
--config.stage.pretrain.steps=5000; another FOLDER is needed for other settings.

Published accuracies are of 3 M events of the experiment's own simulation: ours are of another
sample, and only their order can be compared. The last line printed is JSON: a list of {"name",
"value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.clear_cells import (
  FRACTIONS,
  ROWS,
  STARTS,
  Bench,
  Cell,
  Failed,
  OutOfTime,
  cells,
  programs,
  work,
)
from benchmarks.result_file import write_result
from jetfm.data import DataError, Manifest
from jetfm.evals.published import CLEAR_STRATEGIES

VALID, TEST, LARGEST_FILE = 10_000, 30_000, 200_000
"""Events to choose checkpoints with, to ask about, and of one generated file."""

COLUMNS = {
  "accuracy": "accuracy",
  "accuracy_hadronic": "hadronic",
  "final_state_accuracy": "final state",
  "macro_f1": "macro F1",
}


def show(done: dict[Cell, dict[str, float]]) -> list[dict[str, Any]]:
  """Prints the tables; the rows of the JSON."""
  rows = []
  heads = "".join(f"{head:>18}" for head in COLUMNS.values())
  print(f"{'strategy':<18}{'published':>11}{heads}  seeds")
  mean: dict[str, float] = {}
  for name, published in CLEAR_STRATEGIES.items():
    found = [values for cell, values in done.items() if cell.row == name]
    if not found:
      print(f"{name:<18}{published:>11.4f}  (not finished)")
      continue
    detail = {column: _summary([v[column] for v in found]) for column in COLUMNS}
    columns = "".join(f"{_shown(pair, len(found)):>18}" for pair in detail.values())
    print(f"{name:<18}{published:>11.4f}{columns}  {len(found)}")
    mean[name] = detail["accuracy"][0]
    rows.append(
      _row(f"clear_{name}", 100 * mean[name], "% accuracy of 100 classes", None, None)
      | {"detail": detail | {"published": published, "seeds": len(found)}}
    )
  for values in [v for v in done.values() if "oracle_accuracy" in v][:1]:
    oracle, hadronic = values["oracle_accuracy"], values["oracle_accuracy_hadronic"]
    print(f"{'final-state oracle':<18}{'':>11}{oracle:>18.4f}{hadronic:>18.4f}")
    detail = {"hadronic": hadronic, "test_events": values["events"]}
    rows.append(_row("clear_oracle", 100 * oracle, "% accuracy", None, None) | {"detail": detail})
  frozen = [name for name in ("knn", "probe_1", "probe_2", "probe_3") if name in mean]
  best = max(frozen, key=mean.__getitem__, default="")
  for better, worse in (("class_attention", "probe_1"), ("differential", best)):
    if better in mean and worse in mean:
      gain = 100 * (mean[better] - mean[worse])
      name = f"clear_{better}_over_{'best_frozen' if worse == best else worse}"
      row = _row(name, gain, "points", "> 0", gain > 0)
      rows.append(row | {"detail": {"over": worse}})
  return rows + _show_labels(done) + _show_cost(done)


def _show_labels(done: dict[Cell, dict[str, float]]) -> list[dict[str, Any]]:
  rows = []
  print(f"\n{'labels':<20}{'pretrained':>18}{'from scratch':>18}{'gain in points':>18}  seeds")
  for fraction, row in [*((f, "labels") for f in FRACTIONS), (1.0, "differential")]:
    title = f"{fraction:.0%}" + (" in both stages" if row != "labels" else "")
    pretrained = _accuracies(done, row, fraction, "pretrained")
    scratch = _accuracies(done, "labels", fraction, "scratch")
    both = sorted(set(pretrained) & set(scratch))
    if not both:
      print(f"{title:<20}  (not finished)")
      continue
    found = {"pretrained": pretrained, "scratch": scratch}
    detail = {start: _summary([found[start][s] for s in both]) for start in STARTS}
    gain = _summary([100 * (pretrained[s] - scratch[s]) for s in both])
    columns = "".join(f"{_shown(pair, len(both)):>18}" for pair in detail.values())
    print(f"{title:<20}{columns}{_shown(gain, len(both), 2):>18}  {len(both)}")
    kind = "pretraining" if row == "labels" else "taught_pretraining"
    name = f"clear_{kind}_gain_{100 * fraction:g}_percent"
    rows.append(
      _row(name, gain[0], "points over training from scratch", "> 0", gain[0] > 0)
      | {"detail": detail | {"spread": gain[1], "seeds": len(both)}}
    )
  return rows


def _accuracies(
  done: dict[Cell, dict[str, float]], row: str, fraction: float, start: str
) -> dict[int, float]:
  """By seed."""
  return {
    cell.seed: values["accuracy"]
    for cell, values in done.items()
    if (cell.row, cell.fraction, cell.start) == (row, fraction, start)
  }


def _show_cost(done: dict[Cell, dict[str, float]]) -> list[dict[str, Any]]:
  """CPU time by row, for all seeds together: two idle cores need half of their sum."""
  spent: dict[str, float] = {}
  for cell, values in done.items():
    spent[cell.row] = spent.get(cell.row, 0.0) + values.get("cpu_seconds", 0.0)
  total = sum(spent.values())
  if not total:
    return []
  print(f"\nCPU time {total:.0f} s: {total / 120:.0f} minutes of two cores")
  detail = {"cpu_seconds": {row: round(x) for row, x in spent.items()}, "cells": len(done)}
  return [_row("clear_minutes_of_two_cores", total / 120, "min", None, None) | {"detail": detail}]


def _row(name: str, value: float, unit: str, target: str | None, holds: bool | None) -> dict:
  return {
    "name": name,
    "value": round(value, 2),
    "unit": unit,
    "target": target,
    "holds": holds,
    "detail": {},
  }


def _summary(values: Sequence[float]) -> tuple[float, float]:
  """Mean and standard deviation over seeds."""
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
  return round(float(np.mean(values)), 4), round(spread, 4)


def _shown(pair: tuple[float, float], seeds: int, digits: int = 4) -> str:
  text = f"{pair[0]:.{digits}f}"
  return f"{text} +- {pair[1]:.{digits}f}" if seeds > 1 else text


def make_data(bench: Bench, events: int, processes: int) -> None:
  """Generates and ingests events; what is there is kept.

  Files, and with them the events, do not depend on the number of processes.
  """
  total = events + VALID + TEST
  root = bench.out / "root"
  bench.launch(
    "launch.generate",
    "--config=configs/generate.py:jpsi",
    f"--config.out={root}",
    f"--config.events={total}",
    f"--config.events_per_file={min(-(-total // 2), LARGEST_FILE)}",
    f"--config.processes={processes}",
  )
  bench.launch(
    "launch.ingest",
    "--config=configs/ingest.py:bes",
    f"--config.sources={root}",
    f"--config.out={bench.data}",
    f"--config.fractions=({events / total!r},{VALID / total!r},{TEST / total!r})",
    f"--config.processes={processes}",
  )


def claim(out: pathlib.Path, settings: dict[str, Any]) -> None:
  """A folder of cells belongs to one way of making them. Raises: Failed for another."""
  path = out / "settings.json"
  out.mkdir(parents=True, exist_ok=True)
  if path.exists() and (there := json.loads(path.read_text())) != settings:
    raise Failed(f"{out} was made with {there}, now asked {settings}: give another --out")
  path.write_text(json.dumps(settings) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
  """Status 0 when every target holds and every cell is there, 1 when not, 2 after a mistake."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.reproduce",
    allow_abbrev=False,
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--table", choices=("clear",), required=True)
  parser.add_argument("--data", type=pathlib.Path, help="data set of launch.ingest, inputs bes")
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/reproduce_clear"))
  parser.add_argument("--variant", choices=("tiny", "cpu", "short", "base"), default="cpu")
  parser.add_argument("--events", type=int, default=60_000, help="of training, without --data")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--processes", type=int, default=1, help="cells made at the same time")
  parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
  parser.add_argument("--results", type=pathlib.Path, help="file for tables, cells, machine")
  parser.add_argument("--budget", type=float, default=float("inf"), help="seconds")
  options, further = parser.parse_known_args(argv)
  if unknown := [word for word in further if not word.startswith("--config.")]:
    parser.error(f"cannot use {unknown[0]}: further arguments are --config.KEY=VALUE")
  rows_wanted = options.rows.split(",")
  if strange := [row for row in rows_wanted if row not in ROWS]:
    parser.error(f"no row '{strange[0]}'; there are {', '.join(ROWS)}")
  wanted = cells(options.seeds, rows_wanted)
  out = options.out.absolute()
  data = options.data.absolute() if options.data else out / "data"
  end = time.monotonic() + options.budget
  bench = Bench(out, data, options.variant, tuple(further), end)
  settings = {
    "data": str(data),
    "events": None if options.data else options.events,
    "variant": options.variant,
    "arguments": further,
  }
  # So that a training ends with the command that began it.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  for name, value in programs(out).items():
    jax.config.update(name.lower(), float(value) if name.endswith("SECS") else value)
  try:
    if options.data:
      Manifest.load(data)
    claim(out, settings)
    if not options.data:
      make_data(bench, options.events, options.processes)
    done = work(bench, wanted, processes=options.processes)
  except OutOfTime:
    done = {}
  except (Failed, DataError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  rows = show(done)
  print(json.dumps(rows))
  if options.results:
    numbers = {cell.name: values for cell, values in done.items()}
    write_result(
      options.results,
      "benchmarks.reproduce",
      sys.argv[1:] if argv is None else argv,
      rows,
      seeds=list(range(options.seeds)),
      cells=numbers,
    )
  complete = len(done) == len(wanted)
  return 0 if complete and all(row["holds"] is not False for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
