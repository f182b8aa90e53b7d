"""The table of jets: its data, and what is shown of its cells beside the published numbers."""

from __future__ import annotations

from typing import Any

from benchmarks.cells import Bench
from benchmarks.jet_cells import FRACTIONS
from benchmarks.table_rows import (
  Comparison,
  Done,
  json_row,
  mean_and_spread,
  show_cost,
  show_labels,
  shown,
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
"""What says more of the same models; benchmarks/results/README.md says why."""
TAGGERS = {
  "pretrained": ("classify", 1.0, "pretrained"),
  "from scratch": ("labels", 1.0, "scratch"),
  "without equivariant layers, pretrained": ("part", 1.0, "pretrained"),
  "weaver-core's ParT, from scratch": ("weaver", 1.0, "pretrained"),
}
COLUMNS = ("accuracy", "top3", "macro_f1", "auc_ovr", "auc_ovo")


def show(done: Done) -> list[dict[str, Any]]:
  """Prints the tables; the rows of the JSON."""
  rows = _beside_published(done) + _own(done) + _taggers(done)
  comparisons = [
    Comparison(
      f"{fraction:.0%}",
      f"jets_pretraining_gain_{100 * fraction:g}_percent",
      ("classify" if fraction == 1 else "labels", fraction, "pretrained"),
      ("labels", fraction, "scratch"),
    )
    for fraction in sorted(FRACTIONS)
  ]
  return rows + show_labels(done, comparisons) + show_cost(done, "jets")


def strictest(metric: str) -> float:
  """The published number; the better one where the authors give two."""
  given = [numbers[metric] for numbers in (SEED.numbers, SEED.other) if metric in numbers]
  return max(given) if about(metric).better == "higher" else min(given)


def _beside_published(done: Done) -> list[dict[str, Any]]:
  rows = []
  print(f"{'metric':<32}{'published':>12}{'jetfm':>20}  seeds")
  for name, metrics in ASKED.items():
    for metric in metrics:
      found = _values(done, (name, 1.0, "pretrained"), metric)
      published, higher = strictest(metric), about(metric).better == "higher"
      if not found:
        print(f"{metric:<32}{published:>12.4f}  (not finished)")
        continue
      pair = mean_and_spread(found)
      print(f"{metric:<32}{published:>12.4f}{shown(pair, len(found)):>20}  {len(found)}")
      target = f"{'>' if higher else '<'} {published}"
      holds = pair[0] > published if higher else pair[0] < published
      spread = {"spread": pair[1], "seeds": len(found)}
      rows.append(json_row(f"jets_{metric}", pair[0], about(metric).unit, target, holds, **spread))
  return rows


def _own(done: Done) -> list[dict[str, Any]]:
  rows = []
  for name, metrics in OURS.items():
    for metric in metrics:
      if found := _values(done, (name, 1.0, "pretrained"), metric):
        pair = mean_and_spread(found)
        print(f"{metric:<32}{'':>12}{shown(pair, len(found)):>20}  {len(found)}")
        spread = {"spread": pair[1], "seeds": len(found)}
        rows.append(json_row(f"jets_{metric}", pair[0], about(metric).unit, None, None, **spread))
  return rows


def _taggers(done: Done) -> list[dict[str, Any]]:
  rows = []
  print(f"\n{'taggers':<40}" + "".join(f"{column:>18}" for column in COLUMNS) + "  seeds")
  for title, side in TAGGERS.items():
    found = {column: _values(done, side, column) for column in COLUMNS}
    seeds = len(found["accuracy"])
    if not seeds:
      print(f"{title:<40}  (not finished)")
      continue
    pairs = {column: mean_and_spread(values) for column, values in found.items()}
    print(f"{title:<40}" + "".join(f"{shown(p, seeds):>18}" for p in pairs.values()) + f"  {seeds}")
    name = f"jets_{'_'.join(side[::2] if side[0] == 'labels' else side[:1])}_accuracy"
    rows.append(json_row(name, pairs["accuracy"][0], "", None, None, seeds=seeds, **pairs))
  ours, theirs = (_values(done, TAGGERS[t], "accuracy") for t in list(TAGGERS)[::3])
  if ours and theirs:
    gain = 100 * (mean_and_spread(ours)[0] - mean_and_spread(theirs)[0])
    rows.append(json_row("jets_over_weaver", gain, "points of accuracy", "> 0", gain > 0))
  return rows


def _values(done: Done, side: tuple[str, float, str], metric: str) -> list[float]:
  """Of all seeds."""
  return [
    values[metric]
    for cell, values in done.items()
    if (cell.row, cell.fraction, cell.start) == side and metric in values
  ]


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
