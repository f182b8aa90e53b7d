"""Stable particles -> what a BESIII-like detector measures of each event, as columns.

An object is a track, with the shower that belongs to it, or a shower without track. What was not
measured is 0 and has no meaning; the flag of its group of columns (GROUPS) is then 0.
"""

from __future__ import annotations

import numpy as np

from jetfm.generate import bes_calorimeter as emc
from jetfm.generate.bes_identification import identify
from jetfm.generate.bes_muons import reach
from jetfm.generate.bes_showers import Showers, find_showers, match
from jetfm.generate.bes_tracks import Tracks, find_tracks
from jetfm.generate.energy_flow import Particles
from jetfm.generate.helix import propagate

GROUPS: dict[str, tuple[str, ...]] = {
  "has_MDC": ("q", "mdc_p3_px", "mdc_p3_py", "mdc_p3_pz", "vz0", "vr0"),
  "has_PID": ("pid_prob_type",),
  "has_EMC": (
    *("emc_numHits", "emc_e3x3", "emc_e5x5", "emc_energy"),
    *("emc_x", "emc_y", "emc_z", "emc_time"),
  ),
  "has_EMC_shape": ("emc_secmom", "emc_latmom"),
  "has_EMC_track": ("EoP",),
  "has_MUC": ("muc_dpt", "muc_dof"),
}
"""Flag of a group of columns that are measured together, and the columns."""

TRUE_PID = "true_pid"
"""PDG id of the particle behind an object; 0 for noise and split-offs."""


def simulate(
  rng: np.random.Generator, particles: Particles, events: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """The objects of all events.

  Args:
    rng: draws the response.
    particles: stable particles, ordered by event.
    events: number of events; some may give no object.

  Returns: (events + 1,) where each event's objects start, and the columns (objects,), float64.
  """
  flight = propagate(
    particles.px,
    particles.py,
    particles.pz,
    particles.charge,
    particles.x,
    particles.y,
    particles.z,
    emc.EMC,
  )
  tracks = find_tracks(rng, particles, flight)
  showers = find_showers(rng, particles, flight, events)
  ends = np.where(emc.arrives(particles, flight)[:, None], emc.surface_points(flight), np.inf)
  own = match(tracks.event, ends[tracks.particle], showers, events)

  free = np.ones(len(showers), bool)
  free[own[own >= 0]] = False
  neutral = np.flatnonzero(free)
  objects = len(tracks) + len(neutral)
  is_track = np.arange(objects) < len(tracks)
  shower = np.concatenate([own, neutral])
  columns = {name: np.zeros(objects) for names in GROUPS.values() for name in names}
  columns |= {flag: np.zeros(objects) for flag in GROUPS} | {TRUE_PID: np.zeros(objects)}
  _fill_tracks(rng, columns, tracks, particles)
  _fill_showers(rng, columns, np.flatnonzero(shower >= 0), shower, showers)
  momentum = np.append(tracks.momentum, np.ones(len(neutral)))
  columns["has_EMC_track"] = columns["has_EMC"] * is_track
  columns["EoP"] = np.where(is_track, columns["emc_energy"] / momentum, 0)
  maker = np.append(tracks.particle, showers.particle[neutral])
  columns[TRUE_PID] = np.where(maker >= 0, particles.pid[maker], 0)

  # Tracks first, in every event.
  event = np.append(tracks.event, showers.event[neutral])
  order = np.argsort(event, kind="stable")
  offsets = np.searchsorted(event[order], np.arange(events + 1))
  return offsets, {name: values[order] for name, values in columns.items()}


def _fill_tracks(
  rng: np.random.Generator, columns: dict[str, np.ndarray], tracks: Tracks, particles: Particles
) -> None:
  """Columns of the MDC, the identification and the MUC."""
  count = len(tracks)
  pid = particles.pid[tracks.particle]
  true_momentum = np.sqrt(
    particles.px[tracks.particle] ** 2
    + particles.py[tracks.particle] ** 2
    + particles.pz[tracks.particle] ** 2
  )
  transverse = np.hypot(tracks.px, tracks.py)
  cosine = tracks.pz / tracks.momentum
  hit, depth, dof = reach(rng, pid, true_momentum, cosine)
  measured = {
    "has_MDC": np.ones(count),
    "q": tracks.charge,
    "mdc_p3_px": tracks.px,
    "mdc_p3_py": tracks.py,
    "mdc_p3_pz": tracks.pz,
    "vz0": tracks.vz0,
    "vr0": tracks.vr0,
    "has_PID": np.ones(count),
    "pid_prob_type": identify(rng, pid, true_momentum, transverse, tracks.pz),
    "has_MUC": hit,
    "muc_dpt": depth,
    "muc_dof": dof,
  }
  for name, values in measured.items():
    columns[name][:count] = values


def _fill_showers(
  rng: np.random.Generator,
  columns: dict[str, np.ndarray],
  place: np.ndarray,
  shower: np.ndarray,
  showers: Showers,
) -> None:
  """Columns of the EMC of the objects at `place`, whose shower is `shower` of them."""
  chosen = showers.take(shower[place])
  shape, has_moments = emc.shapes(rng, chosen.energy, chosen.kind)
  for name in GROUPS["has_EMC_shape"]:
    shape[name] = np.where(has_moments, shape[name], 0)
  measured = {
    **shape,
    "has_EMC": np.ones(len(place)),
    "has_EMC_shape": has_moments,
    "emc_energy": chosen.energy,
    "emc_x": chosen.points[:, 0],
    "emc_y": chosen.points[:, 1],
    "emc_z": chosen.points[:, 2],
    "emc_time": emc.times(rng, chosen.energy, ~chosen.is_noise),
  }
  for name, values in measured.items():
    columns[name][place] = values
