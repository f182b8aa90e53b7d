"""e+e- -> J/psi events as a BESIII-like detector measures them, in chunks without end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from jetfm.generate.bes_objects import GROUPS, TRUE_PID, simulate
from jetfm.generate.energy_flow import Particles
from jetfm.generate.jpsi_angles import PolarisedJpsi
from jetfm.generate.jpsi_classes import ChainList
from jetfm.generate.jpsi_decays import DECAYS_PER_CALL, Decays
from jetfm.generate.pythia import NEUTRINOS, charge_of
from jetfm.generate.table import Table

MIN_OBJECTS = 2
"""Events with less are not recorded."""

EVENT_BRANCHES = {"chain": "int32", "event_number": "int64"}
"""Class number, a place in the names that the file keeps; number of the generated event."""

OBJECT_BRANCHES = {
  **{name: "float32" for names in GROUPS.values() for name in names},
  **dict.fromkeys(GROUPS, "uint8"),
  TRUE_PID: "int32",
}


def generate_events(chains: Sequence[str], seed: int, file_number: int = 0) -> Iterator[Table]:
  """Events of the given chains, one table per chunk of DECAYS_PER_CALL generated ones, forever.

  The events depend on these three arguments alone (and on the versions of the packages).

  Args:
    chains: the classes, as texts; other events are left out.
    seed: seed of the whole data set.
    file_number: number of the file.
  """
  known = ChainList(tuple(chains))
  decay_seeds, detector = np.random.SeedSequence([seed, file_number]).spawn(2)
  source = PolarisedJpsi(decay_seeds)
  rng = np.random.default_rng(detector)
  first = 0
  while True:
    decays, codes = source.next_decays()
    chain = known.find(codes)
    wanted = chain >= 0
    kept = decays.select(wanted)
    offsets, columns = simulate(rng, particles_of(kept), len(kept))
    events = {"chain": chain[wanted], "event_number": first + np.flatnonzero(wanted)}
    table = Table(
      {name: events[name].astype(kind) for name, kind in EVENT_BRANCHES.items()},
      offsets,
      {name: columns[name].astype(kind) for name, kind in OBJECT_BRANCHES.items()},
    )
    yield table.select(np.diff(offsets) >= MIN_OBJECTS)
    first += DECAYS_PER_CALL


def particles_of(decays: Decays) -> Particles:
  """The stable products that a detector can see, in the laboratory, ordered by event."""
  records = decays.records
  index = decays.stable
  index = index[~np.isin(np.abs(records.pid[index]), NEUTRINOS)]
  index = index[np.argsort(decays.decay[index], kind="stable")]
  pid = records.pid[index]
  return Particles(
    decays.decay[index],
    pid,
    charge_of(pid),
    *(getattr(records, name)[index] for name in ("px", "py", "pz", "energy", "mass")),
    *(getattr(records, name)[index] for name in ("x", "y", "z")),
  )
