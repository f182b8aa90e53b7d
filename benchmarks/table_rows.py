"""Rows of a table: JSON objects, means over seeds, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cell, Numbers

Done = Mapping[Cell, Numbers]
Side = tuple[str, float, str]
"""row, fraction and start of the cells of one way of training."""


def json_row(
  name: str, value: float, unit: str, target: str | None, holds: bool | None, **detail: Any
) -> dict[str, Any]:
  """An object of the last line, numbers with four significant digits."""
  found = {"name": name, "value": _rounded(value), "unit": unit, "target": target, "holds": holds}
  return found | {"detail": {key: _rounded(x) for key, x in detail.items()}}


def _rounded(x: Any) -> Any:
  if isinstance(x, tuple):
    return tuple(map(_rounded, x))
  return float(f"{x:.4g}") if isinstance(x, float) else x


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
  """Mean and standard deviation over seeds."""
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
  return float(np.mean(values)), spread


def shown(pair: tuple[float, float], seeds: int, digits: int = 4) -> str:
  """Mean and spread; the mean alone of one seed."""
  mean, spread = (f"{x:.{digits}f}" if not 0 < abs(x) < 0.01 else f"{x:.2g}" for x in pair)
  return f"{mean} +- {spread}" if seeds > 1 else mean


def values_of(done: Done, side: Side, column: str) -> dict[int, float]:
  """By seed, of the cells that have the column."""
  return {
    cell.seed: values[column]
    for cell, values in done.items()
    if (cell.row, cell.fraction, cell.start) == side and column in values
  }


class Comparison(NamedTuple):
  """Two ways of training, the first of which should be better."""

  title: str
  name: str
  first: Side
  second: Side


def show_gains(
  done: Done, comparisons: Sequence[Comparison], heads: tuple[str, str, str]
) -> list[dict[str, Any]]:
  """Prints accuracies and their difference, seed by seed; rows of what both have a seed of.

  heads: of the column of titles, and of the two ways of training.
  """
  rows = []
  print(f"\n{heads[0]:<40}{heads[1]:>18}{heads[2]:>18}{'gain in points':>18}  seeds")
  for title, name, *sides in comparisons:
    first, second = (values_of(done, side, "accuracy") for side in sides)
    both = sorted(set(first) & set(second))
    if not both:
      print(f"{title:<40}  (not finished)")
      continue
    detail = {
      head: mean_and_spread([found[seed] for seed in both])
      for head, found in zip(heads[1:], (first, second), strict=True)
    }
    gain = mean_and_spread([100 * (first[seed] - second[seed]) for seed in both])
    columns = "".join(f"{shown(pair, len(both)):>18}" for pair in detail.values())
    print(f"{title:<40}{columns}{shown(gain, len(both), 2):>18}  {len(both)}")
    about = {"spread": gain[1], "seeds": len(both)}
    rows.append(json_row(name, gain[0], "points", "> 0", gain[0] > 0, **detail, **about))
  return rows


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
