"""The electromagnetic calorimeter (EMC): what particles leave in it and how it is measured.

    sigma_E/E = 2.3 %/sqrt(E) (+) 1 %,   position 0.6 cm/sqrt(E),   E in GeV.

Barrel |cos(theta)| < 0.82 with inner radius 94 cm, end caps 0.86-0.92 at z = +-138 cm, CsI crystals
28 cm deep. Showers are placed DEPTH below the surface. Thresholds are 25 MeV in the barrel and
50 MeV in the end caps.
Sources: BESIII, arXiv:0911.4960 (geometry, resolutions, thresholds); what hadrons leave, and the
shapes of showers, are parametrised.
"""

from __future__ import annotations

import numpy as np

from jetfm.generate.energy_flow import Particles
from jetfm.generate.helix import CURVATURE, Propagated, Solenoid

EMC = Solenoid(field=1.0, radius=940.0, half_length=1380.0)  # T, mm
DEPTH = 6.0  # cm
BARREL_COSINE, END_COSINES = 0.82, (0.86, 0.92)
THRESHOLD_BARREL, THRESHOLD_END = 0.025, 0.050  # GeV
TIME_WINDOW = 700.0  # ns
PROMPT_TIME = 250.0
ELECTROMAGNETIC, MINIMUM_IONISING, HADRONIC = 0, 1, 2
"""Kinds of showers."""
CHARGED_HADRON_SHOWERS, NEUTRAL_HADRON_SHOWERS, INTERACTS = 0.7, 0.5, 0.5
HADRON_ENERGY, ANNIHILATION_ENERGY = 0.5, 2.0  # GeV, largest
MIP_ENERGY = 0.165


def deposits(rng: np.random.Generator, particles: Particles) -> tuple[np.ndarray, np.ndarray]:
  """Energy in GeV that each particle leaves, (N,), 0 for none; and the kind of shower, (N,).

  Photons and electrons leave all of theirs. Muons and about half of the hadrons leave that of a
  minimum ionising particle; hadrons that interact leave up to 0.5 GeV, antinucleons, which
  annihilate, up to 2 GeV.
  """
  size = np.abs(particles.pid)
  charged = particles.charge != 0
  kinetic = particles.energy - particles.mass
  u, v = rng.random((2, len(particles)))
  shape, landau = rng.beta(1.3, 1.9, len(particles)), rng.standard_normal(len(particles))
  electromagnetic = (size == 11) | (size == 22)
  muon = size == 13
  hadron = size > 100
  annihilates = (particles.pid == -2212) | (particles.pid == -2112)
  mip = muon | (hadron & charged & ~annihilates & (v > INTERACTS))
  seen = np.where(charged, CHARGED_HADRON_SHOWERS, NEUTRAL_HADRON_SHOWERS)
  energy = np.where(hadron & (u < seen), shape * HADRON_ENERGY, 0.0)
  energy = np.where(hadron & annihilates & (u < seen), shape * ANNIHILATION_ENERGY, energy)
  ionising = np.minimum(MIP_ENERGY * np.exp(0.15 * landau), kinetic)
  energy = np.where(mip & (muon | (u < seen)), ionising, energy)
  energy = np.where(electromagnetic, particles.energy, energy)
  kind = np.where(electromagnetic, ELECTROMAGNETIC, np.where(mip, MINIMUM_IONISING, HADRONIC))
  return energy, kind


def arrives(particles: Particles, flight: Propagated) -> np.ndarray:
  """(N,) bool: particles that get to the crystals.

  Those that curl up inside the barrel, below pT = 0.14 GeV, must get to an end cap within half a
  turn.
  """
  pt = np.hypot(particles.px, particles.py)
  radius = 1e3 * pt / (CURVATURE * EMC.field)
  crosses = 2 * radius + np.abs(flight.d0) >= EMC.radius
  to_end = EMC.half_length - np.copysign(particles.z, particles.z * particles.pz)
  in_half_turn = to_end * pt < np.pi * radius * np.abs(particles.pz)
  return flight.inside & ((particles.charge == 0) | crosses | in_half_turn)


def surface_points(flight: Propagated) -> np.ndarray:
  """(N, 3) points in cm where particles are when they have gone DEPTH into the crystals."""
  radius, half_length = EMC.radius / 10, EMC.half_length / 10
  slope = np.sinh(flight.eta)
  rho = np.minimum(radius, half_length / np.maximum(np.abs(slope), 1e-9))
  points = np.stack([rho * np.cos(flight.phi), rho * np.sin(flight.phi), rho * slope], axis=1)
  return points * (1 + DEPTH / (rho * np.cosh(flight.eta)))[:, None]


def points_of(eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
  """(N, 3) points in cm at DEPTH in the crystals, in directions seen from the origin."""
  zero = np.zeros_like(eta)
  return surface_points(Propagated(eta, phi, zero, zero, zero, zero))


def cosines(points: np.ndarray) -> np.ndarray:
  """(N, 3) -> |cos(theta)| seen from the origin, (N,)."""
  return np.abs(points[:, 2]) / np.sqrt((points**2).sum(axis=1))


def energy_resolution(energy: np.ndarray) -> np.ndarray:
  """sigma_E/E, energy in GeV, (N,)."""
  return np.hypot(0.023 / np.sqrt(energy), 0.01)


def measure(
  rng: np.random.Generator, energy: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Smears showers.

  Shapes: positive energies (N,) in GeV, points (N, 3) in cm -> measured energies and points, and
  (N,) bool: whether there are crystals, and the energy is above threshold.
  """
  noise = rng.standard_normal((len(energy), 4))
  measured = energy * (1 + energy_resolution(energy) * noise[:, 3])
  sigma = 0.6 / np.sqrt(energy)
  moved = points + sigma[:, None] * noise[:, :3]
  cosine = cosines(points)
  barrel = cosine < BARREL_COSINE
  # Within the surface of the crystals: along the beam and around it, or across it.
  rho, new_rho = (np.hypot(x[:, 0], x[:, 1]) for x in (points, moved))
  moved[:, :2] *= np.where(barrel, rho / new_rho, 1)[:, None]
  moved[:, 2] = np.where(barrel, moved[:, 2], points[:, 2])
  end = (cosine > END_COSINES[0]) & (cosine < END_COSINES[1])
  threshold = np.where(barrel, THRESHOLD_BARREL, THRESHOLD_END)
  return measured, moved, (barrel | end) & (measured > threshold)


# Columns: electromagnetic, minimum ionising, hadronic.
_HITS = np.array([21.0, 9.0, 30.0])  # crystals at 1 GeV
_INNER, _INNER_SPREAD = np.array([0.90, 0.97, 0.80]), np.array([0.02, 0.015, 0.08])
_OUTER, _OUTER_SPREAD = np.array([0.60, 0.60, 0.50]), np.array([0.06, 0.10, 0.15])
_SECOND, _SECOND_SPREAD = np.array([11.0, 6.0, 20.0]), np.array([0.20, 0.45, 0.55])  # cm^2
_LATERAL, _LATERAL_SPREAD = np.array([0.18, 0.12, 0.33]), np.array([0.25, 0.50, 0.40])
MIN_HITS_FOR_MOMENTS = 4


def shapes(
  rng: np.random.Generator, energy: np.ndarray, kind: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Columns that describe a shower's shape, and (N,) bool: large enough for its moments.

  Shapes: energy in GeV and kind, (N,). The columns are emc_numHits, emc_e3x3 and emc_e5x5 in GeV,
  emc_secmom in cm^2 and emc_latmom.
  """
  noise = rng.standard_normal((4, len(energy)))
  hits = 1 + rng.poisson(_HITS[kind] * energy**0.6)
  inner = np.clip(_INNER[kind] + _INNER_SPREAD[kind] * noise[0], 0.3, 1)
  # What the ring of 5x5 adds of what the 3x3 leaves.
  ring = np.clip(_OUTER[kind] + _OUTER_SPREAD[kind] * noise[1], 0, 1)
  columns = {
    "emc_numHits": hits,
    "emc_e3x3": energy * inner,
    "emc_e5x5": energy * (inner + (1 - inner) * ring),
    "emc_secmom": _SECOND[kind] * np.exp(_SECOND_SPREAD[kind] * noise[2]),
    "emc_latmom": np.minimum(_LATERAL[kind] * np.exp(_LATERAL_SPREAD[kind] * noise[3]), 1),
  }
  return columns, hits >= MIN_HITS_FOR_MOMENTS


def times(rng: np.random.Generator, energy: np.ndarray, prompt: np.ndarray) -> np.ndarray:
  """Times in ns, (N,): a peak for what belongs to the collision, evenly in the window for noise."""
  sigma = np.hypot(10, 25 * np.sqrt(0.05 / energy))
  peak = PROMPT_TIME + sigma * rng.standard_normal(len(energy))
  anywhere = TIME_WINDOW * rng.random(len(energy))
  return np.clip(np.where(prompt, peak, anywhere), 0, TIME_WINDOW)
