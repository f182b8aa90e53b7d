"""Random but physical jets in the published ROOT layout: small files for tests, made in no time.

Not a simulation: multiplicities and widths differ by class, momenta are on shell, constituents are
sorted by pT, types of branches vary as they do in the published files.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
import uproot

PREFIXES = {
  "QCD": "ZJetsToNuNu",
  "Hbb": "HToBB",
  "Hcc": "HToCC",
  "Hgg": "HToGG",
  "H4q": "HToWW4Q",
  "Hqql": "HToWW2Q1L",
  "Zqq": "ZToQQ",
  "Wqq": "WToQQ",
  "Tbqq": "TTBar",
  "Tbl": "TTBarLep",
}
CLASSES = tuple(PREFIXES)
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")


def random_jets(n: int, label: str = "QCD", seed: int = 0, mean_particles: float | None = None):
  """Branches of n jets of one class: a dict of numpy and jagged awkward arrays."""
  c = CLASSES.index(label)
  r = np.random.default_rng([seed, c])
  mean = 30 + 3 * c if mean_particles is None else mean_particles
  counts = np.clip(r.gamma(8.0, mean / 8.0, n).round(), 1, None).astype(np.int64)
  jet_pt, jet_eta = r.uniform(500, 1000, n), r.uniform(-2, 2, n)
  jet_phi = r.uniform(-np.pi, np.pi, n)
  owner = np.repeat(np.arange(n), counts)
  share = r.gamma(0.35, 1.0, len(owner)) + 1e-4
  share /= np.bincount(owner, share, n)[owner]
  order = np.lexsort((-share, owner))
  pt = 0.2 + jet_pt[owner] * share[order]  # no ties
  width = 0.05 + 0.02 * c
  eta = jet_eta[owner] + r.normal(0, width, len(owner))
  phi = jet_phi[owner] + r.normal(0, width, len(owner))
  kind = r.choice(5, len(owner), p=(0.55, 0.1, 0.31, 0.02, 0.02))
  mass = np.array([0.13957, 0.49761, 0.0, 0.000511, 0.10566])[kind]
  charge = np.where(np.isin(kind, (0, 3, 4)), r.choice([-1, 1], len(owner)), 0)
  px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
  energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
  error = np.where(charge != 0, r.lognormal(-4, 1, len(owner)), 0)
  particles = {
    "px": px,
    "py": py,
    "pz": pz,
    "energy": energy,
    "deta": np.sign(jet_eta)[owner] * (eta - jet_eta[owner]),
    "dphi": np.remainder(phi - jet_phi[owner] + np.pi, 2 * np.pi) - np.pi,
    "d0val": error * r.standard_t(2, len(owner)),
    "d0err": error,
    "dzval": error * r.standard_t(2, len(owner)),
    "dzerr": error,
    "charge": charge,
    **{name: kind == i for i, name in enumerate(FLAGS)},
  }
  jets: dict[str, Any] = {
    f"part_{name}": ak.unflatten(x.astype(np.float32), counts) for name, x in particles.items()
  }
  for i, name in enumerate(CLASSES):
    dtype = np.float32 if name == "QCD" else bool if name.startswith("H") else np.int32
    jets[f"label_{name}"] = np.full(n, i == c, dtype)
  jets |= {"jet_pt": jet_pt, "jet_eta": jet_eta, "jet_phi": jet_phi}
  jets["jet_energy"] = np.bincount(owner, energy, n)
  jets["jet_nparticles"] = counts.astype(np.float32)
  jets["jet_sdmass"] = r.normal(60 + 10 * c, 10, n)
  jets |= {f"jet_tau{i}": r.uniform(0, 0.5 / i, n) for i in (1, 2, 3, 4)}
  jets["jet_genmass"] = r.normal(80 + 10 * c, 15, n)
  jets["jet_genmass"][::17] = 0.0  # no particle-level jet
  jets["aux_truth_match"] = np.full(n, 40 + c, np.int32)
  # Some generated events give two jets.
  jets["event_number"] = np.cumsum(r.random(n) < 0.7)
  return {
    k: np.float32(v) if getattr(v, "dtype", None) == np.float64 else v for k, v in jets.items()
  }


def write_root(
  path: pathlib.Path, jets: dict[str, Any], tree: str = "tree", basket: int = 1000
) -> pathlib.Path:
  """One ROOT file with these branches, `basket` jets in each basket."""
  types = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in jets.items()}
  with uproot.recreate(path) as file:
    file.mktree(tree, types)
    for start in range(0, len(jets["part_px"]), basket):
      file[tree].extend({k: v[start : start + basket] for k, v in jets.items()})
  return path


def write_files(
  directory: pathlib.Path,
  classes: Sequence[str] = ("QCD", "Hbb", "Tbqq", "Tbl"),
  jets: int = 300,
  files: int = 1,
  mean_particles: float | None = None,
) -> pathlib.Path:
  """ROOT files of `jets` jets each, named as the published ones; returns their directory."""
  directory.mkdir(parents=True, exist_ok=True)
  for label in classes:
    for i in range(files):
      content = random_jets(jets, label, seed=i, mean_particles=mean_particles)
      write_root(directory / f"{PREFIXES[label]}_{i:03d}.root", content)
  return directory
