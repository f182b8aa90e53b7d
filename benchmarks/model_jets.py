"""The jets on which models are timed: multiplicities of real ones, or every slot filled."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from jetfm.schema import Schema

ROOT = pathlib.Path(__file__).parents[1]
PARTICLES = 128


def real_jets() -> pathlib.Path:
  """The folder of real jets (*.npz with p4, num_particles); JETFM_REAL_JETS names another."""
  return pathlib.Path(os.environ.get("JETFM_REAL_JETS", ROOT.parent / "shared" / "real"))


def write_jets(path: pathlib.Path, jets: int = 1536, *, padded: bool = False, seed: int = 0) -> str:
  """Shuffled jets and ParT's seven features; says which jets they are.

  They have the multiplicities of real jets; with `padded` every jet fills all of its slots.
  """
  files = [] if padded else sorted(real_jets().glob("*.npz"))
  rng = np.random.default_rng(seed)
  if files:
    p4 = np.concatenate([np.load(file)["p4"] for file in files])
    count = np.concatenate([np.load(file)["num_particles"] for file in files])
    source = f"{len(p4)} real jets of {', '.join(file.stem for file in files)}"
  elif padded:
    count = np.full(jets, PARTICLES, np.int32)
    p4 = _synthetic(rng, jets)
    source = "synthetic jets, every slot filled"
  else:
    # Gamma with the mean and the spread of published jets.
    count = np.clip(rng.gamma(5.6, 7.5, jets).round(), 2, PARTICLES).astype(np.int32)
    p4 = _synthetic(rng, jets)
    source = "synthetic jets with mean multiplicity 42"
  order = rng.permutation(jets) % len(p4)
  p4, count = p4[order, :PARTICLES].astype(np.float32), np.minimum(count[order], PARTICLES)
  mask = np.arange(PARTICLES) < count[:, None]
  p4 *= mask[..., None]
  schema = model_schema()
  columns = schema.values(p4, np.zeros((*mask.shape, len(schema.stored)), np.float32), mask)
  features = [f.forward(columns[..., i]) for i, f in enumerate(schema.features)]
  np.savez(
    path,
    p4=p4,
    mask=mask,
    features=np.stack(features, axis=-1).astype(np.float32) * mask[..., None],
    label=rng.integers(0, 10, jets),
  )
  return f"{source}; mean multiplicity {count.mean():.1f}"


def model_schema() -> Schema:
  """Of the seven kinematic features, all of them functions of the momenta."""
  from jetfm.data import jet_schema

  return jet_schema("kin", targets=())


def _synthetic(rng: np.random.Generator, jets: int) -> np.ndarray:
  pt = np.sort(rng.lognormal(1.5, 1.3, (jets, PARTICLES)), axis=1)[:, ::-1]
  eta = rng.uniform(-2, 2, (jets, 1)) + rng.normal(0, 0.2, pt.shape)
  phi = rng.uniform(-np.pi, np.pi, (jets, 1)) + rng.normal(0, 0.2, pt.shape)
  return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], -1)
