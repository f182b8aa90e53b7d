"""Jet clustering and substructure with fastjet."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from jetfm.generate.energy_flow import FlowObjects, Particles

RADIUS = 0.8


@dataclass(frozen=True)
class Jets:
  """Clustered jets, ordered by event.

  Attributes:
    event: (J,) event number.
    px, py, pz, energy: (J,) GeV.
    offsets: (J + 1,) where each jet's constituents start.
    constituents: places of the constituents in the flat list that was clustered.
  """

  event: np.ndarray
  px: np.ndarray
  py: np.ndarray
  pz: np.ndarray
  energy: np.ndarray
  offsets: np.ndarray
  constituents: np.ndarray

  def __len__(self) -> int:
    return len(self.event)

  @property
  def pt(self) -> np.ndarray:
    return np.hypot(self.px, self.py)

  @property
  def eta(self) -> np.ndarray:
    return np.arcsinh(self.pz / self.pt)

  @property
  def phi(self) -> np.ndarray:
    return np.arctan2(self.py, self.px)

  @property
  def mass(self) -> np.ndarray:
    squared = self.energy**2 - self.px**2 - self.py**2 - self.pz**2
    return np.sqrt(np.maximum(squared, 0.0))

  def take(self, index: np.ndarray) -> Jets:
    """The jets at these places (N,)."""
    counts = np.diff(self.offsets)[index]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    constituents = self.constituents[np.repeat(self.offsets[index], counts) + within]
    momenta = {name: getattr(self, name)[index] for name in ("px", "py", "pz", "energy")}
    return Jets(self.event[index], **momenta, offsets=offsets, constituents=constituents)


def cluster(objects: FlowObjects | Particles, events: int, pt_min: float) -> Jets:
  """Anti-kT jets with R = 0.8 above pt_min (GeV) of `events` events."""
  fastjet = _fastjet()
  offsets = np.searchsorted(objects.event, np.arange(events + 1))
  sequence = _sequence(objects, offsets, fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS))
  found = sequence.inclusive_jets(min_pt=pt_min).layout
  inside = sequence.constituent_index(min_pt=pt_min).layout
  counts = np.diff(np.asarray(found.offsets.data))
  event = np.repeat(np.arange(events), counts)
  per_jet = inside.content
  jet_offsets = np.asarray(per_jet.offsets.data)
  # The buffer has room for every particle of the events; only its front is filled.
  local = np.asarray(per_jet.content.data)[: jet_offsets[-1]]
  places = local + np.repeat(offsets[event], np.diff(jet_offsets))
  px, py, pz, energy = (
    np.asarray(found.content.content(name).data) for name in ("px", "py", "pz", "E")
  )
  return Jets(event, px, py, pz, energy, jet_offsets, places)


def substructure(objects: FlowObjects, jets: Jets) -> tuple[np.ndarray, np.ndarray]:
  """Soft-drop mass (J,) in GeV and N-subjettiness (J, 4).

  Soft drop: beta 0, zcut 0.1, R0 0.8. tau_N: normalised measure, beta 1, R0 0.8, one-pass kT axes.
  fastjet takes each jet's constituents as one event; only Cambridge/Aachen with a radius that
  swallows them all gives the groomer the clustering history it needs.
  """
  fastjet = _fastjet()
  definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 999.0)
  sequence = _sequence(_taken(objects, jets.constituents), jets.offsets, definition)
  groomed = sequence.exclusive_jets_softdrop_grooming(
    njets=1, beta=0.0, symmetry_cut=0.1, R0=RADIUS
  )
  taus = sequence.njettiness(njets=[1, 2, 3, 4], beta=1.0, R0=RADIUS)
  return np.asarray(groomed.msoftdrop), np.asarray(taus).reshape(len(jets), 4)


@functools.cache
def _fastjet() -> Any:
  """fastjet, without the banner that it prints into every program's output.

  Its authors ask to cite arXiv:1111.6097 and hep-ph/0512210.
  """
  import fastjet

  with contextlib.suppress(AttributeError):
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
  return fastjet


@dataclass(frozen=True)
class _Momenta:
  px: np.ndarray
  py: np.ndarray
  pz: np.ndarray
  energy: np.ndarray


def _taken(objects: Any, index: np.ndarray) -> _Momenta:
  return _Momenta(*(getattr(objects, name)[index] for name in ("px", "py", "pz", "energy")))


def _sequence(objects: Any, offsets: np.ndarray, definition: Any) -> Any:
  import awkward as ak

  columns = [
    ak.contents.NumpyArray(np.ascontiguousarray(getattr(objects, name), dtype=np.float64))
    for name in ("px", "py", "pz", "energy")
  ]
  record = ak.contents.RecordArray(
    columns, ["px", "py", "pz", "E"], parameters={"__record__": "Momentum4D"}
  )
  layout = ak.contents.ListOffsetArray(ak.index.Index64(offsets.astype(np.int64)), record)
  return _fastjet().ClusterSequence(ak.Array(layout), definition)
