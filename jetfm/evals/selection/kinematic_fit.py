"""Kinematic fit: measurements moved within their errors until the four-momentum balances.

For measured numbers y of covariance V, wanted are the eta that minimise

    chi^2 = (eta - y)^T V^-1 (eta - y)   under   f(eta) = sum_k p_k(eta) - P = 0.

With Lagrange multipliers and f linearised around the last eta, D = df/deta,

    lambda = (D V D^T)^-1 (f + D (y - eta)),   eta' = y - V D^T lambda,

again and again. There are four constraints, and with everything measured chi^2 of true events
follows the distribution of four degrees of freedom. The mass of the last two particles can be a
fifth. A particle that is not measured takes three away: its errors are just very large.
Source: A. G. Frodesen et al., Probability and Statistics in Particle Physics (1979), ch. 10.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetfm.evals.selection.measured import Measured, four_momenta, jacobian

TOTAL = np.array([3.097, 0.034, 0.0, 0.0])
"""Four-momentum (E, px, py, pz) of the collision in GeV: the beams cross at an angle."""
TOLERANCE = 1e-7  # GeV
_ITERATIONS = 25
_SETTLED = 1e-6
_RIDGE = 1e-13


@dataclass(frozen=True)
class Fit:
  """Fits of n events with K particles.

  Attributes:
    chi2: (n,); infinity where there is no solution near the measurements.
    p4: (n, K, 4) fitted four-momenta in GeV. They have no meaning where chi2 is infinite.
    pull: (n, K, 3) (y - eta)/sqrt(var(y) - var(eta)): standard normal for true events.
  """

  chi2: np.ndarray
  p4: np.ndarray
  pull: np.ndarray

  def take(self, index: np.ndarray) -> Fit:
    """The events at these places (an index array or a mask)."""
    return Fit(self.chi2[index], self.p4[index], self.pull[index])

  @property
  def probability(self) -> np.ndarray:
    """(n,) chance of a larger chi^2 in a fit of all particles without `pair_mass`, which has four
    degrees of freedom: even in [0, 1] for true events."""
    return chi2_probability(self.chi2)


def chi2_probability(chi2: np.ndarray) -> np.ndarray:
  """Chance of a larger chi^2 with four degrees of freedom, (1 + chi2/2) exp(-chi2/2)."""
  half = np.minimum(np.asarray(chi2, np.float64) / 2, 700.0)
  return (1 + half) * np.exp(-half)


def fit_four_momentum(
  measured: Measured, total: np.ndarray = TOTAL, pair_mass: float | None = None
) -> Fit:
  """Fits all particles of each event to the total four-momentum (4,), events independently.

  Args:
    pair_mass: GeV, of the last two particles together; None does not constrain it.
  Raises: ValueError for a standard deviation that is not positive.
  """
  if len(measured) and not (measured.sigma > 0).all():
    raise ValueError(f"a standard deviation is {measured.sigma.min()}, expected > 0")
  n = len(measured)
  y, variance = measured.value, measured.sigma**2
  eta = y.copy()
  chi2, pull = np.full(n, np.inf), np.zeros_like(y)
  last, active = np.full(n, np.inf), np.arange(n)
  for _ in range(_ITERATIONS):
    if not len(active):
      break
    some, v = measured.take(active), variance[active]
    p4 = four_momenta(eta[active], some.mass, some.is_track)
    slopes = jacobian(eta[active], some.mass, some.is_track)  # (a, K, constraints, 3)
    off = p4.sum(axis=1) - total
    if pair_mass is not None:
      off, slopes = _with_pair_mass(off, slopes, p4, pair_mass)
    rest = off + np.einsum("akij,akj->ai", slopes, some.value - eta[active])
    weighted = slopes * v[:, :, None, :]
    matrix = np.einsum("akij,aklj->ail", slopes, weighted)
    # What is collinear makes it singular; the next iterations make up for the little ridge.
    size = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
    inverse = np.linalg.inv(matrix + _RIDGE * size * np.eye(matrix.shape[1]))
    multipliers = np.einsum("ail,al->ai", inverse, rest)
    moved = np.einsum("akij,ai->akj", weighted, multipliers)
    new = np.einsum("ai,ai->a", multipliers, rest)
    settled = np.abs(off).max(axis=1) < TOLERANCE
    settled &= np.abs(new - last[active]) < _SETTLED * (1 + np.abs(new))
    done = active[settled]
    chi2[done] = (moved**2 / v).sum(axis=(1, 2))[settled]
    # var(y) - var(eta) = V D^T (D V D^T)^-1 D V
    taken = np.einsum("akij,ail,aklj->akj", weighted, inverse, weighted)
    pull[done] = (moved / np.sqrt(np.maximum(taken, 1e-300)))[settled]
    last[active] = new
    going = active[~settled]
    eta[going] = some.value[~settled] - moved[~settled]
    # Beyond physical values there is no way back.
    lost = (eta[going][..., 0] <= 0).any(axis=1) | ~np.isfinite(eta[going]).all(axis=(1, 2))
    lost |= (np.abs(np.cos(eta[going][..., 2])) > 0.9999).any(axis=1)
    active = going[~lost]
  return Fit(chi2, four_momenta(eta, measured.mass, measured.is_track), pull)


def _with_pair_mass(
  off: np.ndarray, slopes: np.ndarray, p4: np.ndarray, mass: float
) -> tuple[np.ndarray, np.ndarray]:
  """Adds the constraint m^2 - mass^2 = 0 of the last two particles."""
  pair = p4[:, -2:].sum(axis=1) * np.array([1, -1, -1, -1])
  square = (pair * p4[:, -2:].sum(axis=1)).sum(axis=1)
  own = np.zeros_like(slopes[:, :, :1])
  own[:, -2:, 0] = 2 * np.einsum("ai,akij->akj", pair, slopes[:, -2:])
  return np.c_[off, square - mass**2], np.concatenate([slopes, own], axis=2)
