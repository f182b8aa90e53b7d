"""Distances between samples: kernels and optimal transport in one dimension."""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.weighting import counted

CHUNK_ELEMENTS = 4_000_000
"""Kernel matrix entries held at a time: 32 MB in float64."""


def mmd_rbf(
  x: np.ndarray,
  y: np.ndarray,
  sigma: float = 1.0,
  *,
  x_weight: np.ndarray | None = None,
  y_weight: np.ndarray | None = None,
) -> float:
  """Biased squared maximum mean discrepancy with k = exp(-|a - b|^2/(2 sigma^2)), floored at 0.

      MMD^2 = <k(x, x')> + <k(y, y')> - 2 <k(x, y)>      (diagonals included)

  Shapes: x (M, F), y (M', F), standardised by the caller. Memory: `CHUNK_ELEMENTS`, whatever M;
  time grows as (M + M')^2.
  Source: A. Gretton et al., JMLR 13 (2012) 723, eq. 5.
  """
  u, x = counted(x_weight, x)
  v, y = counted(y_weight, y)
  if x.ndim != 2 or x.shape[1:] != y.shape[1:]:
    raise ValueError(f"samples have shapes {x.shape} and {y.shape}, expected (M, F) and (M', F)")
  x, y = x.astype(np.float64), y.astype(np.float64)
  u, v = u / u.sum(), v / v.sum()

  def mean_kernel(a, b, p, q):
    total, step = 0.0, max(1, CHUNK_ELEMENTS // len(b))
    b2 = np.sum(b**2, axis=1)
    for i in range(0, len(a), step):
      part = a[i : i + step]
      squared = np.sum(part**2, axis=1)[:, None] + b2 - 2 * part @ b.T
      total += p[i : i + step] @ (np.exp(np.maximum(squared, 0) / (-2 * sigma**2)) @ q)
    return total

  return max(mean_kernel(x, x, u, u) + mean_kernel(y, y, v, v) - 2 * mean_kernel(x, y, u, v), 0.0)


def wasserstein_1d(
  x: np.ndarray,
  y: np.ndarray,
  x_weight: np.ndarray | None = None,
  y_weight: np.ndarray | None = None,
) -> float:
  """1-Wasserstein distance of two one-dimensional samples (B,) and (B',), in their unit.

  The integral of |F_x - F_y|; scipy.stats.wasserstein_distance with the weights of this project.
  """
  from scipy.stats import wasserstein_distance

  u, x = counted(x_weight, x)
  v, y = counted(y_weight, y)
  return float(wasserstein_distance(x, y, u, v))


def wasserstein_rows(
  x: np.ndarray, y: np.ndarray, x_mask: np.ndarray, y_mask: np.ndarray
) -> np.ndarray:
  """1-Wasserstein distance per row of two ragged samples, in their unit.

  Shapes: x, x_mask (B, N); y, y_mask (B, M) -> (B,). Entries of a row weigh equally. NaN where a
  row of x or y is empty.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  x_mask, y_mask = np.asarray(x_mask, bool), np.asarray(y_mask, bool)
  share = [m / np.maximum(m.sum(axis=1, keepdims=True), 1) for m in (x_mask, y_mask)]
  steps = np.concatenate([share[0], -share[1]], axis=1)
  some = np.concatenate([x_mask, y_mask], axis=1)
  values = np.where(some, np.concatenate([x, y], axis=1), np.inf)
  order = np.argsort(values, axis=1, kind="stable")
  values = np.take_along_axis(values, order, axis=1)
  gap = np.cumsum(np.take_along_axis(steps, order, axis=1), axis=1)[:, :-1]
  real = np.isfinite(values[:, 1:])
  width = np.subtract(values[:, 1:], values[:, :-1], where=real, out=np.zeros_like(gap))
  distance = np.sum(np.abs(gap) * width, axis=1)
  empty = ~x_mask.any(axis=1) | ~y_mask.any(axis=1)
  return np.where(empty, np.nan, distance)


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
  """Fréchet distance of Gaussians with the moments of x (M, F) and y (M', F).

      d = |m_x - m_y|^2 + Tr(C_x + C_y - 2 (C_x C_y)^(1/2))

  The trace of the root is the sum of the singular values of C_x^(1/2) C_y^(1/2): no complex
  numbers, and exact for singular covariances.
  Source: D. C. Dowson, B. V. Landau, J. Multivar. Anal. 12 (1982) 450.
  """

  def moments(sample):
    sample = np.asarray(sample, np.float64)
    covariance = np.atleast_2d(np.cov(sample, rowvar=False))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return sample.mean(axis=0), np.trace(covariance), root

  (mx, tx, rx), (my, ty, ry) = moments(x), moments(y)
  nuclear = np.linalg.svd(rx @ ry, compute_uv=False).sum()
  return float(np.sum((mx - my) ** 2) + tx + ty - 2 * nuclear)
