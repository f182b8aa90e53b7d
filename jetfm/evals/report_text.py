"""The main results as a few lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from jetfm.evals.catalogue import TASKS, about
from jetfm.evals.metrics.measurement import Measurement
from jetfm.evals.report import RunResults, number

MAIN = (
  "reconstruction_gain",
  "gain_over_rank",
  "gain_over_interpolation",
  "direction_gain",
  "feature_gain",
  "accuracy",
  "accuracy_hadronic",
  "final_state_accuracy",
  "oracle_accuracy",
  "auc_ovo",
  "mass_r2",
  "mass_half_width",
  "gen_mass_r2",
  "gen_mass_resolution_gev",
  "gen_mass_half_width",
  "seed_mass_r2",
  "pt_kl",
  "pt_kl_equiprobable",
  "pt_kl_ratio",
  "w1_mass",
  "w1_multiplicity",
  "fpd",
  "chamfer",
  "chamfer_ratio",
  "chamfer_dr",
  "chamfer_dr_ratio",
  "multiplicity_error",
  "knn",
  "mlp1",
)
"""Metrics that the table shows, where a run has them."""


def results_text(runs: Sequence[RunResults]) -> str:
  """A line per main metric: its value in each run, and what it compares to."""
  rows: list[tuple[str, ...]] = [("", *(run.name for run in runs), "compare")]
  for task in TASKS:
    measured = [run.tasks.get(task, {}) for run in runs]
    for metric in MAIN:
      found = [m.get(metric) for m in measured]
      if any(m is not None for m in found):
        entry = about(metric)
        arrow = "↑" if entry.better == "higher" else "↓"
        unit = f" ({entry.unit})" if entry.unit else ""
        rows.append((f"{entry.label}{unit} {arrow}", *(_value(m) for m in found), _compared(found)))
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in rows
  )


def _value(m: Measurement | None) -> str:
  if m is None:
    return ""
  return "undefined" if m.value is None else number(m.value, m.error)


def _compared(found: Sequence[Measurement | None]) -> str:
  """What all runs compare to; from the smallest to the largest where each has its own."""
  words = []
  for what in ("reference", "baseline"):
    values: dict[str, list[float]] = {}
    for m in found:
      if m is not None and (value := getattr(m, what)) is not None:
        values.setdefault(getattr(m, f"{what}_kind"), []).append(value)
    for kind, numbers in values.items():
      ends = dict.fromkeys(number(value) for value in (min(numbers), max(numbers)))
      words.append(f"{' to '.join(ends)} {kind}")
  return ", ".join(words)
