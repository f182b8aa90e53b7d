"""Four-momenta from what files say of particles: (E, p) or (m, p), p Cartesian or polar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.data.branches import CARTESIAN, ENERGY, POLAR


def four_momenta(names: Sequence[str], columns: Sequence[np.ndarray]) -> np.ndarray:
  """Columns (P,) of the energy or mass and of three components -> (P, 4) float32.

  A negative mass stands for a negative m^2, as in ROOT. What is not finite stays so.

  Args:
    names: of the columns, as `jetfm.data.branches.momentum_branches` chooses them.
  """
  first, *vector = columns
  if tuple(names[1:]) == POLAR:
    pt, eta, phi = (x.astype(np.float64) for x in vector)
    with np.errstate(over="ignore", invalid="ignore"):
      vector = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
  if names[0] != ENERGY[0]:
    with np.errstate(over="ignore", invalid="ignore"):
      mass = first.astype(np.float64)
      p2 = sum(x.astype(np.float64) ** 2 for x in vector)
      first = np.sqrt(np.maximum(p2 + mass * np.abs(mass), 0))
  with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite
    return np.stack([first, *vector], axis=1).astype(np.float32)


def impossible(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
  """Reason -> (P,) bool, of inputs whose faults the four-momentum would hide or blame on others."""
  if name in (ENERGY[0], *CARTESIAN):
    return {}
  reasons = {"NaN or infinite value": ~np.isfinite(values)}
  if name == POLAR[0]:
    reasons["pT that is negative"] = values < 0
  return {reason: bad for reason, bad in reasons.items() if bad.any()}
