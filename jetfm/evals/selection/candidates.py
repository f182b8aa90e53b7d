"""Events as pi+ pi- pi0: two opposite tracks and the pair of photons that fits best.

Every pair of photon candidates whose mass is near that of the pi0 is fitted, with both tracks, to
the four-momentum of the collision. The pair of the smallest chi^2 makes the candidate of its event.
A photon or a track can have been lost, outside the acceptance or by inefficiency: it is then what
the others lack, and the fit, which knows the mass of the pi0 too, keeps two degrees of freedom.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.selection.kinematic_fit import TOTAL, Fit, fit_four_momentum
from jetfm.evals.selection.measured import (
  KAON_MASS,
  PI0_MASS,
  PION_MASS,
  Measured,
  join,
  photons,
  tracks,
  unmeasured,
)
from jetfm.evals.selection.objects import ELECTRON, KAON, Objects
from jetfm.evals.selection.three_pions import (
  COMPLETE,
  LOST_PHOTON,
  LOST_TRACK,
  ThreePions,
  concatenate,
  dot,
)

PAIR_MASSES = (0.08, 0.19)  # GeV, before the fit
MAX_CHI2 = 200.0
MIN_EOP = 0.8  # of electrons


def find_three_pions(objects: Objects) -> ThreePions:
  """The best candidate of each event: complete if there is one, else with a lost particle."""
  count, photon_count = objects.is_track.sum(axis=1), objects.is_photon.sum(axis=1)
  plus, minus = (objects.charge > 0).sum(axis=1), (objects.charge < 0).sum(axis=1)
  two = (count == 2) & (plus == 1) & (minus == 1)
  one = (count == 1) & (plus + minus == 1)
  complete = _complete(objects, np.flatnonzero(two & (photon_count >= 2)))
  found = np.zeros(len(count), bool)
  found[complete.event] = True
  lost_photon = _lost_photon(objects, np.flatnonzero(two & ~found & (photon_count >= 1)))
  lost_track = _lost_track(objects, np.flatnonzero(one & (photon_count >= 2)))
  parts = [complete, lost_photon, lost_track]
  together = concatenate(parts, [0, 0, 0])
  return together.take(np.argsort(together.event, kind="stable"))


def _complete(objects: Objects, events: np.ndarray) -> ThreePions:
  row, first, second = _pairs(objects.is_photon[events])
  event, neutral = events[row], np.stack([first, second], axis=1)
  event, neutral, showers = _near_pi0(objects, event, neutral)
  charged = _charged(objects, event)
  measured = join(tracks(objects.momentum[event[:, None], charged]), showers)
  fit = fit_four_momentum(measured)
  best = _best_of_event(event, fit.chi2)
  kaon = fit_four_momentum(measured.take(best).with_track_mass(KAON_MASS))
  return _candidates(
    objects, COMPLETE, event[best], charged[best], neutral[best], fit.take(best), kaon.chi2
  )


def _lost_photon(objects: Objects, events: np.ndarray) -> ThreePions:
  """Every photon candidate with one that balances the momentum."""
  row, slot = np.nonzero(objects.is_photon[events])
  event, neutral = events[row], slot[:, None]
  charged, at = _charged(objects, event), event[:, None]
  seen = join(
    tracks(objects.momentum[at, charged]),
    photons(objects.energy[at, neutral], objects.point[at, neutral]),
  )
  measured = join(seen, unmeasured(_missing(seen), 0.0))
  return _best_incomplete(objects, LOST_PHOTON, event, charged, neutral, measured)


def _lost_track(objects: Objects, events: np.ndarray) -> ThreePions:
  """Every pair of photon candidates near the mass of the pi0 with a track that balances."""
  row, first, second = _pairs(objects.is_photon[events])
  event, neutral = events[row], np.stack([first, second], axis=1)
  event, neutral, showers = _near_pi0(objects, event, neutral)
  charged = np.argmax(objects.is_track[event], axis=1)[:, None]
  track = tracks(objects.momentum[event[:, None], charged])
  lost = unmeasured(_missing(join(track, showers)), PION_MASS)
  positive = (np.take_along_axis(objects.charge[event], charged, axis=1) > 0)[..., None]
  measured = join(_chosen(positive, track, lost), _chosen(positive, lost, track), showers)
  return _best_incomplete(objects, LOST_TRACK, event, charged, neutral, measured)


def _best_incomplete(
  objects: Objects,
  kind: int,
  event: np.ndarray,
  charged: np.ndarray,
  neutral: np.ndarray,
  measured: Measured,
) -> ThreePions:
  # Less is measured: the mass of the pi0 is a constraint rather than something to cut on.
  fit = fit_four_momentum(measured, pair_mass=PI0_MASS)
  best = _best_of_event(event, fit.chi2)
  kaons = measured.take(best).with_track_mass(KAON_MASS)
  kaon = fit_four_momentum(kaons, pair_mass=PI0_MASS)
  return _candidates(
    objects, kind, event[best], charged[best], neutral[best], fit.take(best), kaon.chi2
  )


def _candidates(
  objects: Objects,
  kind: int,
  event: np.ndarray,
  charged: np.ndarray,
  neutral: np.ndarray,
  fit: Fit,
  kaon_chi2: np.ndarray,
) -> ThreePions:
  p4 = fit.p4
  species = objects.kind[event[:, None], charged]
  eop = objects.energy_over_momentum[event[:, None], charged]
  energies = np.where(objects.is_photon[event], objects.energy[event], 0).sum(axis=1)
  used = objects.energy[event[:, None], neutral].sum(axis=1)
  return ThreePions(
    event,
    np.full(len(event), kind),
    fit.chi2,
    kaon_chi2,
    np.concatenate([p4[:, :2], p4[:, 2:].sum(axis=1, keepdims=True)], axis=1),
    _mass(p4[:, 2:]),
    (species >= KAON).sum(axis=1),
    ((species == ELECTRON) & (eop > MIN_EOP)).sum(axis=1),
    np.maximum(energies - used, 0),
    fit.pull,
  )


def _near_pi0(
  objects: Objects, event: np.ndarray, neutral: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Measured]:
  """The pairs (p,), (p, 2) near the mass of the pi0, and their photons."""
  at = event[:, None]
  showers = photons(objects.energy[at, neutral], objects.point[at, neutral])
  mass = _mass(showers.momenta())
  near = (mass > PAIR_MASSES[0]) & (mass < PAIR_MASSES[1])
  return event[near], neutral[near], showers.take(near)


def _charged(objects: Objects, event: np.ndarray) -> np.ndarray:
  """(p, 2) slots of the positive and of the negative track."""
  charge = objects.charge[event]
  return np.stack([np.argmax(charge > 0, axis=1), np.argmax(charge < 0, axis=1)], axis=1)


def _missing(seen: Measured) -> np.ndarray:
  """(p, 1, 3) momentum in GeV of what is not there."""
  return (TOTAL - seen.momenta().sum(axis=1))[:, None, 1:]


def _chosen(first: np.ndarray, a: Measured, b: Measured) -> Measured:
  """a where (p, 1, 1) bool `first`, else b; both tracks."""
  value, sigma = np.where(first, a.value, b.value), np.where(first, a.sigma, b.sigma)
  return Measured(value, sigma, a.mass, a.is_track)


def _best_of_event(event: np.ndarray, chi2: np.ndarray) -> np.ndarray:
  """Places of the smallest chi^2 of each event, where that is not too large."""
  order = np.lexsort((chi2, event))
  best = order[np.r_[True, np.diff(event[order]) > 0]] if len(order) else order
  return best[chi2[best] < MAX_CHI2]


def _pairs(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(B, N) bool -> rows and slots i < j of all pairs of chosen slots."""
  slots = chosen.shape[1]
  i, j = np.triu_indices(slots, 1)
  row, pair = np.nonzero(chosen[:, i] & chosen[:, j])
  return row, i[pair], j[pair]


def _mass(p4: np.ndarray) -> np.ndarray:
  """(m, 2, 4) -> (m,) of the sum."""
  total = p4.sum(axis=1)
  return np.sqrt(np.maximum(dot(total, total), 0))
