"""Angular distributions of decays of a polarised J/psi, by accepting and rejecting.

Pythia decays the J/psi as if it had no spin. Made by e+e- it is polarised along the beam, so that,
in its rest frame,

    l+ l-   1 + cos^2(theta)
    rho pi  |(p+ x p-)_T|^2 = |p+ x p-|^2 sin^2(theta_n), n the normal of the decay plane.

The channels are enlarged before by what will be rejected: branching fractions stay.
"""

from __future__ import annotations

import numpy as np

from jetfm.generate.jpsi_chains import chain_code, chain_codes
from jetfm.generate.jpsi_decays import MASS, TOTAL_ENERGY, TOTAL_PX, Decays, JpsiPythia
from jetfm.generate.jpsi_table import pythia_settings

LEPTONS = {(-11, 11): "J/psi -> e+ e-", (-13, 13): "J/psi -> mu+ mu-"}
RHO_PI = {
  (-213, 211): "J/psi -> pi+ (rho- -> pi- pi0)",
  (-211, 213): "J/psi -> pi- (rho+ -> pi+ pi0)",
  (111, 113): "J/psi -> pi0 (rho0 -> pi+ pi-)",
}
"""Products of the channels, and the chains that are made of them."""
LEPTONS_ACCEPTED = 2 / 3
RHO_PI_ACCEPTED = 0.1741  # +- 0.0004, of 120,000
"""Mean weight of decays that Pythia makes."""

_PYTHIA_SEEDS = 900_000_000
_LIGHTEST = 0.13497  # GeV; no pion is lighter
# |p+ x p-|^2 is largest when three pions have equal energies.
_LARGEST_PRODUCT2 = 0.75 * (MASS**2 / 9 - _LIGHTEST**2) ** 2


class PolarisedJpsi:
  """Decays with their angular distributions, without end.

  Args:
    seeds: makes Pythia's seed and the numbers that accept and reject.
  """

  def __init__(self, seeds: np.random.SeedSequence):
    pythia, angles = seeds.spawn(2)
    seed = int(pythia.generate_state(1)[0]) % _PYTHIA_SEEDS + 1
    self._pythia = JpsiPythia(pythia_settings(enlarged_channels()), seed)
    self._rng = np.random.default_rng(angles)

  def next_decays(self) -> tuple[Decays, np.ndarray]:
    """Some decays and the codes of their chains."""
    decays = self._pythia.next_decays()
    codes = chain_codes(decays)
    accepted = self._rng.random(len(decays)) < angular_weight(decays, codes)
    return decays.select(accepted), codes[accepted]


def enlarged_channels() -> dict[tuple[int, ...], float]:
  """Factors that make up for what is rejected, by products."""
  return {
    **dict.fromkeys(LEPTONS, 1 / LEPTONS_ACCEPTED),
    **dict.fromkeys(RHO_PI, 1 / RHO_PI_ACCEPTED),
  }


def angular_weight(decays: Decays, codes: np.ndarray) -> np.ndarray:
  """Probability to accept each decay, (n,): 1 where there is no distribution to bring about.

  Args:
    codes: (n,) codes of the chains.
  """
  weight = np.ones(len(decays))
  leptons = np.isin(codes, [chain_code(text) for text in LEPTONS.values()])
  if leptons.any():
    momentum = _summed(decays, leptons, (11, 13))
    weight[leptons] = (1 + momentum[:, 2] ** 2 / (momentum**2).sum(axis=1)) / 2
  rho_pi = np.isin(codes, [chain_code(text) for text in RHO_PI.values()])
  if rho_pi.any():
    normal = np.cross(_summed(decays, rho_pi, (211,)), _summed(decays, rho_pi, (-211,)))
    weight[rho_pi] = (normal[:, 0] ** 2 + normal[:, 1] ** 2) / _LARGEST_PRODUCT2
  return weight


def _summed(decays: Decays, wanted: np.ndarray, pids: tuple[int, ...]) -> np.ndarray:
  """(wanted decays, 3) momentum of stable products of these kinds in the J/psi's rest frame."""
  chosen = decays.select(wanted)
  records = chosen.records
  index = chosen.stable[np.isin(records.pid[chosen.stable], pids)]
  boosted = (TOTAL_ENERGY * records.px[index] - TOTAL_PX * records.energy[index]) / MASS
  owner = chosen.decay[index]
  components = (boosted, records.py[index], records.pz[index])
  return np.stack([np.bincount(owner, x, len(chosen)) for x in components], axis=1)
