"""Made-up jets for the tests of evaluation."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def one_thread():
  """Matrices here are small: threads of the linear algebra only wait for each other."""
  with threadpool_limits(1):
    yield


def make_jets(seed=0, num_jets=200, num_slots=24, soft=1.0):
  """(p4 (B, N, 4), mask (B, N), label (B,)): massless particles around random axes, two classes."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 2, num_jets)
  number = rng.integers(4, num_slots - 4 * label[:, None] + 1, (num_jets, 1))
  mask = np.arange(num_slots) < number
  pt = -np.sort(-rng.lognormal(2.5, soft, mask.shape) * mask, axis=1)
  eta = rng.uniform(-1.5, 1.5, (num_jets, 1)) + rng.normal(0, 0.15 + 0.1 * label[:, None], pt.shape)
  phi = rng.uniform(-np.pi, np.pi, (num_jets, 1)) + rng.normal(0, 0.2, pt.shape)
  momenta = [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
  return np.stack(momenta, axis=-1) * mask[..., None], mask, label


@pytest.fixture(scope="session")
def jets():
  return make_jets()


@pytest.fixture(scope="session")
def other_jets():
  return make_jets(seed=1, soft=1.3)
