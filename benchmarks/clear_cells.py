"""Cells of CLEAR's table: what each trains, and what it is asked.

A cell is one row of the table for one seed. Two more, `pretrain` and `pretrain_views`, have no row:
others start from what they train.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.cells import STARTS, Cell, Numbers
from jetfm import inference
from jetfm.data import Manifest, open_dataset
from jetfm.evals.metrics import chain_summary, macro_f1
from jetfm.evals.probes import knn_probe
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
PREPARATIONS = ("pretrain", "pretrain_views")
ROWS = ("knn", *STAGES, "labels")
FRACTIONS = (0.01, 0.1, 1.0)
LENGTHS = (16, 32, 64)
BATCH_SIZE = 512


def needs(cell: Cell) -> tuple[Cell, ...]:
  """The cells whose training this one starts from."""
  if cell.row in PREPARATIONS or cell.start == "scratch":
    return ()
  if cell.row == "labels":
    return (Cell("pretrain_views", cell.seed),)
  before = ("pretrain", "class_attention") if cell.row == "two_stage" else ("pretrain",)
  return tuple(Cell(row, cell.seed) for row in before)


def cells(seeds: int, rows: Sequence[str] = ROWS) -> list[Cell]:
  """In the order of work: a whole table of one seed before the next."""
  out: list[Cell] = []
  for seed in range(seeds):
    wanted = [Cell(row, seed) for row in ROWS if row in rows and row != "labels"]
    if "labels" in rows:
      wanted += [Cell("labels", seed, f, start) for f in FRACTIONS for start in STARTS]
    needed = {before for cell in wanted for before in needs(cell)} - set(wanted)
    order = (*PREPARATIONS, *STAGES)
    out += sorted(needed, key=lambda cell: order.index(cell.row))
    out += wanted
  return out


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
  keys |= bench.few_labels("differential", keys["data__train_events"])
  if cell.start == "scratch":
    keys |= {"stage__differential__strategy": "full", "stage__differential__init_from": ""}
  else:
    keys |= {"stage__differential__init_from": workdir / "pretrain_views" / "best"}
  folder = bench.out / f"labels_{cell.fraction:g}_{cell.start}" / f"seed{cell.seed}"
  return asked(bench, bench.train(folder, cell.seed, "differential", **keys))


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
