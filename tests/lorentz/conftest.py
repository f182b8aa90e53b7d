"""Made-up jets for the tests of four-momenta."""

import numpy as np
import pytest


def _jets(seed, num_jets=6, num_particles=12, massless=False):
  """Jets of 1 to N particles up to |eta| = 2.5: p4 (B, N, 4) float64 and mask (B, N)."""
  rng = np.random.default_rng(seed)
  shape = (num_jets, num_particles)
  pt = np.exp(rng.normal(2.0, 1.2, shape))
  eta = rng.uniform(-2.5, 2.5, (num_jets, 1)) + rng.normal(0.0, 0.3, shape)
  phi = rng.uniform(-np.pi, np.pi, (num_jets, 1)) + rng.normal(0.0, 0.3, shape)
  mass = 0.0 if massless else rng.choice([0.0, 0.1396, 0.4976, 0.938], shape)
  px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
  p4 = np.stack([np.sqrt(px**2 + py**2 + pz**2 + mass**2), px, py, pz], axis=-1)
  mask = np.arange(num_particles) < rng.integers(1, num_particles + 1, (num_jets, 1))
  mask[0] = True
  return np.where(mask[..., None], p4, 0.0), mask


@pytest.fixture
def jets():
  """The function (seed, num_jets, num_particles, massless) -> p4, mask."""
  return _jets


@pytest.fixture
def edge_momenta():
  """Four-momenta (K, 4) where formulas divide by zero or take roots of zero."""
  return np.array(
    [
      [0.0, 0.0, 0.0, 0.0],  # padding
      [5.0, 3.0, 4.0, 0.0],  # massless, at eta = 0
      [5.0, 0.0, 0.0, 5.0],  # massless, along the beam
      [5.0, 0.0, 0.0, -4.0],  # massive, along the beam
      [2.0, 0.0, 0.0, 0.0],  # at rest
      [5.0, -5.0, 0.0, 0.0],  # phi = pi
      [4.9, 3.0, 4.0, 0.0],  # m^2 < 0 by a badly measured energy
    ]
  )


@pytest.fixture
def smooth_momenta():
  """Four-momenta (K, 4) far from every edge, where finite differences are accurate."""
  three = np.array([[3.0, 1.0, -0.5], [2.0, -1.0, 1.5], [-1.0, 2.5, 0.3], [1.5, 1.0, 2.0]])
  energy = np.sqrt((three**2).sum(-1) + np.array([1.0, 4.0, 2.0, 3.0]))
  return np.concatenate([energy[:, None], three], axis=-1)
