"""How well jets of many particles are recovered from few. All metrics are per jet.

Jets are padded: coordinates (B, N, 3) = pT (GeV), eta, phi (rad) and mask (B, N). A jet without
particles on one side has no distance: NaN per jet, left out of means, and counted. Per-jet numbers
of chunks of data are simply concatenated.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.distances import wasserstein_rows

CHUNK_ELEMENTS = 200_000
"""Particle pairs held at a time: 1.6 MB in float64, which stays in the processor's cache."""


def chamfer(
  predicted: np.ndarray,
  true: np.ndarray,
  predicted_mask: np.ndarray,
  true_mask: np.ndarray,
  *,
  squared: bool = True,
) -> np.ndarray:
  """Mean dR^2 from each predicted particle to the nearest true one, plus the same in reverse.

  With squared=False dR takes the place of its square: adding particles to some true ones then
  hardly ever pays, as a distance from one of them costs more than being nearer to others gains.

  Shapes: eta and phi of particles, (B, N, 2) and (B, M, 2), masks (B, N) and (B, M) -> (B,); dphi
  is wrapped. 0 for equal jets.
  Source: arXiv:1612.00603, with means for sums.
  """
  predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
  if predicted.shape[-1] != 2 or true.shape[-1] != 2:
    raise ValueError(f"got {predicted.shape} and {true.shape}: the last axis is (eta, phi)")
  masks = np.asarray(predicted_mask, bool), np.asarray(true_mask, bool)
  return _nearest(predicted, true, *masks, _delta_r2 if squared else _delta_r)


def _delta_r2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  difference = a[:, :, None, :] - b[:, None, :, :]
  dphi = np.remainder(difference[..., 1] + np.pi, 2 * np.pi) - np.pi
  return difference[..., 0] ** 2 + dphi**2


def _delta_r(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return np.sqrt(_delta_r2(a, b))


def squared_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """|a - b|^2 of all pairs, (B, N, F) and (B, M, F) -> (B, N, M)."""
  return np.sum((a[:, :, None, :] - b[:, None, :, :]) ** 2, axis=-1)


def _nearest(a, b, a_mask, b_mask, distance) -> np.ndarray:
  (a, a_mask), (b, b_mask) = _packed(a, a_mask), _packed(b, b_mask)
  longest = np.maximum(a_mask.sum(axis=1), b_mask.sum(axis=1))
  order = np.argsort(-longest, kind="stable")
  out, start = np.zeros(len(a)), 0
  while start < len(order):
    # Jets of similar multiplicity share a chunk, so that little of it is padding.
    slots = max(int(longest[order[start]]), 1)
    rows = order[start : start + max(1, CHUNK_ELEMENTS // slots**2)]
    start += len(rows)
    x, am, y, bm = (c[rows, :slots] for c in (a, a_mask, b, b_mask))
    pairs = np.where(am[:, :, None] & bm[:, None, :], distance(x, y), np.inf)
    to_b = np.where(am, pairs.min(axis=2), 0).sum(axis=1) / np.maximum(am.sum(axis=1), 1)
    to_a = np.where(bm, pairs.min(axis=1), 0).sum(axis=1) / np.maximum(bm.sum(axis=1), 1)
    out[rows] = np.where(am.any(axis=1) & bm.any(axis=1), to_b + to_a, np.nan)
  return out


def _packed(x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Existing particles first."""
  order = np.argsort(~mask, axis=1, kind="stable")
  return np.take_along_axis(x, order[..., None], axis=1), np.take_along_axis(mask, order, axis=1)


def chamfer_squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """As `chamfer`, of plain coordinates and without masks, (B, N, F) and (B, M, F) -> (B,)."""
  everywhere = np.ones(a.shape[:2], bool), np.ones(b.shape[:2], bool)
  return _nearest(a, b, *everywhere, squared_distance)


def pt_emd(
  predicted_pt: np.ndarray, true_pt: np.ndarray, predicted_mask: np.ndarray, true_mask: np.ndarray
) -> np.ndarray:
  """1-Wasserstein distance of the pT of a jet's particles, (B, N) and (B, M) -> (B,) in GeV.

  Particles count equally: it compares spectra, not the flow of energy.
  """
  return wasserstein_rows(predicted_pt, true_pt, predicted_mask, true_mask)


def multiplicity_error(predicted_mask: np.ndarray, true_mask: np.ndarray) -> np.ndarray:
  """|n_predicted - n_true| / max(n_true, 1), masks (B, N) and (B, M) -> (B,)."""
  predicted = np.asarray(predicted_mask, bool).sum(axis=1)
  true = np.asarray(true_mask, bool).sum(axis=1)
  return np.abs(predicted - true) / np.maximum(true, 1)


def another_jet(label: np.ndarray, *, seed: int = 0) -> np.ndarray:
  """For each jet another random one of its class, (B,) -> indices (B,).

  As a prediction it shows what ignoring the input gives. The only jet of a class is its own
  partner.
  """
  rng = np.random.default_rng(seed)
  label = np.asarray(label)
  partner = np.arange(len(label))
  for c in np.unique(label):
    rows = rng.permutation(np.flatnonzero(label == c))
    partner[rows] = np.roll(rows, 1)
  return partner
