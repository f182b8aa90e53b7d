"""The table of jets: its data, and what is shown of its cells beside the published numbers."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.jet_cells import FRACTIONS
from benchmarks.table_rows import (
  Comparison,
  Done,
  Side,
  json_row,
  mean_and_spread,
  show_cost,
  show_gains,
  shown,
  values_of,
)
from jetfm.evals.catalogue import about
from jetfm.evals.published import SEED

CLASSES = 10
PARTS = (0.8, 0.1, 0.1)
"""Of the jets in training, validation and test, as published: 80,000, 10,000 and 10,000."""

ASKED = {
  "classify": ("accuracy", "top3", "macro_f1", "auc_ovr"),
  "regress": ("seed_mass_r2", "seed_mass_mae", "seed_mass_mse", "seed_mass_resolution"),
  "generate": ("mmd_seed", "pt_kl_seed", "histogram_mse_seed"),
  "super_resolve": ("chamfer_seed", "pt_emd_seed", "multiplicity_error_seed"),
}
"""What was published, by row."""
OURS = {
  "pretrain": ("reconstruction_gain", "gain_over_interpolation", "direction_gain", "mlp1"),
  "regress": ("mass_r2", "gen_mass_r2"),
  "generate": ("fpd", "w1_mass", "w1_multiplicity"),
  "super_resolve": ("chamfer_ratio", "chamfer_dr_ratio", "multiplicity_error"),
}
"""What says more of the same models; `mlp1` is the linear probe, of 3,000 labelled jets."""
PRETRAINED, SCRATCH = ("classify", 1.0, "pretrained"), ("labels", 1.0, "scratch")
PART, WEAVER = ("part", 1.0, "pretrained"), ("weaver", 1.0, "scratch")
DEEPER = ("weaver_deeper", 1.0, "scratch")
TAGGERS = {
  "pretrained": ("", PRETRAINED),  # whose numbers are above, beside the published ones
  "from scratch": ("jets_scratch", SCRATCH),
  "without equivariant layers, pretrained": ("jets_part", PART),
  "weaver-core's ParT, from scratch": ("jets_weaver", WEAVER),
  "the same, one block more": ("jets_weaver_deeper", DEEPER),
}
"""Name in the JSON and place in the table, by title."""
COLUMNS = ("accuracy", "top3", "macro_f1", "auc_ovr", "auc_ovo")
LABELS = ("labels", "pretrained", "scratch")
OTHERS = ("comparison", "first", "second")


def show(done: Done) -> list[dict[str, Any]]:
  """Prints the tables; the rows of the JSON.

  The published numbers are targets although they are of other jets: they are what this library is
  to beat where it can be measured.
  """
  labels = [
    Comparison(
      f"{fraction:.0%}",
      f"jets_pretraining_gain_{100 * fraction:g}_percent",
      PRETRAINED if fraction == 1 else ("labels", fraction, "pretrained"),
      ("labels", fraction, "scratch"),
    )
    for fraction in sorted(FRACTIONS)
  ]
  others = [
    Comparison("from scratch over weaver-core's ParT", "jets_scratch_over_weaver", SCRATCH, WEAVER),
    Comparison("pretrained over the same", "jets_pretrained_over_weaver", PRETRAINED, WEAVER),
    Comparison("from scratch over a deeper one", "jets_scratch_over_deeper", SCRATCH, DEEPER),
    Comparison("pretrained over that", "jets_pretrained_over_deeper", PRETRAINED, DEEPER),
    Comparison("with equivariant layers over without", "jets_over_part", PRETRAINED, PART),
  ]
  return [
    *_beside_published(done),
    *_own(done),
    *_taggers(done),
    *show_gains(done, labels, LABELS),
    *show_gains(done, others, OTHERS),
    *show_cost(done, "jets"),
  ]


def strictest(metric: str) -> float:
  """The published number; the better one where the authors give two."""
  given = [numbers[metric] for numbers in (SEED.numbers, SEED.other) if metric in numbers]
  return max(given) if about(metric).better == "higher" else min(given)


def _beside_published(done: Done) -> list[dict[str, Any]]:
  rows = []
  print(f"{'metric':<32}{'published':>12}{'jetfm':>20}  seeds")
  for row, metrics in ASKED.items():
    for metric in metrics:
      found = list(values_of(done, (row, 1.0, "pretrained"), metric).values())
      published, higher = strictest(metric), about(metric).better == "higher"
      if not found:
        print(f"{metric:<32}{published:>12.4f}  (not finished)")
        continue
      mean, spread = pair = mean_and_spread(found)
      print(f"{metric:<32}{published:>12.4f}{shown(pair, len(found)):>20}  {len(found)}")
      target, holds = (">", mean > published) if higher else ("<", mean < published)
      name, unit, target = f"jets_{metric}", about(metric).unit, f"{target} {published}"
      rows.append(json_row(name, mean, unit, target, holds, spread=spread, seeds=len(found)))
  return rows


def _own(done: Done) -> list[dict[str, Any]]:
  rows = []
  for row, metrics in OURS.items():
    for metric in metrics:
      if found := list(values_of(done, (row, 1.0, "pretrained"), metric).values()):
        mean, spread = pair = mean_and_spread(found)
        print(f"{metric:<32}{'':>12}{shown(pair, len(found)):>20}  {len(found)}")
        name, unit = f"jets_{metric}", about(metric).unit
        rows.append(json_row(name, mean, unit, None, None, spread=spread, seeds=len(found)))
  return rows


def _taggers(done: Done) -> list[dict[str, Any]]:
  rows = []
  print(f"\n{'taggers':<40}" + "".join(f"{column:>18}" for column in COLUMNS) + "  seeds")
  for title, (name, side) in TAGGERS.items():
    found = {column: list(values_of(done, side, column).values()) for column in COLUMNS}
    seeds = len(found["accuracy"])
    if not seeds:
      print(f"{title:<40}  (not finished)")
      continue
    pairs = {column: mean_and_spread(values) for column, values in found.items()}
    print(f"{title:<40}" + "".join(f"{shown(p, seeds):>18}" for p in pairs.values()) + f"  {seeds}")
    if name:
      more: dict[str, Any] = {**pairs, "seeds": seeds, **_made_by(done, side)}
      mean = more.pop("accuracy")[0]
      rows.append(json_row(f"{name}_accuracy", mean, "", None, None, **more))
  return rows


def _made_by(done: Done, side: Side) -> dict[str, Any]:
  """Size and versions of another library's model."""
  return {
    name: values[name]
    for cell, values in done.items()
    if (cell.row, cell.fraction, cell.start) == side
    for name in ("parameters", "versions")
    if name in values
  }


def make_data(bench: Bench, jets: int, processes: int) -> None:
  """Generates and ingests jets, `jets` of them for training; what is there is kept.

  Files, and with them the jets, do not depend on the number of processes.
  """
  root = bench.out / "root"
  bench.launch(
    "launch.generate",
    f"--config.out={root}",
    f"--config.jets_per_class={-(-round(jets / PARTS[0]) // CLASSES)}",
    f"--config.processes={processes}",
  )
  bench.launch(
    "launch.ingest",
    f"--config.sources={root}",
    f"--config.out={bench.data}",
    f"--config.fractions={PARTS}",
    f"--config.processes={processes}",
  )
