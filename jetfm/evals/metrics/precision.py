"""Precision and recall of one class among many, and thresholds at which precision is reached.

Precision is the share of what is selected that is of the class, recall the share of the class that
is selected.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jetfm.evals.metrics.measurement import Measurement, UndefinedMetric
from jetfm.evals.metrics.weighting import counted
from jetfm.evals.metrics.working_points import efficiency

PRECISION = 0.99


def selection_quality(
  selected: np.ndarray, is_signal: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, Measurement]:
  """Precision, recall and F1 = 2 TP/(2 TP + FP + FN) with binomial errors, (B,) bool, (B,) bool.

  F1 = 2 J/(1 + J) of J = TP/(TP + FP + FN), which is a share of independent events: its error
  follows from that of J. Precision is undefined when nothing is selected, recall without signal,
  F1 with neither.
  """
  weight, selected, is_signal = counted(weight, selected, is_signal)
  selected, is_signal = selected.astype(bool), is_signal.astype(bool)
  out = {
    "precision": _share(is_signal, selected, weight, "no event is selected"),
    "recall": _share(selected, is_signal, weight, "no event of this class in the test set"),
  }
  either = _share(selected & is_signal, selected | is_signal, weight, "nothing to select")
  if either.value is None or either.error is None:
    return out | {"f1": either}
  error = 2 * either.error / (1 + either.value) ** 2
  return out | {"f1": Measurement(2 * either.value / (1 + either.value), error)}


def threshold_at_precision(
  score: np.ndarray,
  is_signal: np.ndarray,
  precision: float = PRECISION,
  weight: np.ndarray | None = None,
  *,
  min_selected: float | None = None,
) -> float:
  """Lowest cut `score >= threshold` that selects with at least this precision, (B,), (B,) bool.

  Args:
    min_selected: least (effective) number of selected events. Default 1/(1 - precision): with less
      no other precision but 1 would do, and any signal event in front would. Events of score -inf
      are never selected.
  Raises: UndefinedMetric when no threshold reaches it; ValueError for a precision not in (0, 1).
  """
  if not 0 < precision < 1:
    raise ValueError(f"precision {precision} is not in (0, 1)")
  least = 1 / (1 - precision) if min_selected is None else min_selected
  weight, score, is_signal = counted(weight, score, is_signal)
  if np.isnan(score).any():
    raise ValueError("scores hold NaN: look at the model, not at the metric")
  rows = np.flatnonzero(score > -np.inf)
  order = rows[np.argsort(-score[rows], kind="stable")]
  score, weight, is_signal = score[order], weight[order], is_signal[order].astype(bool)
  last = np.flatnonzero(np.r_[score[1:] != score[:-1], True]) if len(score) else order
  total, squares = np.cumsum(weight)[last], np.cumsum(weight**2)[last]
  signal = np.cumsum(np.where(is_signal, weight, 0.0))[last]
  # Rounding must not refuse 99 of 100.
  enough = total**2 >= least * squares * (1 - 1e-9)
  reached = np.flatnonzero(enough & (signal >= precision * total * (1 - 1e-9)))
  if not len(reached):
    best = max(signal[enough] / total[enough], default=None)
    got = "fewer are selected at all" if best is None else f"the best is {best:.3f}"
    least_events = math.ceil(least - 1e-6)
    raise UndefinedMetric(
      f"not reached: no threshold selects {least_events} events or more with a precision of "
      f"{precision:g}; {got}"
    )
  return float(score[last[reached[-1]]])


@dataclasses.dataclass(frozen=True)
class PrecisionPoint:
  """A threshold of validation data, and what it does on test data.

  Attributes:
    threshold: None where none reaches the precision; then the others have no value either.
    precision, recall: on test data, with binomial errors.
  """

  threshold: float | None
  precision: Measurement
  recall: Measurement


def precision_point(
  valid: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  precision: float = PRECISION,
  *,
  min_selected: float | None = None,
) -> PrecisionPoint:
  """The working point of this precision: found on validation data, measured on test data.

  Args:
    valid, test: score (B,), larger for signal, and (B,) bool whether it is signal.
    min_selected: see `threshold_at_precision`.
  """
  try:
    threshold = threshold_at_precision(*valid, precision, min_selected=min_selected)
  except UndefinedMetric as error:
    nothing = Measurement(None, reason=str(error))
    return PrecisionPoint(None, nothing, nothing)
  score, is_signal = test
  quality = selection_quality(np.asarray(score) >= threshold, is_signal)
  return PrecisionPoint(threshold, quality["precision"], quality["recall"])


def _share(passes: np.ndarray, of: np.ndarray, weight: np.ndarray, reason: str) -> Measurement:
  if not of.any():
    return Measurement(None, reason=reason)
  return Measurement(*efficiency(passes[of], weight[of]))
