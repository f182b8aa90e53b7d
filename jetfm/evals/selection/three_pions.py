"""Events as pi+ pi- pi0: two opposite tracks and the pair of photons that fits best.

Every pair of photon candidates whose mass is near that of the pi0 is fitted, with both tracks, to
the four-momentum of the collision. The pair of the smallest chi^2 makes the candidate of its event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jetfm.evals.selection.kinematic_fit import Fit, fit_four_momentum
from jetfm.evals.selection.measured import KAON_MASS, PI0_MASS, Measured, join, photons, tracks
from jetfm.evals.selection.objects import ELECTRON, KAON, Objects

PAIR_MASSES = (0.08, 0.19)  # GeV, before the fit
MAX_CHI2 = 200.0
MIN_EOP = 0.8
"""Of electrons."""


@dataclass(frozen=True)
class ThreePions:
  """Candidates, at most one in an event; m of them.

  Attributes:
    event: (m,) place of the event in what was given, rising.
    chi2: (m,) of the fit with the masses of pions.
    kaon_chi2: (m,) of the same objects as K+ K- and two photons; may be infinite.
    p4: (m, 3, 4) fitted four-momenta of pi+, pi-, pi0 in GeV.
    pi0_mass: (m,) GeV, of the two fitted photons.
    heavy: (m,) how many of the two tracks look like K or p.
    electrons: (m,) how many of them look like electrons.
    other_energy: (m,) GeV of photon candidates that are left over.
    pull: (m, 4, 3) of the fit: two tracks, two photons.
  """

  event: np.ndarray
  chi2: np.ndarray
  kaon_chi2: np.ndarray
  p4: np.ndarray
  pi0_mass: np.ndarray
  heavy: np.ndarray
  electrons: np.ndarray
  other_energy: np.ndarray
  pull: np.ndarray

  def __len__(self) -> int:
    return len(self.event)

  def take(self, index: np.ndarray) -> ThreePions:
    """The candidates at these places (an index array or a mask)."""
    return ThreePions(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

  def at(self, event: np.ndarray) -> ThreePions:
    """The same candidates with other places of their events, (m,)."""
    return replace(self, event=event)

  def masses(self) -> np.ndarray:
    """(m, 3) of pi- pi0, pi+ pi0 and pi+ pi- in GeV: each without the pion of that place."""
    pairs = self.p4.sum(axis=1, keepdims=True) - self.p4
    return np.sqrt(np.maximum(_dot(pairs, pairs), 0))

  def helicity_cosines(self) -> np.ndarray:
    """(m, 3) of the same pairs: between a pion of the pair and the third, in the pair's frame."""
    columns = []
    for third in range(3):
      first = (third + 1) % 3
      pair = self.p4.sum(axis=1) - self.p4[:, third]
      mass = np.sqrt(np.maximum(_dot(pair, pair), 1e-12))
      a, b = self.p4[:, first], self.p4[:, third]
      a_energy, b_energy = _dot(a, pair) / mass, _dot(b, pair) / mass
      sizes = np.sqrt(
        np.maximum(a_energy**2 - _dot(a, a), 1e-12) * np.maximum(b_energy**2 - _dot(b, b), 1e-12)
      )
      columns.append((a_energy * b_energy - _dot(a, b)) / sizes)
    return np.clip(np.stack(columns, axis=1), -1, 1)

  def normal_cosine(self) -> np.ndarray:
    """(m,) |cos(theta)| of the normal of the decay plane to the beams."""
    normal = np.cross(self.p4[:, 0, 1:], self.p4[:, 1, 1:])
    return np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)


def concatenate(parts: Sequence[ThreePions], sizes: Sequence[int]) -> ThreePions:
  """Candidates of batches of so many events as those of one after another."""
  first = np.cumsum([0, *sizes[:-1]])
  names = list(ThreePions.__dataclass_fields__)[1:]
  event = np.concatenate([part.event + start for part, start in zip(parts, first, strict=True)])
  return ThreePions(event, *(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def find_three_pions(objects: Objects) -> ThreePions:
  """The candidates of events with two good tracks of opposite charge and no other track."""
  two = (objects.is_track.sum(axis=1) == 2) & (objects.is_photon.sum(axis=1) >= 2)
  two &= ((objects.charge > 0).sum(axis=1) == 1) & ((objects.charge < 0).sum(axis=1) == 1)
  events = np.flatnonzero(two)
  row, first, second = _pairs(objects.is_photon[events])
  event = events[row]
  plus, minus = np.argmax(objects.charge > 0, axis=1), np.argmax(objects.charge < 0, axis=1)
  charged, neutral = (
    np.stack([plus[event], minus[event]], axis=1),
    np.stack([first, second], axis=1),
  )
  at = event[:, None]
  showers = photons(objects.energy[at, neutral], objects.point[at, neutral])
  raw_mass = _mass(showers.momenta())
  near = (raw_mass > PAIR_MASSES[0]) & (raw_mass < PAIR_MASSES[1])
  event, charged, neutral, at = event[near], charged[near], neutral[near], at[near]
  measured = join(tracks(objects.momentum[at, charged]), showers.take(near))
  fit = fit_four_momentum(measured)
  order = np.lexsort((fit.chi2, event))
  best = order[np.r_[True, np.diff(event[order]) > 0]] if len(order) else order
  best = best[fit.chi2[best] < MAX_CHI2]
  used = charged[best], neutral[best]
  return _candidates(objects, event[best], *used, measured.take(best), fit.take(best))


def _candidates(
  objects: Objects,
  event: np.ndarray,
  charged: np.ndarray,
  neutral: np.ndarray,
  measured: Measured,
  fit: Fit,
) -> ThreePions:
  p4 = fit.p4
  kind = objects.kind[event[:, None], charged]
  eop = objects.energy_over_momentum[event[:, None], charged]
  energies = np.where(objects.is_photon[event], objects.energy[event], 0).sum(axis=1)
  used = objects.energy[event[:, None], neutral].sum(axis=1)
  return ThreePions(
    event,
    fit.chi2,
    fit_four_momentum(measured.with_track_mass(KAON_MASS)).chi2,
    np.concatenate([p4[:, :2], p4[:, 2:].sum(axis=1, keepdims=True)], axis=1),
    _mass(p4[:, 2:]),
    (kind >= KAON).sum(axis=1),
    ((kind == ELECTRON) & (eop > MIN_EOP)).sum(axis=1),
    np.maximum(energies - used, 0),
    fit.pull,
  )


def _pairs(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(B, N) bool -> rows and slots i < j of all pairs of chosen slots."""
  slots = chosen.shape[1]
  i, j = np.triu_indices(slots, 1)
  row, pair = np.nonzero(chosen[:, i] & chosen[:, j])
  return row, i[pair], j[pair]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(axis=-1)


def _mass(p4: np.ndarray) -> np.ndarray:
  """(m, 2, 4) -> (m,) of the sum."""
  total = p4.sum(axis=1)
  return np.sqrt(np.maximum(_dot(total, total), 0))


def pi0_deviation(found: ThreePions) -> np.ndarray:
  """(m,) |m(gamma gamma) - m(pi0)| in GeV after the fit."""
  return np.abs(found.pi0_mass - PI0_MASS)
