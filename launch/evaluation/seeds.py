"""Columns of trainings that differ by their seed alone -> a column of their means and spreads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jetfm.evals.metrics import combine_seeds
from launch.evaluation.columns import Column


def means_over_seeds(columns: Sequence[Column]) -> list[Column]:
  """One column for each group of columns with equal settings and a seed of its own each.

  Columns of which a setting is unknown, and groups that do not hold the same metrics, have none.
  """
  groups: dict[str, list[Column]] = {}
  for column in columns:
    if column.settings and all(column.settings.values()):
      groups.setdefault(json.dumps(without_seed(column.settings), sort_keys=True), []).append(
        column
      )
  return [_mean(group) for group in groups.values() if len(group) > 1 and _comparable(group)]


def without_seed(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
  """Settings by stage, all but the key 'seed'."""
  return {
    stage: {key: value for key, value in keys.items() if key != "seed"}
    for stage, keys in settings.items()
  }


def _seeds(column: Column) -> str:
  return json.dumps({stage: keys.get("seed") for stage, keys in column.settings.items()})


def _comparable(group: Sequence[Column]) -> bool:
  metrics = [{name: set(section) for name, section in c.sections.items()} for c in group]
  return len({_seeds(c) for c in group}) == len(group) and all(m == metrics[0] for m in metrics)


def _mean(group: Sequence[Column]) -> Column:
  same = {
    key: value
    for key, value in group[0].facts.items()
    if all(column.facts.get(key) == value for column in group)
  }
  return Column(
    f"mean of {', '.join(column.name for column in group)}",
    {name: combine_seeds([c.sections[name] for c in group]) for name in group[0].sections},
    facts=same | {"seed": ", ".join(str(column.facts.get("seed", "")) for column in group)},
  )
