"""Event weights: one reading of them for every metric.

A weight of 2 counts as two equal events and a weight of 0 as none, in every value. Errors know the
difference: two equal events tell less than two independent ones.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric


def event_weights(weight: np.ndarray | None, num_events: int) -> np.ndarray:
  """Weights (B,) as float64, ones for None.

  Raises: ValueError for another shape, a negative or a non-finite weight; UndefinedMetric when no
  event has a positive weight.
  """
  if weight is None:
    weight = np.ones(num_events)
  weight = np.asarray(weight, np.float64)
  if weight.shape != (num_events,):
    raise ValueError(f"weight has shape {weight.shape}, expected ({num_events},), one per event")
  if not np.isfinite(weight).all() or (weight < 0).any():
    raise ValueError(
      f"weights must be finite and not negative, got {weight.min()} to {weight.max()}; "
      "evaluate events of negative generator weight with their absolute weight"
    )
  if not weight.any():
    raise UndefinedMetric("no event with a positive weight")
  return weight


def counted(weight: np.ndarray | None, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
  """Events of positive weight: (weight (B',), arrays (B', ...)).

  Raises: ValueError when the arrays differ in their number of events, and as `event_weights`.
  """
  arrays = tuple(np.asarray(a) for a in arrays)
  sizes = {len(a) for a in arrays}
  if len(sizes) != 1:
    raise ValueError(f"arrays have different numbers of events: {[len(a) for a in arrays]}")
  weight = event_weights(weight, sizes.pop())
  keep = weight > 0
  if keep.all():
    return weight, *arrays
  return weight[keep], *(a[keep] for a in arrays)


def weighted_mean(x: np.ndarray, weight: np.ndarray) -> float:
  """sum(w x) / sum(w), (B,) and (B,) -> scalar."""
  return float(np.dot(weight, np.asarray(x, np.float64)) / weight.sum())


def weighted_std(x: np.ndarray, weight: np.ndarray) -> float:
  """Square root of the weighted mean squared deviation (no n - 1), (B,) and (B,) -> scalar."""
  x = np.asarray(x, np.float64)
  return float(np.sqrt(weighted_mean((x - weighted_mean(x, weight)) ** 2, weight)))


def weighted_quantile(x: np.ndarray, q: float, weight: np.ndarray) -> float:
  """Smallest x at which the weighted distribution function reaches q, (B,) and (B,) -> scalar."""
  x = np.asarray(x, np.float64)
  return float(np.quantile(x, q, weights=weight, method="inverted_cdf"))


def random_halves(num_events: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Indices of two disjoint random halves, (B // 2,) each; with odd B one event is in neither.

  Raises: UndefinedMetric for fewer than two events.
  """
  if num_events < 2:
    raise UndefinedMetric(f"{num_events} events do not make two halves")
  order = np.random.default_rng(seed).permutation(num_events)
  half = num_events // 2
  return order[:half], order[half : 2 * half]
