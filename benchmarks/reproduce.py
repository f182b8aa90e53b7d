"""The published tables: every way of fine-tuning CLEAR, every task of LorentzParT.

  python -m benchmarks.reproduce --table=clear|jets [--data=DATASET] [--out=FOLDER] [--variant=cpu]
      [--events=N] [--seeds=3] [--rows=ROWS] [--processes=1] [--budget=SECONDS]
      [--results=FILE.json] [LAUNCH.TRAIN-ARGUMENTS]

A cell is one row and one seed: trained by launch.train, asked on the whole test split. Label cells
train on a fraction of the labels, from an encoder that was pretrained without any, with learning
rates that fall block by block, and from scratch, at the full rate. Cells are kept in FOLDER: the
same command goes on where it was ended, also in the middle of a training. --rows=ROWS, separated by
commas, are the rows that are worked on, and what they start from; --processes=2 makes so many cells
at a time: a training of `cpu` keeps one core busy. When --budget is spent, what is finished is
shown. Further arguments go to every launch.train, such as --config.stage.pretrain.steps=5000;
another FOLDER is needed for other settings.

clear: stages of configs/clear.py on 60,000 events of training (--events), 10,000 to choose
checkpoints with and 30,000 to test with, generated where --data names none. Rows: knn, probe_1 ..
two_stage, labels. The stage pretrain of all but the labels' cells is taught by all labels; the
stages pretrain_views of these are not. With all labels the row `differential` stands below them.
Published accuracies are of 3 M events of the experiment's own simulation.

jets: stages of configs/lorentz_part.py on 80,000 generated jets of training and 10,000 each for
validation and test, with the four published features alone (kin4). Rows: pretrain, classify,
regress, generate, super_resolve, labels, part (no equivariant layers), weaver (weaver-core's ParT
of the same size on the same jets, in the peers' environment), weaver_deeper (a block more).
Published numbers are of 100,000 jets of JetClass, and count what jetfm.evals.metrics.seed says.

Only what is measured in one table can be compared strictly: published figures are of other samples.
The last line printed is JSON: a list of {"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks import clear_cells, clear_table, jet_cells, jet_table
from benchmarks.bench import Bench, Failed, OutOfTime, programs
from benchmarks.cells import Cell, Make, Needs, work
from benchmarks.result_file import write_result
from benchmarks.table_rows import Done
from jetfm.data import DataError, Manifest
from launch import cli

VARIANTS = ("tiny", "cpu", "short", "base")
SET_HERE = ("workdir", "seed", "stages", "data.directory")
"""Keys of launch.train that cells set."""


class Table(NamedTuple):
  """config: of launch.train; rows: to choose from; events: of training; always: keys of all cells.

  cells(seeds, rows) are those in the order of work, `make_data(bench, events, processes)` makes the
  data set, show(done) prints the tables and gives the rows of the JSON.
  """

  config: str
  rows: tuple[str, ...]
  events: int
  cells: Callable[[int, Sequence[str]], list[Cell]]
  needs: Needs
  make: Make
  make_data: Callable[[Bench, int, int], None]
  show: Callable[[Done], list[dict[str, Any]]]
  always: tuple[str, ...] = ()


TABLES = {
  "clear": Table(
    config=clear_cells.CONFIG,
    rows=clear_cells.ROWS,
    events=60_000,
    cells=clear_cells.cells,
    needs=clear_cells.needs,
    make=clear_cells.run_cell,
    make_data=clear_table.make_data,
    show=clear_table.show,
  ),
  "jets": Table(
    config=jet_cells.CONFIG,
    rows=jet_cells.ROWS,
    events=80_000,
    cells=jet_cells.cells,
    needs=jet_cells.needs,
    make=jet_cells.run_cell,
    make_data=jet_table.make_data,
    show=jet_table.show,
    always=tuple(key.replace("__", ".") for key in jet_cells.ALWAYS),
  ),
}


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
  parser.add_argument("--table", choices=tuple(TABLES), required=True)
  parser.add_argument("--data", type=pathlib.Path, help="data set of launch.ingest")
  parser.add_argument("--out", type=pathlib.Path, help="(default runs/reproduce_TABLE)")
  parser.add_argument("--variant", choices=VARIANTS, default="cpu", help="of the config")
  parser.add_argument("--events", type=int, help="of training, without --data")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--processes", type=int, default=1, help="cells made at the same time")
  parser.add_argument("--rows", help="(default all)")
  parser.add_argument("--results", type=pathlib.Path, help="file for tables, cells, machine")
  parser.add_argument("--budget", type=float, default=float("inf"), help="seconds")
  options, further = parser.parse_known_args(argv)
  table = TABLES[options.table]
  if unknown := [word for word in further if not word.startswith("--config.")]:
    parser.error(f"cannot use {unknown[0]}: further arguments are --config.KEY=VALUE")
  keys = [word.removeprefix("--config.").partition("=")[0] for word in further]
  if taken := [key for key in keys if key in (*SET_HERE, *table.always)]:
    parser.error(f"the table sets --config.{taken[0]} itself")
  rows_wanted = options.rows.split(",") if options.rows else table.rows
  if strange := [row for row in rows_wanted if row not in table.rows]:
    parser.error(f"no row '{strange[0]}'; there are {', '.join(table.rows)}")
  wanted = table.cells(options.seeds, rows_wanted)
  out = (options.out or pathlib.Path(f"runs/reproduce_{options.table}")).absolute()
  data = options.data.absolute() if options.data else out / "data"
  end = time.monotonic() + options.budget
  config = f"{table.config}:{options.variant}"
  bench = Bench(out, data, config, tuple(further), end, options.processes)
  events = table.events if options.events is None else options.events
  settings = {
    "table": options.table,
    "data": str(data),
    "events": None if options.data else events,
    "variant": options.variant,
    "arguments": further,
  }
  # Of a GPU, which this process and the trainings share.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  # So that a training ends with the command that began it.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  for name, value in programs(out).items():
    jax.config.update(name.lower(), float(value) if name.endswith("SECS") else value)
  try:
    bench.settings()
    if options.data:
      Manifest.load(data)
    claim(out, settings)
    if not options.data:
      table.make_data(bench, events, options.processes)
    done = work(bench, wanted, table.needs, table.make, options.processes)
  except OutOfTime:
    done = {}
  except (Failed, DataError, cli.UserError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  rows = table.show(done)
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
