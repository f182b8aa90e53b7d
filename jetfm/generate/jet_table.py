"""The columns of a JetClass file: their names and their published types."""

from __future__ import annotations

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
