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
# Against learning the sample by heart: few limits to choose from, and no cut that hardly helps.
_SHARES = np.linspace(0.025, 1, 40)
_GAIN = 0.002


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


@dataclass(frozen=True)
class Counts:
  """What F1 is made of: selected events, those of them that are signal, and all signal events."""

  selected: int = 0
  true: int = 0
  signal: int = 0

  @property
  def f1(self) -> float:
    return 2 * self.true / max(self.selected + self.signal, 1)

  def plus(self, is_signal: np.ndarray) -> Counts:
    """With more selected events, (m,) bool."""
    return Counts(self.selected + len(is_signal), self.true + int(is_signal.sum()), self.signal)


def tune_cuts(variables: Variables, is_signal: np.ndarray, before: Counts) -> Cuts:
  """Limits that maximise F1; cuts that let nothing pass when candidates would only lower it.

  Shapes: variables and is_signal (m,) of the candidates. `before` is what other cuts selected of
  the same sample, and counts all of its signal events, those without candidate too.
  """
  limits: dict[str, float] = {}
  best = before.plus(is_signal).f1
  for _ in range(_ROUNDS):
    last = best
    for name, x in variables.items():
      others = Cuts(limits).passes(variables, but=name)
      limit, reached = _best_limit(x[others], is_signal[others], before)
      if reached > best * (1 + _GAIN):
        limits[name], best = limit, reached
    if best <= last:
      break
  return Cuts(limits) if best > before.f1 else Cuts(dict.fromkeys(variables, -np.inf))


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


def _best_limit(x: np.ndarray, is_signal: np.ndarray, before: Counts) -> tuple[float, float]:
  """The limit of one variable of the largest F1, and that F1."""
  if not is_signal.any():
    return np.inf, 0.0
  own = np.sort(x[is_signal])
  limits = np.unique(np.quantile(own, _SHARES, method="inverted_cdf"))
  selected = before.selected + np.searchsorted(np.sort(x), limits, side="right")
  true = before.true + np.searchsorted(own, limits, side="right")
  f1 = 2 * true / (selected + before.signal)
  best = int(np.argmax(f1))
  return float(limits[best]), float(f1[best])
