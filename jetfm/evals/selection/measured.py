"""Measured tracks and photons of a BESIII-like detector, with their errors, as four-momenta.

A particle has three measured numbers whose errors are independent:

    track    (pT, phi, theta)   sigma(pT)/pT = 0.32 % pT (+) 0.37 %/beta, angles 2 mrad
    photon   (E, phi, theta)    sigma_E/E = 2.3 %/sqrt(E) (+) 1 %, place 0.6 cm/sqrt(E)

in GeV and radians. Of a shower in the barrel the place along the beam and around it is measured, in
the end caps that across the beam.
Source: BESIII, arXiv:0911.4960.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

PION_MASS, KAON_MASS, PI0_MASS = 0.13957, 0.493677, 0.134977  # GeV
BARREL_COSINE = 0.82
_ANGLE_SIGMA = 2e-3
_PLACE_SIGMA = 0.6  # cm at 1 GeV


@dataclass(frozen=True)
class Measured:
  """K particles of each of n events.

  Attributes:
    value: (n, K, 3) the measured numbers.
    sigma: (n, K, 3) their standard deviations, positive.
    mass: (n, K) GeV; 0 for photons.
    is_track: (n, K) bool: the first number is pT rather than E.
  """

  value: np.ndarray
  sigma: np.ndarray
  mass: np.ndarray
  is_track: np.ndarray

  def __len__(self) -> int:
    return len(self.value)

  def take(self, index: np.ndarray) -> Measured:
    """The events at these places (an index array or a mask)."""
    return Measured(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

  def with_track_mass(self, mass: float) -> Measured:
    """The same tracks under another hypothesis."""
    return Measured(self.value, self.sigma, np.where(self.is_track, mass, 0.0), self.is_track)

  def momenta(self) -> np.ndarray:
    """(n, K, 4) four-momenta (E, px, py, pz) in GeV."""
    return four_momenta(self.value, self.mass, self.is_track)


def tracks(momentum: np.ndarray, mass: float = PION_MASS) -> Measured:
  """(n, K, 3) momenta in GeV -> tracks of that mass."""
  px, py, pz = np.moveaxis(np.asarray(momentum, np.float64), -1, 0)
  pt = np.hypot(px, py)
  p2 = pt**2 + pz**2
  beta = np.sqrt(p2 / (p2 + mass**2))
  angle = np.full_like(pt, _ANGLE_SIGMA)
  sigma_pt = pt * np.hypot(0.0032 * pt, 0.0037 / beta)
  return Measured(
    np.stack([pt, np.arctan2(py, px), np.arctan2(pt, pz)], axis=-1),
    np.stack([sigma_pt, angle, angle], axis=-1),
    np.full_like(pt, mass),
    np.ones(pt.shape, bool),
  )


def photons(energy: np.ndarray, point: np.ndarray) -> Measured:
  """Energies (n, K) in GeV and places (n, K, 3) in cm of showers -> photons from the origin."""
  energy = np.asarray(energy, np.float64)
  x, y, z = np.moveaxis(np.asarray(point, np.float64), -1, 0)
  rho = np.hypot(x, y)
  distance = np.hypot(rho, z)
  place = _PLACE_SIGMA / np.sqrt(energy)
  # What is measured along the surface of the crystals, as an angle seen from the origin.
  slant = np.where(np.abs(z) < BARREL_COSINE * distance, rho, np.abs(z)) / distance
  sigma_energy = energy * np.hypot(0.023 / np.sqrt(energy), 0.01)
  return Measured(
    np.stack([energy, np.arctan2(y, x), np.arctan2(rho, z)], axis=-1),
    np.stack([sigma_energy, place / rho, place * slant / distance], axis=-1),
    np.zeros_like(energy),
    np.zeros(energy.shape, bool),
  )


def unmeasured(momentum: np.ndarray, mass: float) -> Measured:
  """Particles (n, K) that a fit shall find: where it starts, (n, K, 3) GeV, and no measurement."""
  p = np.asarray(momentum, np.float64)
  if mass > 0:
    start = tracks(p, mass)
  else:
    size = np.linalg.norm(p, axis=-1)
    start = photons(size, p)
  return replace(start, sigma=np.ones_like(start.sigma))  # a hundred times more than what is seen


def join(*parts: Measured) -> Measured:
  """The particles of all parts, which hold the same events."""
  names = Measured.__dataclass_fields__
  return Measured(*(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in names))


def four_momenta(value: np.ndarray, mass: np.ndarray, is_track: np.ndarray) -> np.ndarray:
  """(n, K, 3), (n, K), (n, K) -> (n, K, 4) four-momenta (E, px, py, pz) in GeV."""
  size, phi, theta = np.moveaxis(value, -1, 0)
  pt = np.where(is_track, size, size * np.sin(theta))
  pz = np.where(is_track, size / np.tan(theta), size * np.cos(theta))
  energy = np.where(is_track, np.sqrt(pt**2 + pz**2 + mass**2), size)
  return np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pz], axis=-1)


def jacobian(value: np.ndarray, mass: np.ndarray, is_track: np.ndarray) -> np.ndarray:
  """Derivatives of `four_momenta` by the three numbers, (n, K, 4, 3)."""
  size, phi, theta = np.moveaxis(value, -1, 0)
  sine, cosine = np.sin(theta), np.cos(theta)
  pt = np.where(is_track, size, size * sine)
  pz = np.where(is_track, size * cosine / sine, size * cosine)
  zero = np.zeros_like(size)
  pt_by = (np.where(is_track, 1.0, sine), zero, np.where(is_track, 0.0, size * cosine))
  pz_by = (
    np.where(is_track, cosine / sine, cosine),
    zero,
    np.where(is_track, -size / sine**2, -size * sine),
  )
  energy = np.sqrt(pt**2 + pz**2 + mass**2)
  columns = []
  for k in range(3):
    of_track = (pt * pt_by[k] + pz * pz_by[k]) / energy
    turned = pt if k == 1 else zero
    columns.append(
      np.stack(
        [
          np.where(is_track, of_track, float(k == 0)),
          pt_by[k] * np.cos(phi) - turned * np.sin(phi),
          pt_by[k] * np.sin(phi) + turned * np.cos(phi),
          pz_by[k],
        ],
        axis=-1,
      )
    )
  return np.stack(columns, axis=-1)
