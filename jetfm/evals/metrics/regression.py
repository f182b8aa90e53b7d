"""Regression metrics of one target, predicted (B,) against true (B,) in the same unit.

All but the quantiles follow from sums that add over chunks (of w, t, t^2, |t|, d, d^2, |d| with
d = p - t); two float32 per jet are so little that arrays are used: 160 MB for 20 M jets.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric
from jetfm.evals.metrics.weighting import counted, weighted_mean, weighted_quantile, weighted_std


def _checked(
  predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  weight, predicted, true = counted(weight, predicted, true)
  if predicted.ndim != 1 or true.ndim != 1:
    raise ValueError(f"got shapes {predicted.shape} and {true.shape}, expected (B,): one target")
  if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
    raise ValueError("predictions or targets hold NaN or infinity")
  return predicted.astype(np.float64), true.astype(np.float64), weight


def mean_squared_error(
  predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean of (p - t)^2, in the unit squared."""
  p, t, w = _checked(predicted, true, weight)
  return weighted_mean((p - t) ** 2, w)


def mean_absolute_error(
  predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean of |p - t|, in the unit."""
  p, t, w = _checked(predicted, true, weight)
  return weighted_mean(np.abs(p - t), w)


def r2(predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None) -> float:
  """1 - sum (p - t)^2 / sum (t - mean t)^2: 1 perfect, 0 as good as the mean; unit-free.

  Raises: UndefinedMetric when all true values are equal.
  """
  p, t, w = _checked(predicted, true, weight)
  if t.min() == t.max():
    raise UndefinedMetric(f"R2 needs different true values, all are {t[0]:g}")
  spread = weighted_mean((weighted_mean(t, w) - t) ** 2, w)  # exactly the error of the mean
  return 1 - weighted_mean((p - t) ** 2, w) / spread


def resolution(predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None) -> float:
  """std(p - t) / mean |t|. It ignores a constant bias, and depends on where zero is.

  Raises: UndefinedMetric when all true values are 0.
  """
  p, t, w = _checked(predicted, true, weight)
  scale = weighted_mean(np.abs(t), w)
  if scale == 0:
    raise UndefinedMetric("the resolution needs true values that are not all 0")
  return weighted_std(p - t, w) / scale


def response_half_width(
  predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Half the distance between the 16 % and 84 % quantiles of p/t, unit-free.

  Events with t <= 0 have no response and do not count.
  Raises: UndefinedMetric when no event has t > 0.
  """
  low, _, high = response_quantiles(predicted, true, weight)
  return (high - low) / 2


def response_quantiles(
  predicted: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float, float]:
  """16 %, 50 % and 84 % quantiles of p/t over events with t > 0."""
  p, t, w = _checked(predicted, true, weight)
  some = t > 0
  if not some.any():
    raise UndefinedMetric("the response p/t needs positive true values")
  response, w = p[some] / t[some], w[some]
  low, middle, high = (weighted_quantile(response, q, w) for q in (0.16, 0.5, 0.84))
  return low, middle, high
