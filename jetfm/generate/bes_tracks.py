"""Charged tracks of the drift chamber (MDC) of a BESIII-like detector.

    sigma(pT)/pT = 0.32 % pT [GeV] (+) 0.37 %/beta,   angles 2 mrad,   field 1 T.

A track needs |cos(theta)| < 0.93; its efficiency is 0.98 above pT = 0.2 GeV and falls linearly to 0
at 0.05 GeV. The beam line is the reference: vr0 is the transverse distance of closest approach, vz0
the z there. A track whose vr0 agrees with the beam line within three standard deviations counts
as coming from it and has vr0 = 0: a spike, above which decays in flight make the tail.
Sources: BESIII, arXiv:0911.4960 (momentum resolution, acceptance); the rest is parametrised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetfm.generate.energy_flow import Particles
from jetfm.generate.helix import Propagated

MAX_COSINE = 0.93
EFFICIENCY, EFFICIENT_PT, LOST_PT = 0.98, 0.2, 0.05
ANGLE_SIGMA = 2e-3
MAX_VR0, MAX_VZ0 = 10.0, 20.0  # cm
PROMPT_PULL = 3.0
_LAST_ORIGIN = 500.0  # mm: what is made further out crosses too few layers
_VR0_SIGMA, _VZ0_SIGMA = (0.015, 0.015), (0.10, 0.10)  # cm: constant, and over beta p


@dataclass(frozen=True)
class Tracks:
  """Measured tracks, ordered by event. All arrays have shape (T,).

  Attributes:
    particle: place of the particle in the list of particles.
    event: event number.
    charge: units of e.
    px, py, pz: GeV, at the point closest to the beam line.
    vr0, vz0: cm.
  """

  particle: np.ndarray
  event: np.ndarray
  charge: np.ndarray
  px: np.ndarray
  py: np.ndarray
  pz: np.ndarray
  vr0: np.ndarray
  vz0: np.ndarray

  def __len__(self) -> int:
    return len(self.event)

  @property
  def momentum(self) -> np.ndarray:
    """(T,) |p| in GeV."""
    return np.sqrt(self.px**2 + self.py**2 + self.pz**2)


def efficiency(pt: np.ndarray) -> np.ndarray:
  """Probability that a charged particle inside the acceptance is found; pT (N,) in GeV."""
  return EFFICIENCY * np.clip((pt - LOST_PT) / (EFFICIENT_PT - LOST_PT), 0, 1)


def pt_resolution(pt: np.ndarray, beta: np.ndarray) -> np.ndarray:
  """sigma(pT)/pT; pT in GeV, all (N,)."""
  return np.hypot(0.0032 * pt, 0.0037 / beta)


def find_tracks(rng: np.random.Generator, particles: Particles, flight: Propagated) -> Tracks:
  """The tracks that are found, with their measurements.

  Args:
    rng: draws efficiencies and errors.
    particles: stable particles of all events.
    flight: where they go in the field.
  """
  index = np.flatnonzero((particles.charge != 0) & flight.inside)
  px, py, pz = particles.px[index], particles.py[index], particles.pz[index]
  pt = np.hypot(px, py)
  p = np.hypot(pt, pz)
  found = rng.random(len(index)) < efficiency(pt)
  found &= np.abs(pz) < MAX_COSINE * p
  found &= np.hypot(particles.x[index], particles.y[index]) < _LAST_ORIGIN
  index, pt, pz, p = index[found], pt[found], pz[found], p[found]

  beta = p / particles.energy[index]
  noise = rng.standard_normal((5, len(index)))
  new_pt = pt * np.abs(1 + pt_resolution(pt, beta) * noise[0])
  phi = flight.track_phi[index] + ANGLE_SIGMA * noise[1]
  theta = np.arctan2(pt, pz) + ANGLE_SIGMA * noise[2]
  vr0_sigma, vz0_sigma = (a + b / (beta * p) for a, b in (_VR0_SIGMA, _VZ0_SIGMA))
  vr0 = np.abs(flight.d0[index] / 10 + vr0_sigma * noise[3])  # mm -> cm
  vz0 = flight.dz[index] / 10 + vz0_sigma * noise[4]
  near = (vr0 < MAX_VR0) & (np.abs(vz0) < MAX_VZ0)
  tracks = Tracks(
    index,
    particles.event[index],
    particles.charge[index],
    new_pt * np.cos(phi),
    new_pt * np.sin(phi),
    new_pt / np.tan(theta),
    np.where(vr0 < PROMPT_PULL * vr0_sigma, 0.0, vr0),
    vz0,
  )
  return Tracks(**{name: getattr(tracks, name)[near] for name in Tracks.__dataclass_fields__})
