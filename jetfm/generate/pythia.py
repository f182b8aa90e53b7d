"""Pythia events as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jetfm.generate.energy_flow import Particles

NEUTRINOS = (12, 14, 16)


@dataclass(frozen=True)
class EventRecords:
  """Event records, flat, with `offsets` (E + 1,) where each event starts. Other arrays are (N,).

  Attributes:
    pid, status: PDG id; Pythia status (positive = stable).
    mother1: place of the first mother in the flat arrays; -1 = none.
    daughter1, daughter2: place of the first and the last daughter in the flat arrays; -1 = none.
    px, py, pz, energy, mass: GeV.
    x, y, z: production vertex in mm.
  """

  offsets: np.ndarray
  pid: np.ndarray
  status: np.ndarray
  mother1: np.ndarray
  daughter1: np.ndarray
  daughter2: np.ndarray
  px: np.ndarray
  py: np.ndarray
  pz: np.ndarray
  energy: np.ndarray
  mass: np.ndarray
  x: np.ndarray
  y: np.ndarray
  z: np.ndarray

  @property
  def event(self) -> np.ndarray:
    """Event number of every entry, (N,)."""
    return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class Generator:
  """A running Pythia.

  Args:
    settings: lines of Pythia settings.
    seed: 1 to 900,000,000.
    hooks: a pythia8mc.UserHooks, or None. Its attribute `pythia` is set to the running Pythia.

  Raises: ValueError for a setting that Pythia does not know; RuntimeError if it does not start.
  """

  def __init__(self, settings: Sequence[str], seed: int, hooks: Any = None):
    import pythia8mc

    self.pythia = pythia8mc.Pythia("", False)
    # Pythia holds only the C++ half of the hooks: without this the Python half would be collected,
    # and the hooks silently do nothing.
    self._hooks = hooks
    for line in (*settings, "Random:setSeed = on", f"Random:seed = {seed}"):
      if not self.pythia.readString(line):
        raise ValueError(f"Pythia {self.version} refuses the setting '{line}'")
    if hooks is not None:
      hooks.pythia = self.pythia
      self.pythia.setUserHooksPtr(hooks)
    if not self.pythia.init():
      raise RuntimeError(f"Pythia {self.version} does not start with the settings {list(settings)}")

  @property
  def version(self) -> str:
    return f"{self.pythia.parm('Pythia:versionNumber'):.3f}"

  def next_events(self, count: int) -> EventRecords:
    """The next `count` events; events that Pythia gives up on are left out."""
    return flat_records(self.pythia.nextBatch(count))


def flat_records(batch: Any) -> EventRecords:
  """A batch of at least one event, as Pythia gives it -> flat arrays, copied only where needed."""
  listing = batch.layout.content("prt")
  offsets = np.asarray(listing.offsets.data)
  entries = listing.content

  def column(name: str) -> np.ndarray:
    return np.asarray(entries.content(name).data)

  # Most particles of the hard process have no vertex: they are made at the origin.
  vertex = entries.content("vProd")
  place = np.asarray(vertex.index.data)
  has_vertex = np.flatnonzero(place >= 0)

  def position(name: str) -> np.ndarray:
    values = np.zeros(len(place))
    values[has_vertex] = np.asarray(vertex.content.content(name).data)[place[has_vertex]]
    return values

  first = np.repeat(offsets[:-1], np.diff(offsets))

  def relative(name: str) -> np.ndarray:
    local = column(name)
    return np.where(local > 0, local + first, -1)

  momentum = entries.content("p")
  px, py, pz, energy = (np.asarray(momentum.content(name).data) for name in ("px", "py", "pz", "e"))
  return EventRecords(
    offsets,
    pid=column("id"),
    status=column("status"),
    mother1=relative("mother1"),
    daughter1=relative("daughter1"),
    daughter2=relative("daughter2"),
    px=px,
    py=py,
    pz=pz,
    energy=energy,
    mass=column("m"),
    # Pythia's four-vectors of positions use the names of momenta.
    x=position("px"),
    y=position("py"),
    z=position("pz"),
  )


def visible_particles(records: EventRecords) -> Particles:
  """The stable particles of the events, without neutrinos."""
  keep = np.flatnonzero((records.status > 0) & ~np.isin(np.abs(records.pid), NEUTRINOS))
  pid = records.pid[keep]
  return Particles(
    records.event[keep],
    pid,
    charge_of(pid),
    *(getattr(records, name)[keep] for name in ("px", "py", "pz", "energy", "mass")),
    *(getattr(records, name)[keep] for name in ("x", "y", "z")),
  )


# Everything that lives long enough to be stable in Pythia, and the hyperons, which others may keep.
_CHARGES = {11: -1, 13: -1, 15: -1, 211: 1, 321: 1, 2212: 1, 3112: -1, 3222: 1, 3312: -1, 3334: -1}


def charge_of(pid: np.ndarray) -> np.ndarray:
  """Electric charge of stable particles, PDG ids (N,) -> (N,) in units of e."""
  known = np.array(sorted(_CHARGES))
  place = np.clip(np.searchsorted(known, np.abs(pid)), 0, len(known) - 1)
  size = np.where(known[place] == np.abs(pid), np.array([_CHARGES[k] for k in known])[place], 0)
  return size * np.sign(pid)
