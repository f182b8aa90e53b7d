"""The muon counter (MUC): how deep a track goes into the iron.

Muons above 0.5 GeV reach it; their depth grows with momentum to 40-60 cm. A few per cent of the
hadrons leave some hits in the first layers. Everything is parametrised.
"""

from __future__ import annotations

import numpy as np

MIN_MOMENTUM = 0.5  # GeV
MAX_COSINE = 0.89
EFFICIENCY = 0.95
PUNCH_THROUGH = 0.04
LARGEST_DEPTH = 60.0  # cm of iron, nine layers
MAX_DOF = 9
_LAYER = LARGEST_DEPTH / MAX_DOF


def muon_depth(momentum: np.ndarray) -> np.ndarray:
  """Mean depth in cm at which a muon of this momentum (GeV) stops or leaves, (T,)."""
  return np.clip(5 + 75 * (momentum - MIN_MOMENTUM), 5, 50)


def reach(
  rng: np.random.Generator, pid: np.ndarray, momentum: np.ndarray, cosine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """What the counter sees of tracks.

  Shapes: true PDG id, momentum in GeV and cos(theta), all (T,) -> (T,) bool hit, depth in cm,
  degrees of freedom of the fit (crossed layers less one). The last two are 0 without a hit.
  """
  size = np.abs(pid)
  u, v = rng.random((2, len(pid)))
  noise = rng.standard_normal(len(pid))
  muon = (size == 13) & (u < EFFICIENCY)
  hadron = (size > 100) & (u < PUNCH_THROUGH)
  hit = (muon | hadron) & (momentum > MIN_MOMENTUM) & (np.abs(cosine) < MAX_COSINE)
  deep = muon_depth(momentum) + 4 * noise
  shallow = -8 * np.log1p(-v)
  depth = np.clip(np.where(muon, deep, 2 + shallow), 1, LARGEST_DEPTH)
  dof = np.clip(np.rint(depth / _LAYER), 1, MAX_DOF)
  return hit, np.where(hit, depth, 0.0), np.where(hit, dof, 0.0)
