"""Metrics as the 2026 seed computed them, only for comparison with its published numbers.

Its classification metrics are ours (accuracy, top-3, macro F1, one-vs-rest AUC), its regression
metrics are ours on the z-scored `seed_mass`. Generation and super-resolution differ: they see
standardised pseudo-coordinates, padding included.
Source: evaluate.py and src/utils/data_factory.py of
ranjeet258/Specific-Tasks-2a-FM-for-E2E-EventReconstruction.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.distances import mmd_rbf, wasserstein_rows
from jetfm.evals.metrics.histograms import FLOOR, histogram_mse
from jetfm.evals.metrics.particles import particle_coordinates
from jetfm.evals.metrics.super_resolution import chamfer_squared

GENERATED_SLOTS = 30
"""Leading slots of a jet that its generation metrics read."""

SUPER_RESOLVED_SLOTS = 128
"""Slots of a jet that its super-resolution metrics read, padding included."""

PRESENT_ABOVE = 0.1
"""Standardised log pT above which a slot counts as a particle there."""

MAX_DETA = 5.0


def seed_constants(p4: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean (4,) and standard deviation (4,) of ln(1 + pT), deta, dphi, ln(1 + E) in training data.

  p4 (B, N, 4) in GeV, mask (B, N). dphi is left as it is: 0 and 1.
  """
  values = _raw(p4, mask)[np.asarray(mask, bool)]
  mean, std = values.mean(axis=0), values.std(axis=0) + 1e-8
  mean[2], std[2] = 0.0, 1.0
  return mean, std


def _raw(p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
  values = particle_coordinates(p4, mask, ("pt", "deta", "dphi", "energy"))
  values[..., [0, 3]] = np.log1p(values[..., [0, 3]])
  return values


def seed_coordinates(
  p4: np.ndarray, mask: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
  """Standardised (ln(1 + pT), deta, dphi, ln(1 + E)), (B, N, 4); padding is -mean/std, as there."""
  return (_raw(p4, mask) - mean) / std


def seed_multivector(coordinates: np.ndarray) -> np.ndarray:
  """Its pseudo-momenta (E, px, py, pz) of standardised coordinates, (..., 4) -> (..., 4).

  pT and E are standardised logarithms here: these are no momenta.
  """
  pt, eta, phi, energy = np.moveaxis(np.asarray(coordinates), -1, 0)
  eta = np.clip(eta, -MAX_DETA, MAX_DETA)
  return np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


def generation_seed(
  true: np.ndarray, generated: np.ndarray, *, size: int = 5_000, seed: int = 0
) -> dict[str, float]:
  """Its MMD, "pT" KL and histogram MSE of two samples of jets, (B, N, 4) and (B', N', 4).

  Both hold the first four multivector components (`seed_multivector`) of the leading 30 slots,
  padding included. Component 0, called pT there, is the energy. Histograms are densities, to which
  1e-10 is added before they are normalised.
  """
  x, y = (np.asarray(a, np.float64)[:, :GENERATED_SLOTS].reshape(-1, 4) for a in (true, generated))
  rng = np.random.default_rng(seed)
  rows = (rng.choice(len(a), min(size, len(a)), replace=False) for a in (x, y))
  i, j = rows
  kl, mse = 0.0, []
  for f in range(4):
    low = min(x[:, f].min(), y[:, f].min())
    high = max(x[:, f].max(), y[:, f].max()) + 1e-6
    p, q = (
      np.histogram(a[:, f], np.linspace(low, high, 51), density=True)[0] + FLOOR for a in (x, y)
    )
    p, q = p / p.sum(), q / q.sum()
    if f == 0:
      kl = float(np.sum(p * np.log(p / q)))
    mse.append(histogram_mse(p, q))
  return {
    "mmd_seed": mmd_rbf(x[i], y[j]),
    "pt_kl_seed": kl,
    "histogram_mse_seed": float(np.mean(mse)),
  }


def super_resolution_seed(predicted: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
  """Its Chamfer distance, pT EMD and multiplicity error per jet, (B, N, 4), (B, M, 4) -> (B,) each.

  Both hold standardised coordinates (`seed_coordinates`) of all slots, padding included. Chamfer is
  the squared distance of standardised deta and unwrapped dphi; EMD is of standardised ln(1 + pT).
  """
  predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
  everywhere = np.ones(predicted.shape[:2], bool), np.ones(true.shape[:2], bool)
  n_predicted, n_true = ((a[..., 0] > PRESENT_ABOVE).sum(axis=1) for a in (predicted, true))
  return {
    "chamfer_seed": chamfer_squared(predicted[..., 1:3], true[..., 1:3]),
    "pt_emd_seed": wasserstein_rows(predicted[..., 0], true[..., 0], *everywhere),
    "multiplicity_error_seed": np.abs(n_predicted - n_true) / np.maximum(n_true, 1),
  }
