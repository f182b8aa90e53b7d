"""Which of e, mu, pi, K, p a track looks most like: energy loss in the MDC and time of flight.

For every hypothesis chi^2 is that of dE/dx (resolution 6 %) plus, where the track reaches the
scintillators, that of the time of flight (70 ps in the barrel, 110 ps in the end caps). The
smallest chi^2 wins. Muons and pions differ by little: below 0.3 GeV the time of flight helps.
Sources: BESIII, arXiv:0911.4960 (resolutions, radius); Bethe's formula for the energy loss.
"""

from __future__ import annotations

import numpy as np

HYPOTHESES = (11, 13, 211, 321, 2212)
"""|PDG ids|; `pid_prob_type` is the place in this list."""
MASSES = np.array([0.000511, 0.105658, 0.139570, 0.493677, 0.938272])  # GeV
DEDX_SIGMA = 0.06
TOF_SIGMA_BARREL, TOF_SIGMA_END = 0.070, 0.110  # ns
TOF_RADIUS, TOF_END, BARREL_COSINE = 0.86, 1.35, 0.83  # m, m
FIELD = 1.0  # T
_LIGHT = 0.299792458  # m/ns, and GeV/(T m)


def energy_loss(beta_gamma: np.ndarray) -> np.ndarray:
  """Mean dE/dx in arbitrary units; any shape. The relativistic rise ends near beta gamma = 200."""
  square = beta_gamma**2
  beta2 = square / (1 + square)
  rise = np.log(2e4 * square / (1 + square / 200.0**2))
  return (rise - beta2) / beta2


def flight_length(pt: np.ndarray, pz: np.ndarray) -> np.ndarray:
  """Length in m of the way from the origin to the scintillators, (T,); 0 when it misses them.

  To the barrel it is an arc of the radius r = pT / (0.3 B), 2 r asin(R / 2r) in the transverse
  plane.
  """
  p = np.hypot(pt, pz)
  radius = pt / (_LIGHT * FIELD)
  half_chord = TOF_RADIUS / np.maximum(2 * radius, 1e-9)
  barrel = 2 * radius * np.arcsin(np.minimum(half_chord, 1)) * p / np.maximum(pt, 1e-9)
  cosine = np.abs(pz) / np.maximum(p, 1e-9)
  end = TOF_END / np.maximum(cosine, 1e-9)
  return np.where(cosine > BARREL_COSINE, end, np.where(half_chord < 1, barrel, 0.0))


def identify(
  rng: np.random.Generator,
  pid: np.ndarray,
  true_momentum: np.ndarray,
  pt: np.ndarray,
  pz: np.ndarray,
) -> np.ndarray:
  """Measured tracks -> place of the best hypothesis in HYPOTHESES.

  Shapes: all (T,); `pid` and `true_momentum` (GeV) of the particle, `pt` and `pz` of the track.
  """
  kind = np.searchsorted(HYPOTHESES, np.abs(pid))
  mass = MASSES[np.minimum(kind, len(MASSES) - 1)]
  noise = rng.standard_normal((2, len(pid)))
  loss = energy_loss(true_momentum / mass) * (1 + DEDX_SIGMA * noise[0])
  length = flight_length(pt, pz)
  end = np.abs(pz) > BARREL_COSINE * np.hypot(pt, pz)
  sigma = np.where(end, TOF_SIGMA_END, TOF_SIGMA_BARREL)
  time = length / _LIGHT * np.hypot(1, mass / true_momentum) + sigma * noise[1]

  momentum = np.hypot(pt, pz)[:, None]
  expected_loss = energy_loss(momentum / MASSES)
  expected_time = length[:, None] / _LIGHT * np.hypot(1, MASSES / momentum)
  chi2 = ((loss[:, None] / expected_loss - 1) / DEDX_SIGMA) ** 2
  chi2 += ((time[:, None] - expected_time) / sigma[:, None]) ** 2
  return np.argmin(chi2, axis=1)
