"""Event records -> the jets of a class, as the columns of a JetClass file."""

from __future__ import annotations

import dataclasses

import numpy as np

from jetfm.generate import truth
from jetfm.generate.clustering import Jets, cluster, substructure
from jetfm.generate.energy_flow import NEUTRAL_HADRON, PHOTON, FlowObjects, Particles, simulate
from jetfm.generate.helix import wrap
from jetfm.generate.jet_table import JET_BRANCHES, PARTICLE_BRANCHES
from jetfm.generate.processes import CLASS_NAMES, JetProcess
from jetfm.generate.pythia import EventRecords, visible_particles
from jetfm.generate.table import Table, empty_table

PT_MIN, PT_MAX = 500.0, 1000.0
MAX_ETA = 2.0
MAX_PARTICLE_ETA = 5.0
MAX_PARTICLE_PZ = 1e4
GEN_PT_MIN, GEN_MATCH_RADIUS, GEN_REGION = 300.0, 0.4, 3.0


def select(
  objects: FlowObjects, records: EventRecords, process: JetProcess
) -> tuple[Jets, truth.Resonances | None, np.ndarray]:
  """All jets of the events that belong to the class.

  Returns: the jets with 500 < pT < 1000 GeV and |eta| < 2 that contain the decay products of a
  resonance; the resonances (None for QCD); and, per jet, its place in them (-1 for QCD).
  """
  jets = cluster(objects, len(records.offsets) - 1, PT_MIN)
  jets = jets.take(np.flatnonzero((jets.pt < PT_MAX) & (np.abs(jets.eta) < MAX_ETA)))
  if not process.resonance:
    return jets, None, np.full(len(jets), -1)
  resonances = truth.find_resonances(records, process)
  found = truth.match(jets.event, jets.eta, jets.phi, resonances)
  matched = np.flatnonzero(found >= 0)
  return jets.take(matched), resonances, found[matched]


def particle_level_mass(particles: Particles, jets: Jets) -> np.ndarray:
  """Mass (J,) in GeV of the jet of stable particles that belongs to each jet; 0 if there is none.

  Anti-kT with R = 0.8 of all stable particles but neutrinos, pT > 300 GeV, the hardest within
  dR < 0.4 of the jet. Particles further than GEN_REGION from the jet do not change it and are
  left out, which makes the clustering twice as fast.
  """
  events = int(particles.event[-1]) + 1 if len(particles) else 0
  offsets = np.searchsorted(particles.event, np.arange(events + 1))
  first, counts = offsets[jets.event], np.diff(offsets)[jets.event]
  jet = np.repeat(np.arange(len(jets)), counts)
  start = np.concatenate([[0], np.cumsum(counts)[:-1]])
  index = np.arange(len(jet)) + np.repeat(first - start, counts)
  pt = np.hypot(particles.px, particles.py)
  eta, phi = np.arcsinh(particles.pz / np.maximum(pt, 1e-9)), np.arctan2(particles.py, particles.px)
  d_phi = wrap(phi[index] - jets.phi[jet])
  near = np.flatnonzero((eta[index] - jets.eta[jet]) ** 2 + d_phi**2 < GEN_REGION**2)
  region = dataclasses.replace(particles.take(index[near]), event=jet[near])
  truth_jets = cluster(region, len(jets), GEN_PT_MIN)

  owner = truth_jets.event
  distance = np.hypot(truth_jets.eta - jets.eta[owner], wrap(truth_jets.phi - jets.phi[owner]))
  close = np.flatnonzero(distance < GEN_MATCH_RADIUS)
  mass = np.zeros(len(jets))
  # The hardest comes last, and stays.
  close = close[np.argsort(truth_jets.pt[close], kind="stable")]
  mass[owner[close]] = truth_jets.mass[close]
  return mass


def make_jets(
  rng: np.random.Generator, records: EventRecords, process: JetProcess, first_event: int = 0
) -> Table:
  """Event records -> the jets of the class, as the columns of a JetClass file.

  Args:
    rng: draws the detector's response.
    records: generated events.
    process: the class that they were generated for.
    first_event: number of the first event in its file.
  """
  particles = visible_particles(records)
  objects = simulate(rng, particles)
  jets, resonances, found = select(objects, records, process)
  if not len(jets):
    return empty_table(JET_BRANCHES, PARTICLE_BRANCHES)
  soft_drop, tau = substructure(objects, jets)
  columns: dict[str, np.ndarray] = {
    "jet_pt": jets.pt,
    "jet_eta": jets.eta,
    "jet_phi": jets.phi,
    "jet_energy": jets.energy,
    "jet_sdmass": soft_drop,
    **{f"jet_tau{n}": tau[:, n - 1] for n in (1, 2, 3, 4)},
    "jet_genmass": particle_level_mass(particles, jets),
    "event_number": jets.event + first_event,
    **{f"label_{name}": np.full(len(jets), name == process.name) for name in CLASS_NAMES},
    **_truth_columns(resonances, found),
  }
  offsets, particle_columns = _particle_columns(objects, jets)
  columns["jet_nparticles"] = np.diff(offsets)
  return Table(
    {name: columns[name].astype(kind) for name, kind in JET_BRANCHES.items()},
    offsets,
    {name: particle_columns[name].astype(kind) for name, kind in PARTICLE_BRANCHES.items()},
  )


def _truth_columns(resonances: truth.Resonances | None, found: np.ndarray) -> dict[str, np.ndarray]:
  names = ("pt", "eta", "phi", "pid")
  if resonances is None:
    zero = np.zeros(len(found))
    code = np.full(len(found), truth.QCD_CODE)
    return {"aux_truth_match": code, **{f"aux_genpart_{name}": zero for name in names}}
  return {
    "aux_truth_match": resonances.code[found],
    **{f"aux_genpart_{name}": getattr(resonances, name)[found] for name in names},
  }


def _particle_columns(objects: FlowObjects, jets: Jets) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Constituents by falling pT: offsets (J + 1,) and flat columns."""
  index = jets.constituents
  jet = np.repeat(np.arange(len(jets)), np.diff(jets.offsets))
  px, py, pz = objects.px[index], objects.py[index], objects.pz[index]
  pt = np.hypot(px, py)
  eta = np.arcsinh(pz / np.maximum(pt, 1e-12))
  good = (pt > 0) & (np.abs(eta) < MAX_PARTICLE_ETA) & (np.abs(pz) < MAX_PARTICLE_PZ)
  order = np.lexsort((-pt, jet))
  order = order[good[order]]
  index, jet, px, py, pz, eta = (values[order] for values in (index, jet, px, py, pz, eta))

  charge, size = objects.charge[index], np.abs(objects.pid[index])
  jet_eta = jets.eta[jet]
  columns = {
    "part_px": px,
    "part_py": py,
    "part_pz": pz,
    "part_energy": objects.energy[index],
    # Reflected, so that every jet looks as if it flew forwards; the momenta are not.
    "part_deta": np.where(jet_eta > 0, 1, -1) * (eta - jet_eta),
    # A jump of 2 pi is undone into (-pi, pi].
    "part_dphi": -wrap(jets.phi[jet] - np.arctan2(py, px)),
    "part_d0val": objects.d0[index],
    "part_d0err": objects.d0_error[index],
    "part_dzval": objects.dz[index],
    "part_dzerr": objects.dz_error[index],
    "part_charge": charge,
    "part_isChargedHadron": np.isin(size, (211, 321, 2212)),
    "part_isNeutralHadron": size == NEUTRAL_HADRON,
    "part_isPhoton": size == PHOTON,
    "part_isElectron": size == 11,
    "part_isMuon": size == 13,
  }
  offsets = np.searchsorted(jet, np.arange(len(jets) + 1))
  return offsets, columns
