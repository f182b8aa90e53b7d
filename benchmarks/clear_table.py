"""CLEAR's table: its data, and what is shown of its cells."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.clear_cells import FRACTIONS
from benchmarks.table_rows import (
  Comparison,
  Done,
  json_row,
  mean_and_spread,
  show_cost,
  show_gains,
  shown,
)
from jetfm.evals.published import CLEAR_STRATEGIES

VALID, TEST, LARGEST_FILE = 10_000, 30_000, 200_000
"""Events to choose checkpoints with, to ask about, and of one generated file."""

COLUMNS = {
  "accuracy": "accuracy",
  "accuracy_hadronic": "hadronic",
  "final_state_accuracy": "final state",
  "macro_f1": "macro F1",
}

HEADS = ("labels", "pretrained", "scratch")


def show(done: Done) -> list[dict[str, Any]]:
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
    detail = {column: mean_and_spread([v[column] for v in found]) for column in COLUMNS}
    columns = "".join(f"{shown(pair, len(found)):>18}" for pair in detail.values())
    print(f"{name:<18}{published:>11.4f}{columns}  {len(found)}")
    mean[name] = detail["accuracy"][0]
    about = {"published": published, "seeds": len(found)}
    unit, value = "% accuracy of 100 classes", 100 * mean[name]
    rows.append(json_row(f"clear_{name}", value, unit, None, None, **detail, **about))
  for values in [v for v in done.values() if "oracle_accuracy" in v][:1]:
    oracle, hadronic = values["oracle_accuracy"], values["oracle_accuracy_hadronic"]
    print(f"{'final-state oracle':<18}{'':>11}{oracle:>18.4f}{hadronic:>18.4f}")
    about = {"hadronic": hadronic, "test_events": values["events"]}
    rows.append(json_row("clear_oracle", 100 * oracle, "% accuracy", None, None, **about))
  frozen = [name for name in ("knn", "probe_1", "probe_2", "probe_3") if name in mean]
  best = max(frozen, key=mean.__getitem__, default="")
  for better, worse in (("class_attention", "probe_1"), ("differential", best)):
    if better in mean and worse in mean:
      gain = 100 * (mean[better] - mean[worse])
      name = f"clear_{better}_over_{'best_frozen' if worse == best else worse}"
      rows.append(json_row(name, gain, "points", "> 0", gain > 0, over=worse))
  return rows + show_gains(done, comparisons(), HEADS) + show_cost(done, "clear")


def comparisons() -> list[Comparison]:
  """Of training from an encoder that was pretrained without labels, and from one that saw them."""
  found = [
    Comparison(
      f"{fraction:.0%}",
      f"clear_pretraining_gain_{100 * fraction:g}_percent",
      ("labels", fraction, "pretrained"),
      ("labels", fraction, "scratch"),
    )
    for fraction in FRACTIONS
  ]
  taught = Comparison(
    "100% in both stages",
    "clear_taught_pretraining_gain_100_percent",
    ("differential", 1.0, "pretrained"),
    ("labels", 1.0, "scratch"),
  )
  return [*found, taught]


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
