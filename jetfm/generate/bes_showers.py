"""Showers of an event: of particles, of noise and of fragments; merged, and matched to tracks.

Showers closer than MERGED become one. A shower belongs to the nearest track whose way ends within
MATCHED of it; a track takes the nearest of its showers, the others count as neutral.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetfm.generate import bes_calorimeter as emc
from jetfm.generate.energy_flow import Particles
from jetfm.generate.helix import Propagated

NOISE, SPLIT_OFFS = 0.3, 0.22
"""Mean number per event, and per hadronic shower."""
MERGED, MATCHED = 10.0, 12.0  # cm
_NOISE_MEAN, _SPLIT_OFF_MEAN = 0.03, 0.05  # GeV
_SPLIT_OFF_DISTANCE = 20.0  # cm


@dataclass(frozen=True)
class Showers:
  """Measured showers, ordered by event.

  Attributes:
    event: (S,) event number.
    particle: (S,) place of the particle that made it; -1 for noise and split-offs.
    kind: (S,) one of the kinds of bes_calorimeter.
    energy: (S,) GeV.
    points: (S, 3) cm.
  """

  event: np.ndarray
  particle: np.ndarray
  kind: np.ndarray
  energy: np.ndarray
  points: np.ndarray

  def __len__(self) -> int:
    return len(self.event)

  @property
  def is_noise(self) -> np.ndarray:
    """(S,) bool: neither of a particle nor a fragment."""
    return (self.particle < 0) & (self.kind != emc.HADRONIC)

  def take(self, index: np.ndarray) -> Showers:
    """The showers at these places (an index array or a mask)."""
    return Showers(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def find_showers(
  rng: np.random.Generator, particles: Particles, flight: Propagated, events: int
) -> Showers:
  """All showers above threshold.

  Args:
    rng: draws everything.
    particles: stable particles.
    flight: where they meet the calorimeter.
    events: number of events.
  """
  energy, kind = emc.deposits(rng, particles)
  made = np.flatnonzero((energy > 0) & emc.arrives(particles, flight))
  own = Showers(
    particles.event[made],
    made,
    kind[made],
    energy[made],
    emc.surface_points(flight)[made],
  )
  everything = _joined(own, _split_offs(rng, own), _noise(rng, events))
  energy, points, seen = emc.measure(rng, everything.energy, everything.points)
  found = Showers(everything.event, everything.particle, everything.kind, energy, points).take(seen)
  return merge(found.take(np.argsort(found.event, kind="stable")), events)


def merge(showers: Showers, events: int) -> Showers:
  """Showers that are too close become the one with the most energy, at their common centre."""
  first, second = pairs(showers.event, showers.event, events)
  distance = np.linalg.norm(showers.points[first] - showers.points[second], axis=1)
  close = (distance < MERGED) & (showers.energy[second] > showers.energy[first])
  first, second = first[close], second[close]
  # The largest neighbour comes last, and stays.
  order = np.argsort(showers.energy[second], kind="stable")
  into = np.arange(len(showers))
  into[first[order]] = second[order]
  while not np.array_equal(further := into[into], into):
    into = further
  energy = np.bincount(into, showers.energy, len(showers))
  weighted = [np.bincount(into, showers.energy * x, len(showers)) for x in showers.points.T]
  left = np.flatnonzero(into == np.arange(len(showers)))
  points = np.stack(weighted, axis=1)[left] / energy[left, None]
  kept = showers.take(left)
  return Showers(kept.event, kept.particle, kept.kind, energy[left], points)


def match(track_event: np.ndarray, ends: np.ndarray, showers: Showers, events: int) -> np.ndarray:
  """The shower of each track, (T,) places, -1 for none.

  Shapes: track_event (T,) rising; ends (T, 3) in cm, infinite for tracks that never get there.
  """
  shower, track = pairs(showers.event, track_event, events)
  distance = np.linalg.norm(ends[track] - showers.points[shower], axis=1)
  near = distance < MATCHED
  shower, track, distance = shower[near], track[near], distance[near]
  order = np.argsort(-distance, kind="stable")  # the nearest comes last, and stays
  shower, track, distance = shower[order], track[order], distance[order]
  owner = np.full(len(showers), -1)
  owner[shower] = track
  mutual = owner[shower] == track
  found = np.full(len(track_event), -1)
  found[track[mutual]] = shower[mutual]
  return found


def pairs(first: np.ndarray, second: np.ndarray, events: int) -> tuple[np.ndarray, np.ndarray]:
  """All pairs of places within the same event; event numbers (N,) and (M,), both rising."""
  count = np.bincount(second, minlength=events)
  start = np.cumsum(count) - count
  per_first = count[first]
  total = np.cumsum(per_first) - per_first
  left = np.repeat(np.arange(len(first)), per_first)
  right = np.arange(len(left)) - np.repeat(total - start[first], per_first)
  return left, right


def _split_offs(rng: np.random.Generator, showers: Showers) -> Showers:
  """Fragments of hadronic showers, some distance away."""
  hadronic = np.flatnonzero(showers.kind == emc.HADRONIC)
  parent = np.repeat(hadronic, rng.poisson(SPLIT_OFFS, len(hadronic)))
  points = showers.points[parent]
  moved = points + _SPLIT_OFF_DISTANCE * rng.standard_normal(points.shape)
  return Showers(
    showers.event[parent],
    np.full(len(parent), -1),
    np.full(len(parent), emc.HADRONIC),
    emc.THRESHOLD_BARREL + rng.exponential(_SPLIT_OFF_MEAN, len(parent)),
    _on_surface(moved),
  )


def _noise(rng: np.random.Generator, events: int) -> Showers:
  """Showers of nothing, evenly over the sphere."""
  event = np.repeat(np.arange(events), rng.poisson(NOISE, events))
  direction = rng.standard_normal((len(event), 3))
  return Showers(
    event,
    np.full(len(event), -1),
    np.full(len(event), emc.ELECTROMAGNETIC),
    emc.THRESHOLD_BARREL + rng.exponential(_NOISE_MEAN, len(event)),
    _on_surface(direction),
  )


def _on_surface(points: np.ndarray) -> np.ndarray:
  rho = np.maximum(np.hypot(points[:, 0], points[:, 1]), 1e-9)
  return emc.points_of(np.arcsinh(points[:, 2] / rho), np.arctan2(points[:, 1], points[:, 0]))


def _joined(*parts: Showers) -> Showers:
  names = Showers.__dataclass_fields__
  return Showers(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})
