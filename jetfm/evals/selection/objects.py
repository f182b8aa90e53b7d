"""Reconstructed objects of a batch -> good charged tracks and photon candidates.

A good track comes from the collision, within 10 cm along the beam and 1 cm across it. A photon
candidate is a shower without track, of 25 MeV in the barrel (|cos(theta)| < 0.82) or 50 MeV in the
end caps, in time with the collision, and 10 degrees away from every track: at the calorimeter,
where that track has a shower of its own, or else in its direction.
Source: the usual requirements of BESIII, such as arXiv:1202.2033, on features of the schema 'bes'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetfm.evals.selection.measured import BARREL_COSINE
from jetfm.schema import Schema
from jetfm.typing import Batch

MAX_VR0, MAX_VZ0 = 1.0, 10.0  # cm
THRESHOLD_BARREL, THRESHOLD_END = 0.025, 0.050  # GeV
TIMES = (150.0, 350.0)  # ns: the collision is at 250
MIN_ANGLE = np.deg2rad(10.0)
ELECTRON, MUON, PION, KAON, PROTON = range(5)
"""Values of pid_prob_type."""


@dataclass(frozen=True)
class Objects:
  """Objects of B events in N slots.

  Attributes:
    charge: (B, N) of good tracks, 0 for all else.
    momentum: (B, N, 3) GeV, of tracks.
    kind: (B, N) best hypothesis of tracks.
    energy_over_momentum: (B, N) of tracks; 0 without shower.
    is_track: (B, N) bool, good or not.
    is_photon: (B, N) bool: photon candidates.
    energy: (B, N) GeV, of showers.
    point: (B, N, 3) cm, of showers.
  """

  charge: np.ndarray
  momentum: np.ndarray
  kind: np.ndarray
  energy_over_momentum: np.ndarray
  is_track: np.ndarray
  is_photon: np.ndarray
  energy: np.ndarray
  point: np.ndarray

  def take(self, index: np.ndarray) -> Objects:
    """The events at these places (an index array or a mask)."""
    return Objects(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def find_objects(batch: Batch, schema: Schema) -> Objects:
  """Tracks and photon candidates of a batch of numpy arrays, with the input set 'bes'."""
  mask = np.asarray(batch.mask)
  group = {f.name: schema.groups.index(f.group) for f in schema.features}

  def column(name: str) -> np.ndarray:
    measured = np.asarray(batch.present)[..., group[name]] & mask
    values = np.asarray(batch.features)[..., schema.stored.index(name)]
    return np.where(measured, values, 0).astype(np.float64)

  is_track = np.asarray(batch.present)[..., group["q"]] & mask
  has_shower = np.asarray(batch.present)[..., group["emc_energy"]] & mask
  momentum = np.stack([column(f"mdc_p3_p{x}") for x in "xyz"], axis=-1)
  point = np.stack([column(f"emc_{x}") for x in "xyz"], axis=-1)
  energy, time = column("emc_energy"), column("emc_time")
  near = (np.abs(column("vr0")) < MAX_VR0) & (np.abs(column("vz0")) < MAX_VZ0)
  cosine = np.abs(_direction(point)[..., 2])
  threshold = np.where(cosine < BARREL_COSINE, THRESHOLD_BARREL, THRESHOLD_END)
  is_photon = has_shower & ~is_track & (energy > threshold)
  is_photon &= (time > TIMES[0]) & (time < TIMES[1])
  track_direction = _direction(np.where(has_shower[..., None], point, momentum))
  cosines = np.einsum("bik,bjk->bij", _direction(point), track_direction)
  is_photon &= ~((cosines > np.cos(MIN_ANGLE)) & is_track[:, None, :]).any(axis=-1)
  return Objects(
    np.where(is_track & near, column("q"), 0.0),
    momentum,
    column("pid_prob_type"),
    column("EoP"),
    is_track,
    is_photon,
    energy,
    point,
  )


def _direction(x: np.ndarray) -> np.ndarray:
  size = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.maximum(size, 1e-9)
