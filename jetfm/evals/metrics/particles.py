"""From padded four-momenta to the coordinates that metrics compare.

In float64, in chunks of jets: a jet of 128 slots takes 4 kB in float64, and only one chunk of the
intermediate arrays exists at a time.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from jetfm.lorentz.kinematics import constituent_mass, particle_features, seed_mass

CHUNK_JETS = 1024

COORDINATES = ("pt", "eta", "phi", "energy")
"""pT (GeV), eta, phi (rad), E (GeV): what generation is measured on."""

RELATIVE = ("deta", "dphi", "pt")
"""Relative to the jet's axis, in the order of JetNet; pT in GeV."""


def particle_coordinates(
  p4: np.ndarray, mask: np.ndarray, names: tuple[str, ...] = COORDINATES
) -> np.ndarray:
  """p4 (B, N, 4) in GeV, mask (B, N) -> (B, N, len(names)); padded slots are 0.

  Names are those of `jetfm.lorentz.particle_features`.
  """
  return _in_chunks(_features(tuple(names)), p4, mask)


def jet_mass(p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Invariant mass of a jet's particles in GeV, p4 (B, N, 4) and mask (B, N) -> (B,)."""
  return _in_chunks(_mass, p4, mask)


def jet_seed_mass(p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """What the 2026 seed calls jet mass (`jetfm.lorentz`), in GeV, (B, N, 4) and (B, N) -> (B,)."""
  return _in_chunks(_seed_mass, p4, mask)


@functools.cache
def _features(names: tuple[str, ...]):
  return jax.jit(lambda p4, mask: particle_features(names, p4, mask))


_mass = jax.jit(constituent_mass)
_seed_mass = jax.jit(seed_mass)


def _in_chunks(function, p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
  p4, mask = np.asarray(p4), np.asarray(mask, bool)
  if p4.ndim != 3 or p4.shape[-1] != 4 or mask.shape != p4.shape[:2]:
    raise ValueError(f"got p4 {p4.shape} and mask {mask.shape}, expected (B, N, 4) and (B, N)")
  parts = []
  with jax.enable_x64(True):
    for i in range(0, max(len(p4), 1), CHUNK_JETS):
      p, m = p4[i : i + CHUNK_JETS].astype(np.float64), mask[i : i + CHUNK_JETS]
      # Filled up to a power of two, so that few sizes are ever compiled.
      fill = (1 << max(len(p) - 1, 0).bit_length()) - len(p)
      p, m = (np.pad(a, ((0, fill), *[(0, 0)] * (a.ndim - 1))) for a in (p, m))
      parts.append(np.asarray(function(p, m))[: len(p) - fill])
  return np.concatenate(parts)
