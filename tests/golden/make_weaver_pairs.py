"""Pair features of weaver-core on made-up jets: writes weaver_pairs.npz.

Made with Python 3.11, weaver-core==0.5.3, torch==2.13.0, numpy==2.4.6:

  python3.11 -m venv peer && peer/bin/pip install torch==2.13.0 weaver-core==0.5.3 numpy==2.4.6
  peer/bin/python tests/golden/make_weaver_pairs.py

The function is `pairwise_lv_fts_pp` (`pairwise_lv_fts` before weaver-core 0.5) of
weaver/nn/model/ParticleTransformer.py, with 4 outputs and its default eps = 1e-8. It takes
(px, py, pz, E) on axis 1 and gives ln kT, ln z, ln dR, ln m2 there.

Arrays: p4 (B, N, 4) as (E, px, py, pz) in GeV, float32 so that both precisions see equal inputs;
pairs_float64 and pairs_float32 (B, N, N, 4) computed in either precision; versions.
"""

import importlib.metadata
import pathlib
import platform

import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import pairwise_lv_fts_pp

MASSES = np.array([0.0, 0.000511, 0.10566, 0.13957, 0.49761])


def make_jets(rng: np.random.Generator, num_jets: int, num_particles: int) -> np.ndarray:
  """Jets at |eta| < 2, one beyond the wrap of phi, with soft, collinear and repeated particles."""
  shape = (num_jets, num_particles)
  axis_eta = rng.uniform(-2.0, 2.0, (num_jets, 1))
  axis_phi = rng.uniform(-np.pi, np.pi, (num_jets, 1))
  axis_phi[0] = 3.1
  pt = np.exp(rng.normal(1.5, 1.5, shape))
  eta = axis_eta + rng.normal(0.0, 0.25, shape)
  phi = axis_phi + rng.normal(0.0, 0.25, shape)
  mass = rng.choice(MASSES, shape)
  pt[:, 0] = rng.uniform(200.0, 600.0, num_jets)
  pt[:, 1] = 1e-3
  eta[:, 3], phi[:, 3] = eta[:, 2] + 1e-4, phi[:, 2] - 1e-4
  px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
  energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
  p4 = np.stack([energy, px, py, pz], axis=-1)
  p4[:, 5] = p4[:, 4]
  return p4.astype(np.float32)


def weaver_pairs(p4: np.ndarray, dtype: torch.dtype) -> np.ndarray:
  """(B, N, 4) -> (B, N, N, 4)."""
  x = torch.tensor(p4[..., [1, 2, 3, 0]], dtype=dtype).movedim(-1, 1)
  pairs = pairwise_lv_fts_pp(x.unsqueeze(-1), x.unsqueeze(-2), num_outputs=4)
  return pairs.movedim(1, -1).numpy()


def main() -> None:
  p4 = make_jets(np.random.default_rng(20220208), num_jets=4, num_particles=20)
  packages = ("weaver-core", "torch", "numpy")
  versions = [f"{name}=={importlib.metadata.version(name)}" for name in packages]
  path = pathlib.Path(__file__).with_name("weaver_pairs.npz")
  np.savez_compressed(
    path,
    p4=p4,
    pairs_float64=weaver_pairs(p4, torch.float64),
    pairs_float32=weaver_pairs(p4, torch.float32),
    versions=np.array([f"python=={platform.python_version()}", *versions]),
  )
  print(f"wrote {path}: {path.stat().st_size / 1e3:.0f} kB, {', '.join(versions)}")


if __name__ == "__main__":
  main()
