r"""Metrics of the jetnet package on made-up jets: writes jetnet_metrics.npz.

Made with Python 3.11, jetnet==0.2.5, torch==2.13.0, numpy==1.26.4 (its energyflow needs numpy 1):

  python3.11 -m venv peer_jetnet
  peer_jetnet/bin/pip install jetnet==0.2.5 torch==2.13.0 numpy==1.26.4 \
    pandas==2.2.3 pyarrow==18.1.0
  peer_jetnet/bin/python tests/golden/make_jetnet_metrics.py

Arrays: true, generated (B, N, 3) in JetNet's order (deta, dphi, pT/jet pT), padded with zeros,
float32; *_mass (B,) of massless particles; *_efps (B, 36), energy flow polynomials of up to four
edges; w1_mass and w1_particles, value and spread, with its generator seeded by `seed`; fpd and kpd,
value and error, of the polynomials; settings; versions.
"""

import importlib.metadata
import pathlib
import platform
import warnings

import numpy as np
from jetnet import utils
from jetnet.evaluation import gen_metrics

SETTINGS = {
  "seed": 7,
  "w1_jets": 200,
  "w1_batches": 3,
  "fpd_min": 100,
  "fpd_max": 250,
  "fpd_batches": 4,
  "fpd_points": 5,
  "kpd_batches": 4,
  "kpd_size": 150,
}


def make_jets(rng: np.random.Generator, num_jets: int, num_particles: int, width: float):
  """Jets of 3 to N particles with falling pT, within `width` of their axis."""
  number = rng.integers(3, num_particles + 1, num_jets)
  mask = np.arange(num_particles) < number[:, None]
  pt = np.where(mask, rng.exponential(1.0, mask.shape) ** 2, 0.0)
  pt = -np.sort(-pt, axis=1)
  pt /= pt.sum(axis=1, keepdims=True)
  angles = rng.normal(0.0, width, (*mask.shape, 2)) * mask[..., None]
  return np.concatenate([angles, pt[..., None]], axis=-1).astype(np.float32)


def reseed() -> None:
  gen_metrics.rng = np.random.default_rng(SETTINGS["seed"])


def main() -> None:
  warnings.simplefilter("ignore")
  rng = np.random.default_rng(20221120)
  jets = {"true": make_jets(rng, 300, 10, 0.2), "generated": make_jets(rng, 280, 10, 0.23)}
  wide = {name: j.astype(np.float64) for name, j in jets.items()}
  both = wide["true"], wide["generated"]
  out = dict(jets)
  for name, j in wide.items():
    out[f"{name}_mass"] = utils.jet_features(j)["mass"]
    out[f"{name}_efps"] = gen_metrics.get_fpd_kpd_jet_features(j, efp_jobs=1)
  w1 = {"num_eval_samples": SETTINGS["w1_jets"], "num_batches": SETTINGS["w1_batches"]}
  reseed()
  out["w1_mass"] = np.array(gen_metrics.w1m(*both, **w1))
  reseed()
  out["w1_particles"] = np.array(gen_metrics.w1p(*both, **w1))
  efps = out["true_efps"], out["generated_efps"]
  out["fpd"] = np.array(
    gen_metrics.fpd(
      *efps,
      min_samples=SETTINGS["fpd_min"],
      max_samples=SETTINGS["fpd_max"],
      num_batches=SETTINGS["fpd_batches"],
      num_points=SETTINGS["fpd_points"],
      seed=SETTINGS["seed"],
    )
  )
  out["kpd"] = np.array(
    gen_metrics.kpd(
      *efps,
      num_batches=SETTINGS["kpd_batches"],
      batch_size=SETTINGS["kpd_size"],
      seed=SETTINGS["seed"],
    )
  )
  out |= {name: np.array(value) for name, value in SETTINGS.items()}
  packages = ("jetnet", "EnergyFlow", "scipy", "torch", "numpy")
  versions = [f"{name}=={importlib.metadata.version(name)}" for name in packages]
  out["versions"] = np.array([f"python=={platform.python_version()}", *versions])
  path = pathlib.Path(__file__).with_name("jetnet_metrics.npz")
  np.savez_compressed(path, **out)
  print(f"wrote {path}: {path.stat().st_size / 1e3:.0f} kB, {', '.join(versions)}")


if __name__ == "__main__":
  main()
