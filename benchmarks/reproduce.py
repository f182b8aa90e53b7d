"""The published table of CLEAR: every way of fine-tuning, and what pretraining saves in labels.

  python -m benchmarks.reproduce --table=clear [--data=DATASET] [--out=FOLDER] [--variant=tiny]
      [--events=60000] [--seeds=3] [--rows=ROWS] [--budget=SECONDS] [LAUNCH.TRAIN-ARGUMENTS]

Without --data so many events are generated and ingested. A cell is one strategy and one seed: a
stage of configs/clear.py, trained by launch.train and asked on the whole test split. Label cells
train everything on 1 %, 10 % and 100 % of the training labels: from an encoder that was pretrained
on all events without labels (stage pretrain_views; the stage pretrain of the other cells is taught
by all labels), with learning rates that fall block by block, and from scratch, at the full rate.
Cells are kept in FOLDER: the same command goes on where it was ended, also in the middle of a
training. --rows=labels,knn,... are the rows that are worked on. When --budget
is spent, what is finished is shown. Further arguments go to every launch.train, such as
--config.stage.pretrain.steps=5000; another FOLDER is needed for other settings.

Published accuracies are of 3 M events of the experiment's own simulation: ours are of another
sample, and only their order can be compared. The last line printed is JSON: a list of {"name",
"value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jetfm import inference
from jetfm.data import DataError, Manifest, open_dataset
from jetfm.evals.metrics import chain_summary, macro_f1
from jetfm.evals.probes import knn_probe
from jetfm.evals.published import CLEAR_STRATEGIES
from jetfm.inference import Predictor
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
ROWS = ("knn", *STAGES, "labels")
FRACTIONS = (0.01, 0.1, 1.0)
STARTS = ("pretrained", "scratch")
LENGTHS = (8, 16, 24, 32, 64)
BATCH_SIZE = 512
GRACE = 60
"""Seconds that a training has to save what it reached."""


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


@dataclasses.dataclass(frozen=True)
class Bench:
  """Where everything is, and until when there is time."""

  out: pathlib.Path
  data: pathlib.Path
  variant: str
  arguments: tuple[str, ...]
  end: float

  def left(self) -> float:
    """Seconds. Raises: OutOfTime when there are none."""
    left = self.end - time.monotonic()
    if left <= 0:
      raise OutOfTime
    return left

  def launch(self, *command: str) -> None:
    """Runs a launcher; one that is still running when time is up is asked to save and to end.

    Raises: OutOfTime, Failed.
    """
    timeout = self.left()
    with (self.out / "log.txt").open("a") as log:
      process = subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log)
      try:
        status = process.wait(None if timeout == float("inf") else timeout)
      except subprocess.TimeoutExpired:
        process.terminate()
        _ended(process)
        raise OutOfTime from None
      except BaseException:
        process.terminate()
        _ended(process)
        raise
    if status:
      lines = (self.out / "log.txt").read_text().splitlines()
      raise Failed(f"{command[0]} ended with status {status}: {lines[-1] if lines else ''}")

  def train(self, workdir: pathlib.Path, seed: int, stage: str, **keys: Any) -> pathlib.Path:
    """Trains one stage of the config, and gives its best checkpoint."""
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
    )
    return workdir / stage / "best"


def _ended(process: subprocess.Popen) -> None:
  try:
    process.wait(GRACE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


def cells(seeds: int, rows: Sequence[str] = ROWS) -> list[Cell]:
  """In the order of work: a whole table of one seed before the next."""
  out = []
  for seed in range(seeds):
    out += [Cell(row, seed) for row in ROWS if row in rows and row != "labels"]
    if "labels" in rows:
      out += [Cell("labels", seed, f, start) for f in FRACTIONS for start in STARTS]
  return out


def run_cell(bench: Bench, cell: Cell) -> dict[str, float]:
  """Trains what the cell needs, and asks it about the test split.

  Raises: OutOfTime, Failed.
  """
  workdir = bench.out / f"seed{cell.seed}"
  if cell.row != "labels":
    pretrained = bench.train(workdir, cell.seed, "pretrain")
    if cell.row == "knn":
      return neighbours(bench, inference.load(pretrained))
    if cell.row == "two_stage":
      bench.train(workdir, cell.seed, "class_attention")
    return asked(bench, bench.train(workdir, cell.seed, cell.row))
  total = Manifest.load(bench.data).splits["train"].num_events
  keys: dict[str, Any] = {"data__train_events": max(1, round(cell.fraction * total))}
  if cell.start == "scratch":
    keys |= {"stage__differential__strategy": "full", "stage__differential__init_from": ""}
  else:
    pretrained = bench.train(workdir, cell.seed, "pretrain_views")
    keys |= {"stage__differential__init_from": pretrained}
  folder = bench.out / f"labels_{cell.fraction:g}_{cell.start}" / f"seed{cell.seed}"
  return asked(bench, bench.train(folder, cell.seed, "differential", **keys))


def asked(bench: Bench, checkpoint: pathlib.Path) -> dict[str, float]:
  """What a classifier reaches on the test split."""
  bench.left()
  predictor = _loaded(inference.load(checkpoint))
  batches, label = read_split(bench.data, predictor, "test")
  return numbers(predictor.classify(batches), label, predictor.schema.classes)


def neighbours(bench: Bench, predictor: Predictor) -> dict[str, float]:
  """What the nearest neighbours in the frozen embedding reach."""
  predictor = _loaded(predictor)
  found = []
  for split in ("train", "test"):
    bench.left()
    batches, label = read_split(bench.data, predictor, split)
    found.append((predictor.embed(batches), label))
  (train, train_label), (test, label) = found
  keep, rows = train_label >= 0, label >= 0
  classes = predictor.schema.classes
  p = knn_probe(train[keep], train_label[keep], test[rows], len(classes))
  return numbers(p, label[rows], classes)


def _loaded(predictor: Predictor) -> Predictor:
  return Predictor(predictor.trained, LENGTHS, BATCH_SIZE)


def read_split(
  data: pathlib.Path, predictor: Predictor, split: str
) -> tuple[list[Batch], np.ndarray]:
  """All batches of a split, and the label of each row; that of filler is -1."""
  opened = open_dataset(data, predictor.schema.name, split, classes=predictor.schema.classes)
  loader = opened.loader(BATCH_SIZE, shuffle=False, epochs=1)
  batches = [batch for groups in loader.iterate() for batch in groups]
  label = np.concatenate([batch.label for batch in batches])
  return batches, np.where(np.concatenate([b.weight for b in batches]) > 0, label, -1)


def numbers(p: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
  """The columns of the table."""
  p, label = p[label >= 0], label[label >= 0]
  found = chain_summary(p, label, classes)
  out = {name: m.value for name, m in found.items() if m.value is not None}
  return {"accuracy": float((p.argmax(axis=1) == label).mean()), **out} | {
    "macro_f1": macro_f1(p, label),
    "events": len(label),
  }


def work(
  bench: Bench,
  wanted: Sequence[Cell],
  make: Callable[[Bench, Cell], dict[str, float]] = run_cell,
) -> dict[Cell, dict[str, float]]:
  """The wanted cells that are finished, also by earlier commands; what fails is said, left out."""
  folder = bench.out / "cells"
  folder.mkdir(parents=True, exist_ok=True)
  done: dict[Cell, dict[str, float]] = {}
  spent = False
  for cell in wanted:
    path = folder / f"{cell.name}.json"
    if path.exists():
      done[cell] = json.loads(path.read_text())
      continue
    if spent:
      continue
    start = time.monotonic()
    try:
      bench.left()
      done[cell] = make(bench, cell)
    except OutOfTime:
      spent = True
      print(f"{cell.name}: the budget is spent; the same command goes on", file=sys.stderr)
      continue
    except Failed as error:
      print(f"{cell.name}: {error}", file=sys.stderr)
      continue
    new = path.with_suffix(".new")
    new.write_text(json.dumps(done[cell]) + "\n")
    new.replace(path)
    seconds = time.monotonic() - start
    print(f"{cell.name}: accuracy {done[cell]['accuracy']:.4f}, {seconds:.0f} s", file=sys.stderr)
  return done


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
  for values in list(done.values())[:1]:
    oracle, hadronic = values["oracle_accuracy"], values["oracle_accuracy_hadronic"]
    print(f"{'final-state oracle':<18}{'':>11}{oracle:>18.4f}{hadronic:>18.4f}")
    detail = {"hadronic": hadronic, "test_events": values["events"]}
    rows.append(_row("clear_oracle", 100 * oracle, "% accuracy", None, None) | {"detail": detail})
  for better, worse in (("class_attention", "probe_1"), ("differential", "probe_3")):
    if better in mean and worse in mean:
      gain = 100 * (mean[better] - mean[worse])
      rows.append(_row(f"clear_{better}_over_{worse}", gain, "points", "> 0", gain > 0))
  return rows + _show_labels(done)


def _show_labels(done: dict[Cell, dict[str, float]]) -> list[dict[str, Any]]:
  rows = []
  print(f"\n{'labels':<10}{'pretrained':>18}{'from scratch':>18}{'gain in points':>18}  seeds")
  for fraction in FRACTIONS:
    found: dict[str, dict[int, float]] = {
      start: {
        cell.seed: values["accuracy"]
        for cell, values in done.items()
        if (cell.row, cell.fraction, cell.start) == ("labels", fraction, start)
      }
      for start in STARTS
    }
    both = sorted(set(found["pretrained"]) & set(found["scratch"]))
    if not both:
      print(f"{fraction:<10.0%}  (not finished)")
      continue
    gains = [100 * (found["pretrained"][s] - found["scratch"][s]) for s in both]
    detail = {start: _summary([found[start][s] for s in both]) for start in STARTS}
    columns = "".join(f"{_shown(pair, len(both)):>18}" for pair in detail.values())
    gain = _summary(gains)
    print(f"{fraction:<10.0%}{columns}{_shown(gain, len(both), 2):>18}  {len(both)}")
    name = f"clear_pretraining_gain_{100 * fraction:g}_percent"
    rows.append(
      _row(name, gain[0], "points over training from scratch", "> 0", gain[0] > 0)
      | {"detail": detail | {"seeds": len(both)}}
    )
  return rows


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


def make_data(bench: Bench, events: int) -> None:
  """Generates and ingests events; what is there is kept."""
  root = bench.out / "root"
  bench.launch(
    "launch.generate",
    "--config=configs/generate.py:jpsi",
    f"--config.out={root}",
    f"--config.events={events}",
    f"--config.events_per_file={max(1, -(-events // 2))}",
    "--config.processes=2",
  )
  bench.launch(
    "launch.ingest",
    "--config=configs/ingest.py:bes",
    f"--config.sources={root}",
    f"--config.out={bench.data}",
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
  parser.add_argument("--variant", choices=("tiny", "base"), default="tiny")
  parser.add_argument("--events", type=int, default=60_000, help="to generate without --data")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
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
  try:
    claim(out, settings)
    if not options.data:
      make_data(bench, options.events)
    done = work(bench, wanted)
  except OutOfTime:
    done = {}
  except (Failed, DataError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  rows = show(done)
  print(json.dumps(rows))
  complete = len(done) == len(wanted)
  return 0 if complete and all(row["holds"] is not False for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
