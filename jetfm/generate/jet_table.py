"""The columns of a JetClass file: their names, their published types, and jets in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jetfm.generate.processes import CLASS_NAMES

# The published types vary, because the labels are results of comparisons and sums.
_LABEL_TYPES = {"QCD": "float32", **dict.fromkeys(("Hbb", "Hcc", "Hgg", "H4q", "Hqql"), "bool")}

JET_BRANCHES: dict[str, str] = {
  **{f"label_{name}": _LABEL_TYPES.get(name, "int32") for name in CLASS_NAMES},
  **dict.fromkeys(("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles"), "float32"),
  **dict.fromkeys(("jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4"), "float32"),
  **{f"aux_genpart_{name}": "float32" for name in ("eta", "phi", "pid", "pt")},
  "aux_truth_match": "float32",
  # Our own: mass of the jet of stable particles, and the number of the generated event in its file.
  "jet_genmass": "float32",
  "event_number": "int64",
}
OWN_BRANCHES = ("jet_genmass", "event_number")

PARTICLE_BRANCHES: dict[str, str] = {
  **dict.fromkeys(("part_px", "part_py", "part_pz", "part_energy"), "float32"),
  **dict.fromkeys(("part_deta", "part_dphi"), "float32"),
  **dict.fromkeys(("part_d0val", "part_d0err", "part_dzval", "part_dzerr"), "float32"),
  "part_charge": "float32",
  **{
    f"part_is{name}": "int32"
    for name in ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
  },
}


@dataclass(frozen=True)
class JetTable:
  """Jets as columns.

  Attributes:
    jets: branch name -> (J,), with the types of JET_BRANCHES.
    offsets: (J + 1,) where each jet's particles start.
    particles: branch name -> (offsets[-1],), with the types of PARTICLE_BRANCHES.
  """

  jets: dict[str, np.ndarray]
  offsets: np.ndarray
  particles: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.offsets) - 1

  def head(self, count: int) -> JetTable:
    """The first `count` jets."""
    offsets = self.offsets[: count + 1]
    return JetTable(
      {name: values[:count] for name, values in self.jets.items()},
      offsets,
      {name: values[: offsets[-1]] for name, values in self.particles.items()},
    )


def empty_table() -> JetTable:
  """A table without jets."""
  return JetTable(
    {name: np.zeros(0, kind) for name, kind in JET_BRANCHES.items()},
    np.zeros(1, np.int64),
    {name: np.zeros(0, kind) for name, kind in PARTICLE_BRANCHES.items()},
  )


def concatenate(tables: Sequence[JetTable]) -> JetTable:
  """Tables one after the other; none gives an empty table."""
  if not tables:
    return empty_table()
  counts = np.concatenate([np.diff(table.offsets) for table in tables])
  return JetTable(
    {name: np.concatenate([table.jets[name] for table in tables]) for name in JET_BRANCHES},
    np.concatenate([[0], np.cumsum(counts)]),
    {
      name: np.concatenate([table.particles[name] for table in tables])
      for name in PARTICLE_BRANCHES
    },
  )
