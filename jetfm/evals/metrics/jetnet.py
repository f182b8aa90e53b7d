"""The JetNet metrics FPD and KPD with their published protocol of resampling.

Numbers that are compared with the literature use 50,000 jets on both sides. The random draws are
those of the jetnet package, so that equal inputs and seeds give equal numbers. Draws with
replacement hold jets twice, which two independent samples would not: of a pool of n jets that
leaves a bias of order 1/n in both distances. `replace=False` is without it, for smaller pools.
Source: arXiv:2211.10295; jetnet 0.2.5.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.distances import frechet_distance
from jetfm.evals.metrics.energy_flow import energy_flow_polynomials
from jetfm.evals.metrics.measurement import UndefinedMetric

POLYNOMIAL_DEGREE = 4
PUBLISHED_JETS = 50_000
"""Smallest pool of the published protocol."""


def physics_features(
  pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, mask: np.ndarray
) -> np.ndarray:
  """The 36 energy flow polynomials on which published FPD and KPD are measured.

  Shapes: (B, N) each -> (B, 36). JetNet gives pT relative to the jet's, eta and phi relative to its
  axis; pT in GeV rescales features, which the distances undo, but jets of different pT differ then.
  Over the scalar sum of pT the first feature is 1 for every jet, and says nothing.
  """
  return energy_flow_polynomials(pt, eta, phi, mask, max_edges=4)


def _normalised(true: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Both divided by the largest absolute value of each true feature."""
  true, generated = np.asarray(true, np.float64), np.asarray(generated, np.float64)
  if not (np.isfinite(true).all() and np.isfinite(generated).all()):
    raise UndefinedMetric("jet features hold values that are not finite")
  largest = np.abs(true).max(axis=0)
  largest[largest == 0] = 1
  return true / largest, generated / largest


def fpd(
  true: np.ndarray,
  generated: np.ndarray,
  *,
  min_samples: int = 20_000,
  max_samples: int = 50_000,
  batches: int = 20,
  points: int = 10,
  seed: int = 42,
  replace: bool = True,
) -> tuple[float, float]:
  """Fréchet physics distance of jet features (B, K) and (B', K): value and error of the fit.

  The Fréchet distance of samples of size n is biased by c/n; it is measured at `points` sizes,
  evenly spaced in 1/n, and extrapolated to 1/n = 0 with a non-negative intercept and slope. With
  replacement that is the distance of the two pools, which has the bias of their own size left.
  Raises: ValueError without replacement for samples larger than a pool.
  """
  from scipy.optimize import curve_fit

  true, generated = _normalised(true, generated)
  sizes = (1 / np.linspace(1.0 / min_samples, 1.0 / max_samples, points)).astype("int32")
  rng = np.random.default_rng(seed)
  values = []
  for size in sizes:
    draws = []
    for _ in range(batches):
      i = rng.choice(len(true), size=size, replace=replace)
      j = rng.choice(len(generated), size=size, replace=replace)
      draws.append(frechet_distance(true[i], generated[j]))
    values.append(np.mean(draws))
  fitted, covariance = curve_fit(
    lambda x, intercept, slope: intercept + slope * x,
    1 / sizes,
    values,
    bounds=([0, 0], [np.inf, np.inf]),
  )
  # A fit that would go below zero stops a rounding error above it.
  value = float(fitted[0]) if fitted[0] > 1e-12 else 0.0
  return value, float(np.sqrt(covariance[0, 0]))


def kpd(
  true: np.ndarray,
  generated: np.ndarray,
  *,
  batches: int = 10,
  batch_size: int = 5_000,
  seed: int = 42,
  replace: bool = True,
) -> tuple[float, float]:
  """Kernel physics distance of jet features (B, K) and (B', K): median and error over batches.

  The squared MMD without diagonals, with kernel (x.y/K + 1)^4, which may be negative; the error is
  half the interval that holds 67 % of the batches. Without replacement the value is the mean, which
  is unbiased, and batches of half a pool spread as the pool's own value does.
  Raises: ValueError without replacement for batches larger than a pool.
  """
  true, generated = _normalised(true, generated)
  values = []
  for b in range(batches):
    rng = np.random.default_rng(seed + b * 1000)
    i = rng.choice(len(true), size=batch_size, replace=replace)
    j = rng.choice(len(generated), size=batch_size, replace=replace)
    values.append(_polynomial_mmd(true[i], generated[j]))
  low, high = np.percentile(values, [16.275, 83.725])
  return float(np.median(values) if replace else np.mean(values)), float((high - low) / 2)


def _polynomial_mmd(x: np.ndarray, y: np.ndarray, chunk: int = 1000) -> float:
  """Unbiased: diagonals are left out. Memory: chunk times the size of a sample."""

  def total(a, b):
    return sum(
      np.sum((a[i : i + chunk] @ b.T / a.shape[1] + 1.0) ** POLYNOMIAL_DEGREE)
      for i in range(0, len(a), chunk)
    )

  def without_diagonal(a):
    diagonal = np.sum((np.sum(a * a, axis=1) / a.shape[1] + 1.0) ** POLYNOMIAL_DEGREE)
    return (total(a, a) - diagonal) / (len(a) * (len(a) - 1))

  return float(without_diagonal(x) + without_diagonal(y) - 2 * total(x, y) / (len(x) * len(y)))
