"""Rectangular cuts: an event passes when every variable is at most its limit.

Variables are turned so that signal is small. Limits are found one after another, each the best
while the others stand, until none improves F1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Variables = Mapping[str, np.ndarray]
"""(m,) arrays of candidates by name."""
_ROUNDS = 20


@dataclass(frozen=True)
class Cuts:
  """Upper limits by the name of the variable; a variable without limit is not cut on."""

  limits: Mapping[str, float]

  def passes(self, variables: Variables, but: str | None = None) -> np.ndarray:
    """(m,) bool: all limits are kept, that of the variable `but` aside."""
    good = np.ones(len(next(iter(variables.values()))), bool)
    for name, limit in self.limits.items():
      if name != but:
        good &= variables[name] <= limit
    return good


def tune_cuts(variables: Variables, is_signal: np.ndarray, total_signal: int) -> Cuts:
  """Limits that maximise F1.

  Shapes: variables and is_signal (m,) of the candidates. `total_signal` counts all signal events,
  those without candidate too.
  """
  limits: dict[str, float] = {}
  best = _f1(np.ones(len(is_signal), bool), is_signal, total_signal)
  for _ in range(_ROUNDS):
    before = best
    for name, x in variables.items():
      others = Cuts(limits).passes(variables, but=name)
      limit, reached = _best_limit(x[others], is_signal[others], total_signal)
      if reached > best + 1e-12:
        limits[name], best = limit, reached
    if best <= before:
      break
  return Cuts(limits)


def tightness(
  variables: Variables, signal: Variables, names: Sequence[str] | None = None
) -> np.ndarray:
  """How far all cuts could be tightened together before a candidate fails, (m,) in [0, 1].

  1 less the largest share, over the variables `names`, of signal that lies strictly below the
  candidate: a ranking whose thresholds are nested rectangular cuts.

  Args:
    signal: variables (s,) of signal events of the training sample, s > 0.
  """
  worst = np.zeros(len(next(iter(variables.values()))))
  for name in variables if names is None else names:
    reference = np.sort(signal[name])
    below = np.searchsorted(reference, variables[name], side="left") / len(reference)
    worst = np.maximum(worst, below)
  return 1 - worst


def _best_limit(x: np.ndarray, is_signal: np.ndarray, total: int) -> tuple[float, float]:
  """The limit of one variable of the largest F1, and that F1."""
  if not len(x):
    return np.inf, 0.0
  order = np.argsort(x, kind="stable")
  last = np.flatnonzero(np.r_[np.diff(x[order]) > 0, True])
  true = np.cumsum(is_signal[order])[last]
  f1 = 2 * true / (last + 1 + max(total, 1))
  best = int(np.argmax(f1))
  limit = x[order][last[best]]
  # Half way to the next candidate.
  if best + 1 < len(last) and np.isfinite(further := x[order][last[best + 1]]):
    limit = (limit + further) / 2
  return float(limit), float(f1[best])


def _f1(selected: np.ndarray, is_signal: np.ndarray, total: int) -> float:
  return float(2 * (selected & is_signal).sum() / max(selected.sum() + total, 1))
