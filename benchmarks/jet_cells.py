"""Cells of the table of jets: what each trains, and what it is asked.

Stages of configs/lorentz_part.py are rows, and so are the same encoder without equivariant layers
(`part`), training on fractions of the labels, and weaver-core's ParT on the same jets, of the same
size (`weaver`) and of more parameters (`weaver_deeper`). All see the four published features and
nothing else.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cells import STARTS, Cell, Numbers
from benchmarks.weaver_cell import MORE_BLOCKS, weaver_cell
from jetfm.data import Manifest
from jetfm.evals.report import results_from_json

CONFIG = "configs/lorentz_part.py"
INPUTS = "kin4"
STAGES = ("classify", "regress", "generate", "super_resolve")
PREPARATIONS = ("pretrain", "part_pretrain")
ROWS = ("pretrain", *STAGES, *MORE_BLOCKS, "labels", "part")
FRACTIONS = (0.01, 1.0, 0.1)
"""Of the labels, in the order of work."""
TARGETS = ("seed_mass", "mass", "gen_mass")
ALWAYS = {
  "data__inputs": INPUTS,
  "stage__regress__tasks__regression__targets": TARGETS,
}
"""Keys that make the table what it is."""
SCRATCH = {"stage__classify__strategy": "full", "stage__classify__init_from": ""}
SEED_OF_ANSWERS = 0
"""Of what an evaluation draws: every cell is asked the same."""


def needs(cell: Cell) -> tuple[Cell, ...]:
  """The cells whose training this one starts from."""
  if cell.row in PREPARATIONS or cell.start == "scratch":
    return ()
  return (Cell("part_pretrain" if cell.row == "part" else "pretrain", cell.seed),)


def cells(seeds: int, rows: Sequence[str] = ROWS) -> list[Cell]:
  """In the order of work, each behind what it starts from: a whole table of one seed first."""
  wanted: list[Cell] = []
  for seed in range(seeds):
    for row in (row for row in ROWS if row in rows):
      if row == "labels":
        wanted += label_cells(seed)
      else:
        wanted.append(Cell(row, seed, start="scratch" if row in MORE_BLOCKS else "pretrained"))
  return list(dict.fromkeys(c for cell in wanted for c in (*needs(cell), cell)))


def label_cells(seed: int) -> list[Cell]:
  """Training on fractions of the labels; on all of them, pretrained, it is the row `classify`."""
  return [
    Cell(
      "classify" if (fraction, start) == (1.0, "pretrained") else "labels", seed, fraction, start
    )
    for fraction in FRACTIONS
    for start in STARTS
  ]


def run_cell(bench: Bench, cell: Cell) -> Numbers:
  """Trains what the cell needs, and asks it about the test split.

  Raises: OutOfTime, Failed.
  """
  workdir = bench.out / f"seed{cell.seed}"
  if cell.row in MORE_BLOCKS:
    return weaver_cell(bench, cell.row, cell.seed, INPUTS)
  if cell.row in ("part", "part_pretrain"):
    variant = bench.config.partition(":")[2]
    bench = dataclasses.replace(bench, config=f"{CONFIG}:{part_variant(variant)}")
    workdir = bench.out / "part" / f"seed{cell.seed}"
  if cell.row == "part_pretrain":
    bench.train(workdir, cell.seed, "pretrain", **ALWAYS)
    return {}
  if cell.row in ("pretrain", *STAGES, "part"):
    stage = "classify" if cell.row == "part" else cell.row
    return asked(bench, bench.train(workdir, cell.seed, stage, **ALWAYS).parent)
  total = Manifest.load(bench.data).splits["train"].num_events
  keys: dict[str, Any] = {"data__train_events": max(1, round(cell.fraction * total))}
  keys |= bench.few_labels("classify", keys["data__train_events"])
  if cell.start == "scratch":
    keys |= SCRATCH
  else:
    keys |= {"stage__classify__init_from": workdir / "pretrain" / "best"}
  folder = bench.out / f"labels_{cell.fraction:g}_{cell.start}" / f"seed{cell.seed}"
  return asked(bench, bench.train(folder, cell.seed, "classify", **ALWAYS, **keys).parent)


def part_variant(variant: str) -> str:
  """The variant of the config that is `variant` without its equivariant layers."""
  return "part" if variant == "base" else f"{variant}_part"


def asked(bench: Bench, stage: pathlib.Path) -> Numbers:
  """What launch.evaluate says of a stage on the test split.

  `METRIC`, `METRIC_error`, `METRIC_reference` (chance or floor), `METRIC_baseline`.
  """
  out = stage / "report"
  bench.launch(
    "launch.evaluate",
    f"--config.runs={stage}",
    f"--config.data={bench.data}",
    f"--config.out={out}",
    f"--config.seed={SEED_OF_ANSWERS}",
    "--config.figures=False",
    # A stage alone counts as the first of its run, whose encoder is probed.
    f"--config.probes={'mlp1' if stage.name == 'pretrain' else ''}",
    log=str(stage.relative_to(bench.out) / "log.txt"),
  )
  (run,) = results_from_json((out / "results.json").read_text())
  return {
    name: number
    for section in run.tasks.values()
    for metric, found in section.items()
    for name, number in (
      (metric, found.value),
      (f"{metric}_error", found.error),
      (f"{metric}_reference", found.reference),
      (f"{metric}_baseline", found.baseline),
    )
    if number is not None
  }
