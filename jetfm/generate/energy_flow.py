"""Tracks and calorimeter cells -> energy-flow objects: what jets are made of.

Per cell, with the measured energy E, its resolution sigma and the energy of the cell's tracks:

    N = max(E - sum E_track, 0)

If N is above threshold and significant, it becomes one neutral object and the tracks stay as they
are. Otherwise all tracks of the cell are scaled by E / sum E_track (pT scaled, mass kept), and
dropped where the cell measured nothing. Electrons belong to the ECAL, charged hadrons to the HCAL,
muons to neither.
Source: SimpleCalorimeter of Delphes 3.5.1 (arXiv:1307.6346) with the JetClass card, where the
tracks carry no momentum resolution, so that the calorimeter alone sets the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetfm.generate import calorimeter, helix, tracks

NEUTRAL_HADRON, PHOTON = 0, 22


@dataclass(frozen=True)
class Particles:
  """Stable particles of many events, flat, ordered by event. All arrays have shape (N,).

  Attributes:
    event: event number, rising from 0.
    pid, charge: PDG id; charge in units of e.
    px, py, pz, energy, mass: GeV.
    x, y, z: production vertex in mm.
  """

  event: np.ndarray
  pid: np.ndarray
  charge: np.ndarray
  px: np.ndarray
  py: np.ndarray
  pz: np.ndarray
  energy: np.ndarray
  mass: np.ndarray
  x: np.ndarray
  y: np.ndarray
  z: np.ndarray

  def __len__(self) -> int:
    return len(self.event)

  def take(self, index: np.ndarray) -> Particles:
    """The particles at these places (an index array or a mask)."""
    return Particles(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class FlowObjects:
  """Energy-flow objects, flat, ordered by event. All arrays have shape (N,).

  Attributes:
    event: event number.
    pid: PDG id of a track; 22 for ECAL neutrals, 0 for HCAL neutrals.
    charge: units of e.
    px, py, pz, energy: GeV.
    d0, d0_error, dz, dz_error: impact parameters in mm; zero for neutrals.
  """

  event: np.ndarray
  pid: np.ndarray
  charge: np.ndarray
  px: np.ndarray
  py: np.ndarray
  pz: np.ndarray
  energy: np.ndarray
  d0: np.ndarray
  d0_error: np.ndarray
  dz: np.ndarray
  dz_error: np.ndarray

  def __len__(self) -> int:
    return len(self.event)


@dataclass(frozen=True)
class CellFlow:
  """What one calorimeter makes of its deposits.

  Attributes:
    event, eta, phi, energy: the neutral objects, (M,); energy in GeV.
    scale: factor for the pT of each depositing particle's track, (N,).
  """

  event: np.ndarray
  eta: np.ndarray
  phi: np.ndarray
  energy: np.ndarray
  scale: np.ndarray


def simulate(rng: np.random.Generator, particles: Particles) -> FlowObjects:
  """The whole detector chain: stable visible particles -> energy-flow objects."""
  flight = helix.propagate(
    particles.px,
    particles.py,
    particles.pz,
    particles.charge,
    particles.x,
    particles.y,
    particles.z,
  )
  pt = np.hypot(particles.px, particles.py)
  kind = tracks.kind_of(particles.pid)
  tracked = flight.inside & (particles.charge != 0)
  tracked &= rng.random(len(particles)) < tracks.efficiency(kind, pt, flight.eta)

  in_ecal, in_hcal = calorimeter.fractions(particles.pid)
  scale = np.ones(len(particles))
  neutrals = []
  for detector, fraction, pid in (
    (calorimeter.ecal(), in_ecal, PHOTON),
    (calorimeter.hcal(), in_hcal, NEUTRAL_HADRON),
  ):
    cell = np.where(flight.inside & (fraction > 0), detector.grid.index(flight.eta, flight.phi), -1)
    hit = np.flatnonzero(cell >= 0)
    flow = cell_flow(
      rng,
      detector,
      particles.event[hit],
      cell[hit],
      particles.energy[hit] * fraction[hit],
      tracked[hit],
    )
    scale[hit] *= flow.scale
    neutrals.append((flow, pid))

  kept = np.flatnonzero(tracked & (scale > 0))
  return _merge(_tracks(rng, particles, flight, kind, pt, scale, kept), neutrals)


def cell_flow(
  rng: np.random.Generator,
  detector: calorimeter.Calorimeter,
  event: np.ndarray,
  cell: np.ndarray,
  energy: np.ndarray,
  tracked: np.ndarray,
) -> CellFlow:
  """Energy flow of one calorimeter.

  Shapes: (N,) per deposit: event number, cell number, energy in GeV, whether its particle is a
  track.
  """
  key = event * detector.grid.size + cell
  towers, of_deposit = np.unique(key, return_inverse=True)
  deposit = np.bincount(of_deposit, energy, len(towers))
  track_energy = np.bincount(of_deposit, energy * tracked, len(towers))
  tower_event, tower_cell = np.divmod(towers, detector.grid.size)

  measured, sigma = detector.measure(rng, deposit, detector.grid.eta_centre(tower_cell))
  excess = np.maximum(measured - track_energy, 0.0)
  neutral = (excess > detector.energy_min) & (excess > detector.significance_min * sigma)
  ratio = np.divide(measured, track_energy, out=np.ones_like(measured), where=track_energy > 0)
  scale = np.where(neutral, 1.0, ratio)
  eta, phi = detector.grid.draw_inside(rng, tower_cell[neutral])
  return CellFlow(tower_event[neutral], eta, phi, excess[neutral], scale[of_deposit])


def _tracks(rng, particles, flight, kind, pt, scale, kept):
  """Tracks with smeared impact parameters and the scale of their cell."""
  row_pt = tracks.smear_pt(rng, kind[kept], pt[kept], flight.eta[kept])
  slope = particles.pz[kept] / pt[kept]
  d0_error, dz_error = tracks.impact_resolution(row_pt, np.arcsinh(slope))
  d0 = flight.d0[kept] + d0_error * rng.standard_normal(len(kept))
  dz = flight.dz[kept] + dz_error * rng.standard_normal(len(kept))
  new_pt = pt[kept] * scale[kept]
  phi = flight.track_phi[kept]
  px, py, pz = new_pt * np.cos(phi), new_pt * np.sin(phi), new_pt * slope
  energy = np.sqrt(px**2 + py**2 + pz**2 + particles.mass[kept] ** 2)
  return FlowObjects(
    particles.event[kept],
    particles.pid[kept],
    particles.charge[kept],
    px,
    py,
    pz,
    energy,
    d0,
    d0_error,
    dz,
    dz_error,
  )


def _merge(charged: FlowObjects, neutrals: list[tuple[CellFlow, int]]) -> FlowObjects:
  """All objects in one list, ordered by event."""
  columns = {name: [getattr(charged, name)] for name in FlowObjects.__dataclass_fields__}
  for flow, pid in neutrals:
    count = len(flow.event)
    pt = flow.energy / np.cosh(flow.eta)
    values = {
      "event": flow.event,
      "pid": np.full(count, pid),
      "px": pt * np.cos(flow.phi),
      "py": pt * np.sin(flow.phi),
      "pz": pt * np.sinh(flow.eta),
      "energy": flow.energy,
    }
    for name, column in columns.items():
      column.append(values.get(name, np.zeros(count)))
  joined = {name: np.concatenate(column) for name, column in columns.items()}
  order = np.argsort(joined["event"], kind="stable")
  return FlowObjects(**{name: values[order] for name, values in joined.items()})
