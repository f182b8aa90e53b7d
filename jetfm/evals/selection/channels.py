"""The four channels J/psi -> pi+ pi- pi0: with each of the rho mesons, and without.

A candidate is tried as rho pi with the pair of pions whose mass is nearest to that of the rho, with
cuts of its own on the fit, the mass of the pi0, the identification, the mass of the rho, its
helicity angle (signal like sin^2, the rest even) and the angle of the decay plane. What is left is
tried as pi+ pi- pi0 without a rho, with a veto on its mass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jetfm.evals.selection.cuts import Counts, Cuts, Variables, tightness, tune_cuts
from jetfm.evals.selection.three_pions import (
  COMPLETE,
  DEGREES_OF_FREEDOM,
  ThreePions,
)

RHO_MASS = 0.7753  # GeV
CHANNELS = (
  "J/psi -> pi+ (rho- -> pi- pi0)",
  "J/psi -> pi- (rho+ -> pi+ pi0)",
  "J/psi -> pi0 (rho0 -> pi+ pi-)",
  "J/psi -> pi+ pi- pi0",
)
"""Decay chains. The first three are ordered as the pions that are not of the rho."""
NON_RESONANT = 3


def variables_of(found: ThreePions, channel: int) -> dict[str, np.ndarray]:
  """What the channel is cut on, each (m,) and small for signal."""
  common = {
    "chi2": found.chi2,
    "pi0_mass": found.pi0_deviation(),
    "heavy": found.heavy.astype(np.float64),
    "electrons": found.electrons.astype(np.float64),
    "chi2_over_kaons": found.chi2 - np.minimum(found.kaon_chi2, 1e6),
    "other_energy": found.other_energy,
  }
  masses = found.masses()
  if channel == NON_RESONANT:
    off = np.abs(masses - RHO_MASS).min(axis=1)
    return common | {"rho_veto": -off, "low_mass_veto": -masses.min(axis=1)}
  off = masses[:, channel] - RHO_MASS
  return common | {
    "rho_low": -off,
    "rho_high": off,
    "helicity": np.abs(found.helicity_cosines()[:, channel]),
    "plane": found.normal_cosine(),
  }


_BEHIND = 1e6
TIGHTENED = ("rho_distance", "helicity", "plane")
"""What is tightened together for more precision where there is a rho."""


def nearest_rho(found: ThreePions) -> np.ndarray:
  """(m,) the channel, of the first three, whose pair is nearest to the rho."""
  return np.abs(found.masses() - RHO_MASS).argmin(axis=1)


@dataclass(frozen=True)
class ChannelSelection:
  """Cuts of the four channels, and their signal in the training sample.

  Attributes:
    cuts: (kinds of candidates) x (CHANNELS).
    signal: the same, what is tightened, of signal candidates that pass.
  """

  cuts: tuple[tuple[Cuts, ...], ...]
  signal: tuple[tuple[Variables, ...], ...]

  def assign(self, found: ThreePions) -> np.ndarray:
    """(m,) place in CHANNELS, -1 for none."""
    out = np.full(len(found), -1)
    nearest = nearest_rho(found)
    for channel in range(len(CHANNELS)):
      open_to = out < 0 if channel == NON_RESONANT else nearest == channel
      out[open_to & self._passes(found, channel)] = channel
    return out

  def rankings(self, found: ThreePions, channel: int) -> dict[str, np.ndarray]:
    """Scores (m,) by which a channel can be selected more tightly; -inf for other candidates.

    `chi2`: logarithm of the probability of the fit, the limit of chi2 aside. `tightened`: the
    smallest share of signal to which all cuts on the rho can be tightened before the candidate
    fails. Candidates with a lost particle come after all complete ones.
    """
    open_to = nearest_rho(found) == channel
    if channel == NON_RESONANT:
      open_to = ~np.isin(self.assign(found), range(NON_RESONANT))
    by_fit = np.where(open_to & self._passes(found, channel, "chi2"), 0.0, -np.inf)
    by_rho = np.where(open_to & self._passes(found, channel), 0.0, -np.inf)
    for kind, signal in enumerate(self.signal):
      rows = found.kind == kind
      by_fit[rows] += _log_probability(found.chi2[rows], DEGREES_OF_FREEDOM[kind])
      own = signal[channel]
      if len(next(iter(own.values()))):
        by_rho[rows] += tightness(_tightened(found.take(rows), channel), own)
    incomplete = found.kind != COMPLETE
    by_rho[incomplete] -= 1
    by_fit[incomplete] -= _BEHIND
    return {"chi2": by_fit, "tightened": by_rho}

  def _passes(self, found: ThreePions, channel: int, but: str | None = None) -> np.ndarray:
    variables = variables_of(found, channel)
    passes = [cuts[channel].passes(variables, but) for cuts in self.cuts]
    return np.stack(passes)[found.kind, np.arange(len(found))]


def tune_channels(found: ThreePions, label: np.ndarray, totals: Sequence[int]) -> ChannelSelection:
  """Cuts that maximise F1 of each channel on a training sample.

  Complete candidates come first; those with a lost particle are added where F1 gains.

  Args:
    found: candidates.
    label: (m,) true channel of each candidate, -1 for other decays.
    totals: events of each channel in the sample, those without candidate too.
  """
  left = np.ones(len(found), bool)
  nearest = nearest_rho(found)
  before = [Counts(signal=total) for total in totals]
  cuts, signal = [], []
  for kind in range(len(DEGREES_OF_FREEDOM)):
    of_kind, of_signal = [], []
    for channel in range(len(CHANNELS)):
      open_to = left if channel == NON_RESONANT else nearest == channel
      rows = np.flatnonzero(open_to & (found.kind == kind))
      some, is_signal = found.take(rows), label[rows] == channel
      variables = variables_of(some, channel)
      of_kind.append(tune_cuts(variables, is_signal, before[channel]))
      passed = of_kind[-1].passes(variables)
      left[rows[passed]] = False
      before[channel] = before[channel].plus(is_signal[passed])
      of_signal.append(_tightened(some.take(passed & is_signal), channel))
    cuts.append(tuple(of_kind))
    signal.append(tuple(of_signal))
  return ChannelSelection(tuple(cuts), tuple(signal))


def _log_probability(chi2: np.ndarray, degrees_of_freedom: int) -> np.ndarray:
  """ln of the chance of a larger chi^2, of 2 or 4 degrees of freedom."""
  return np.log1p(chi2 / 2) * (degrees_of_freedom == 4) - chi2 / 2


def _tightened(found: ThreePions, channel: int) -> Mapping[str, np.ndarray]:
  masses = found.masses()
  if channel == NON_RESONANT:
    return {"rho_distance": -np.abs(masses - RHO_MASS).min(axis=1)}
  columns = (
    np.abs(masses[:, channel] - RHO_MASS),
    np.abs(found.helicity_cosines()[:, channel]),
    found.normal_cosine(),
  )
  return dict(zip(TIGHTENED, columns, strict=True))
