"""Distances between histograms."""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric
from jetfm.evals.metrics.weighting import counted

FLOOR = 1e-10
"""Added to every bin's probability before a logarithm is taken."""


def joint_edges(
  x: np.ndarray,
  y: np.ndarray,
  bins: int = 50,
  *,
  x_weight: np.ndarray | None = None,
  y_weight: np.ndarray | None = None,
) -> np.ndarray:
  """`bins` equal bins over the joint range of two samples (B,) and (B',) -> edges (bins + 1,)."""
  _, x = counted(x_weight, x)
  _, y = counted(y_weight, y)
  low = min(float(x.min()), float(y.min()))
  high = max(float(x.max()), float(y.max()))
  if not np.isfinite([low, high]).all():
    raise UndefinedMetric("a sample holds values that are not finite")
  if high == low:
    low, high = low - 0.5, high + 0.5
  return np.linspace(low, high, bins + 1)


def equiprobable_edges(x: np.ndarray, weight: np.ndarray, bins: int = 50) -> np.ndarray:
  """`bins` bins of equal weight of a sample (B,) -> edges (bins + 1,), the outer ones infinite."""
  shares = np.arange(1, bins) / bins
  inner = np.quantile(x, shares, weights=weight, method="inverted_cdf")
  return np.r_[-np.inf, inner, np.inf]


def probabilities(x: np.ndarray, edges: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
  """Share of the weight in each bin, x (B,) and edges (K + 1,) -> (K,), of sum 1.

  Values outside the edges do not count. Counts add: for data in chunks, sum `np.histogram` over
  them and divide at the end.
  Raises: UndefinedMetric when nothing lies between the edges.
  """
  weight, x = counted(weight, x)
  counts = np.histogram(x, edges, weights=weight)[0]
  if counts.sum() == 0:
    raise UndefinedMetric(f"no event between {edges[0]:g} and {edges[-1]:g}")
  return counts / counts.sum()


def kl_divergence(p: np.ndarray, q: np.ndarray, floor: float = FLOOR) -> float:
  """KL(p || q) = sum p ln(p/q) of two histograms (K,), in nats.

  `floor` is added to each bin of the normalised histograms, which are normalised again.
  """
  p, q = (np.asarray(h, np.float64) / np.sum(h) + floor for h in (p, q))
  p, q = p / p.sum(), q / q.sum()
  return max(float(np.sum(p * np.log(p / q))), 0.0)


def histogram_mse(p: np.ndarray, q: np.ndarray) -> float:
  """Mean over bins of the squared difference of two histograms (K,), each normalised to sum 1."""
  p, q = (np.asarray(h, np.float64) / np.sum(h) for h in (p, q))
  return float(np.mean((p - q) ** 2))


def jensen_shannon_distance(p: np.ndarray, q: np.ndarray) -> float:
  """sqrt((KL(p || m) + KL(q || m))/2), m = (p + q)/2, natural logarithm, of two histograms (K,).

  0 for equal shapes, sqrt(ln 2) = 0.83 for disjoint ones. Equals
  scipy.spatial.distance.jensenshannon.
  Source: D. M. Endres, J. E. Schindelin, IEEE Trans. Inf. Theory 49 (2003) 1858.
  """
  p, q = (np.asarray(h, np.float64) / np.sum(h) for h in (p, q))
  middle = (p + q) / 2

  def divergence(h: np.ndarray) -> float:
    some = h > 0
    return float(np.sum(h[some] * np.log(h[some] / middle[some])))

  return float(np.sqrt(max((divergence(p) + divergence(q)) / 2, 0.0)))
