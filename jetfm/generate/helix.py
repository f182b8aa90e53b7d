"""Charged particles in a solenoid: where they meet the calorimeter, and their perigee.

Lengths are in mm (metres only inside the curvature constant), momenta in GeV, angles in radians.

With the signed radius r = pT / (0.29979 q B), the centre of the circle is

    xc = x + r sin(phi0),    yc = y - r cos(phi0)

and the point of closest approach to the beam line (x = y = 0) has

    d0 = sgn(q) (hypot(xc, yc) - |r|),    phid = atan2(sgn(r) xc, -sgn(r) yc),
    dz = z + (pz/pT) r wrap(phi0 - phid).

Source: the conventions of Delphes 3.5.1 (arXiv:1307.6346), which the published files follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CURVATURE = 0.29979  # GeV / (T m) per unit charge


@dataclass(frozen=True)
class Solenoid:
  """A cylinder filled with a magnetic field along z: `field` in T, lengths in mm."""

  field: float = 3.8
  radius: float = 1290.0
  half_length: float = 3000.0


CMS_SOLENOID = Solenoid()


@dataclass(frozen=True)
class Propagated:
  """Where particles leave the tracker, and their perigee. All arrays have shape (N,).

  Attributes:
    eta, phi: direction, seen from the origin, of the point where the cylinder is left.
    track_phi: azimuth of the momentum at the perigee (of the momentum itself when neutral).
    d0, dz: impact parameters in mm; zero for neutral particles.
    inside: made inside the cylinder, so that it can be seen at all.
  """

  eta: np.ndarray
  phi: np.ndarray
  track_phi: np.ndarray
  d0: np.ndarray
  dz: np.ndarray
  inside: np.ndarray


def wrap(angle: np.ndarray) -> np.ndarray:
  """Any angle -> the same angle in [-pi, pi)."""
  return (angle + np.pi) % (2 * np.pi) - np.pi


def propagate(
  px: np.ndarray,
  py: np.ndarray,
  pz: np.ndarray,
  charge: np.ndarray,
  x: np.ndarray,
  y: np.ndarray,
  z: np.ndarray,
  solenoid: Solenoid = CMS_SOLENOID,
) -> Propagated:
  """Follows particles from their production vertex to the surface of the cylinder.

  Shapes: all (N,). Momenta in GeV, vertices in mm, charges in units of e.
  """
  pt = np.hypot(px, py)
  # Below 30 keV of transverse momentum a direction has no meaning; Delphes drops these too.
  inside = (
    (np.hypot(x, y) <= solenoid.radius) & (np.abs(z) <= solenoid.half_length) & (pt**2 >= 1e-9)
  )
  phi0 = np.arctan2(py, px)
  eta, phi = np.zeros_like(pt), np.zeros_like(pt)
  track_phi, d0, dz = phi0.copy(), np.zeros_like(pt), np.zeros_like(pt)
  charged = np.flatnonzero(inside & (charge != 0))
  neutral = np.flatnonzero(inside & (charge == 0))

  slope = np.divide(pz, pt, out=np.zeros_like(pt), where=inside)
  eta[neutral], phi[neutral] = _straight(
    phi0[neutral], slope[neutral], x[neutral], y[neutral], z[neutral], solenoid
  )
  radius = 1e3 * pt[charged] / (CURVATURE * charge[charged] * solenoid.field)
  eta[charged], phi[charged], track_phi[charged], d0[charged], dz[charged] = _helix(
    phi0[charged], slope[charged], radius, x[charged], y[charged], z[charged], solenoid
  )
  return Propagated(eta, phi, track_phi, d0, dz, inside)


def _to_end(slope, z, half_length):
  """Transverse path length to the end of the cylinder; infinite when pz = 0."""
  distance = np.copysign(half_length, slope) - z
  return np.divide(distance, slope, out=np.full_like(z, np.inf), where=slope != 0)


def _straight(phi0, slope, x, y, z, solenoid):
  cos, sin = np.cos(phi0), np.sin(phi0)
  along = x * cos + y * sin
  to_side = np.sqrt(along**2 + solenoid.radius**2 - x**2 - y**2) - along
  path = np.minimum(to_side, _to_end(slope, z, solenoid.half_length))
  return _direction(x + path * cos, y + path * sin, z + path * slope)


def _helix(phi0, slope, r, x, y, z, solenoid):
  sign, size = np.sign(r), np.abs(r)
  xc, yc = x + r * np.sin(phi0), y - r * np.cos(phi0)
  rc = np.hypot(xc, yc)
  d0 = sign * (rc - size)
  track_phi = np.arctan2(sign * xc, -sign * yc)
  # Angle turned until the perigee: negative when it lies behind the production vertex.
  to_perigee = sign * wrap(phi0 - track_phi)
  dz = z + slope * size * to_perigee

  # From the perigee the circle reaches the side after the angle alpha, with
  # sin^2(alpha/2) = (R^2 - (|r| - rc)^2) / (4 |r| rc), unless it curls up inside.
  crosses = rc + size >= solenoid.radius
  square = np.divide(
    solenoid.radius**2 - (size - rc) ** 2,
    4 * size * rc,
    out=np.zeros_like(r),
    where=crosses & (rc > 0),
  )
  alpha = 2 * np.arcsin(np.sqrt(np.clip(square, 0, 1)))
  to_side = np.where(crosses, to_perigee + alpha, np.inf)
  to_end = _to_end(slope, z, solenoid.half_length) / size
  # A curling particle without pz never leaves: it is taken where it was made.
  turned = np.minimum(to_side, to_end)
  turned[~np.isfinite(turned)] = 0.0
  phi = phi0 - sign * turned
  eta_phi = _direction(xc - r * np.sin(phi), yc + r * np.cos(phi), z + slope * size * turned)
  return *eta_phi, track_phi, d0, dz


def _direction(x, y, z):
  rho = np.maximum(np.hypot(x, y), 1e-9)
  return np.arcsinh(z / rho), np.arctan2(y, x)
