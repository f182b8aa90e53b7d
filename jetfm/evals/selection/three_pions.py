"""Candidates for J/psi -> pi+ pi- pi0 and their masses and angles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jetfm.evals.selection.measured import PI0_MASS

COMPLETE, LOST_PHOTON, LOST_TRACK = range(3)
"""Kinds of candidates."""
DEGREES_OF_FREEDOM = (4, 2, 2)


@dataclass(frozen=True)
class ThreePions:
  """Candidates, at most one in an event; m of them.

  Attributes:
    event: (m,) place of the event in what was given, rising.
    kind: (m,) COMPLETE, LOST_PHOTON or LOST_TRACK.
    chi2: (m,) of the fit with the masses of pions; degrees of freedom are in DEGREES_OF_FREEDOM.
    kaon_chi2: (m,) of the same objects as K+ K- and two photons; may be infinite.
    p4: (m, 3, 4) fitted four-momenta of pi+, pi-, pi0 in GeV.
    pi0_mass: (m,) GeV, of the two fitted photons.
    heavy: (m,) how many of the tracks look like K or p.
    electrons: (m,) how many of them look like electrons.
    other_energy: (m,) GeV of photon candidates that are left over.
    pull: (m, 4, 3) of the fit: two tracks, two photons; a lost particle has no pull.
  """

  event: np.ndarray
  kind: np.ndarray
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
    return np.sqrt(np.maximum(dot(pairs, pairs), 0))

  def helicity_cosines(self) -> np.ndarray:
    """(m, 3) of the same pairs: between a pion of the pair and the third, in the pair's frame."""
    columns = []
    for third in range(3):
      first = (third + 1) % 3
      pair = self.p4.sum(axis=1) - self.p4[:, third]
      mass = np.sqrt(np.maximum(dot(pair, pair), 1e-12))
      a, b = self.p4[:, first], self.p4[:, third]
      a_energy, b_energy = dot(a, pair) / mass, dot(b, pair) / mass
      sizes = np.sqrt(
        np.maximum(a_energy**2 - dot(a, a), 1e-12) * np.maximum(b_energy**2 - dot(b, b), 1e-12)
      )
      columns.append((a_energy * b_energy - dot(a, b)) / sizes)
    return np.clip(np.stack(columns, axis=1), -1, 1)

  def normal_cosine(self) -> np.ndarray:
    """(m,) |cos(theta)| of the normal of the decay plane to the beams."""
    normal = np.cross(self.p4[:, 0, 1:], self.p4[:, 1, 1:])
    return np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)

  def pi0_deviation(self) -> np.ndarray:
    """(m,) |m(gamma gamma) - m(pi0)| in GeV after the fit; 0 where the fit was told the mass."""
    return np.where(self.kind == COMPLETE, np.abs(self.pi0_mass - PI0_MASS), 0.0)


def concatenate(parts: Sequence[ThreePions], sizes: Sequence[int]) -> ThreePions:
  """Candidates of batches of so many events as those of one after another."""
  first = np.cumsum([0, *sizes[:-1]])
  names = list(ThreePions.__dataclass_fields__)[1:]
  event = np.concatenate([part.event + start for part, start in zip(parts, first, strict=True)])
  return ThreePions(event, *(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Products of four-momenta, (..., 4) and (..., 4) -> (...)."""
  return a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(axis=-1)
