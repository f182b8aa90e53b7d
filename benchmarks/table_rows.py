"""Rows of a table: JSON objects, means over seeds, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cell, Numbers

Done = Mapping[Cell, Numbers]


def json_row(
  name: str, value: float, unit: str, target: str | None, holds: bool | None, **detail: Any
) -> dict[str, Any]:
  """An object of the last line, with four significant digits."""
  found = {"name": name, "value": float(f"{value:.4g}"), "unit": unit}
  return found | {"target": target, "holds": holds, "detail": detail}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
  """Mean and standard deviation over seeds."""
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
  return round(float(np.mean(values)), 4), round(spread, 4)


def shown(pair: tuple[float, float], seeds: int, digits: int = 4) -> str:
  """Mean and spread; the mean alone of one seed."""
  text = f"{pair[0]:.{digits}f}"
  return f"{text} +- {pair[1]:.{digits}f}" if seeds > 1 else text


class Comparison(NamedTuple):
  """Two ways of training on the same labels; each is (row, fraction, start) of its cells."""

  title: str
  name: str
  pretrained: tuple[str, float, str]
  scratch: tuple[str, float, str]


def show_labels(done: Done, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
  """Prints what pretraining gains, seed by seed; a row for each comparison that has a seed."""
  rows = []
  print(f"\n{'labels':<20}{'pretrained':>18}{'from scratch':>18}{'gain in points':>18}  seeds")
  for title, name, *sides in comparisons:
    pretrained, scratch = (_accuracies(done, side) for side in sides)
    both = sorted(set(pretrained) & set(scratch))
    if not both:
      print(f"{title:<20}  (not finished)")
      continue
    detail = {
      "pretrained": mean_and_spread([pretrained[seed] for seed in both]),
      "scratch": mean_and_spread([scratch[seed] for seed in both]),
    }
    gain = mean_and_spread([100 * (pretrained[seed] - scratch[seed]) for seed in both])
    columns = "".join(f"{shown(pair, len(both)):>18}" for pair in detail.values())
    print(f"{title:<20}{columns}{shown(gain, len(both), 2):>18}  {len(both)}")
    unit, about = "points over training from scratch", {"spread": gain[1], "seeds": len(both)}
    rows.append(json_row(name, gain[0], unit, "> 0", gain[0] > 0, **detail, **about))
  return rows


def _accuracies(done: Done, side: tuple[str, float, str]) -> dict[int, float]:
  """By seed."""
  return {
    cell.seed: values["accuracy"]
    for cell, values in done.items()
    if (cell.row, cell.fraction, cell.start) == side
  }


def show_cost(done: Done, table: str) -> list[dict[str, Any]]:
  """CPU time by row, for all seeds together: two idle cores need half of their sum."""
  spent: dict[str, float] = {}
  for cell, values in done.items():
    spent[cell.row] = spent.get(cell.row, 0.0) + values.get("cpu_seconds", 0.0)
  total = sum(spent.values())
  if not total:
    return []
  print(f"\nCPU time {total:.0f} s: {total / 120:.0f} minutes of two cores")
  rounded = {name: round(x) for name, x in spent.items()}
  name = f"{table}_minutes_of_two_cores"
  return [json_row(name, total / 120, "min", None, None, cpu_seconds=rounded, cells=len(done))]
