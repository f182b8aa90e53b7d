"""Schemas of jets: the classes of JetClass and the input sets of the papers.

Sources: arXiv:2202.03772 (ParT: classes, `kin`, `kinpid`, `full` and their standardisation).
"""

from __future__ import annotations

import math

from jetfm.names import nearest
from jetfm.schema import Feature, Schema, Transform

JETCLASS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
"""Class names in the order of the ParT data cards. Names are the contract, not numbers."""

FILE_PREFIXES = {
  "ZJetsToNuNu": "QCD",
  "HToBB": "Hbb",
  "HToCC": "Hcc",
  "HToGG": "Hgg",
  "HToWW4Q": "H4q",
  "HToWW2Q1L": "Hqql",
  "ZToQQ": "Zqq",
  "WToQQ": "Wqq",
  "TTBar": "Tbqq",
  "TTBarLep": "Tbl",
}
"""Class of the files whose names start so; the longest prefix wins."""

BRANCHES = {"gen_mass": "jet_genmass"}
"""Branch of a stored column where the two names differ."""

SPECTATORS = (
  "jet_pt",
  "jet_eta",
  "jet_phi",
  "jet_energy",
  "jet_sdmass",
  "jet_tau1",
  "jet_tau2",
  "jet_tau3",
  "jet_tau4",
  "aux_truth_match",
)

JET_KINEMATICS = ("jet_pt", "jet_eta", "jet_phi", "jet_energy")
"""Spectators that are functions of the constituents."""

_ZSCORE = Transform("zscore")
_CLIP = Transform("clip", (-5.0, 5.0))


def _kinematic(name: str, unit: str, *transforms: Transform, likelihood: str = "mse") -> Feature:
  return Feature(name, unit, "kinematics", transforms, likelihood, derived=True)


def _part(name: str, shift: float, scale: float) -> Feature:
  return _kinematic(name, "", Transform("affine", (shift, scale)), _CLIP)


_KIN4 = (
  _kinematic("pt", "GeV", Transform("log"), _ZSCORE),
  _kinematic("deta", "", _ZSCORE),
  _kinematic("dphi", "rad", Transform("periodic", (2 * math.pi,)), likelihood="cosine"),
  _kinematic("energy", "GeV", Transform("log"), _ZSCORE),
)
_KIN = (
  _kinematic("deta", ""),
  _kinematic("dphi", "rad", likelihood="cosine"),
  _part("log_pt", 1.7, 0.7),
  _part("log_e", 2.0, 0.7),
  _part("log_pt_rel", -4.7, 0.7),
  _part("log_e_rel", -4.7, 0.7),
  _part("dr", 0.2, 4.0),
)
_KINPID = (
  *_KIN,
  *(
    Feature(f"part_{name}", "", "identification")
    for name in (
      "charge",
      "isChargedHadron",
      "isNeutralHadron",
      "isPhoton",
      "isElectron",
      "isMuon",
    )
  ),
)
_FULL = (
  *_KINPID,
  Feature("part_d0val", "mm", "track", (Transform("tanh"),)),
  Feature("part_d0err", "mm", "track", (Transform("clip", (0.0, 1.0)),)),
  Feature("part_dzval", "mm", "track", (Transform("tanh"),)),
  Feature("part_dzerr", "mm", "track", (Transform("clip", (0.0, 1.0)),)),
)

INPUT_SETS = {"kin4": _KIN4, "kin": _KIN, "kinpid": _KINPID, "full": _FULL}
"""Features of each input set: 4, 7, 13 and 17 columns."""

_GEV = (_ZSCORE,)
TARGETS = (
  Feature("mass", "GeV", "target", _GEV, derived=True),
  Feature("seed_mass", "GeV", "target", _GEV, derived=True),
  Feature("gen_mass", "GeV", "target", _GEV),
)


def jet_schema(
  inputs: str = "kin",
  classes: tuple[str, ...] = JETCLASS,
  targets: tuple[Feature, ...] = TARGETS,
  spectators: tuple[str, ...] = SPECTATORS,
) -> Schema:
  """The schema of jets with one of the `INPUT_SETS`; z-scores are not fitted yet.

  Raises: ValueError for an unknown input set.
  """
  if inputs not in INPUT_SETS:
    near = nearest(inputs, INPUT_SETS)
    raise ValueError(f"no input set '{inputs}'; the nearest is '{near}' of {list(INPUT_SETS)}")
  return Schema(inputs, INPUT_SETS[inputs], classes, targets, spectators)
