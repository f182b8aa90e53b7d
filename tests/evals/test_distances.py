"""Distances of samples and histograms: scipy's numbers and known cases."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import entropy, wasserstein_distance

from jetfm.evals import metrics
from jetfm.evals.metrics import distances


def test_mmd_against_the_plain_formula_in_any_chunks(monkeypatch):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(150, 4)), rng.normal(0.3, 1.2, size=(170, 4))

  def kernel(a, b):
    return np.exp(-cdist(a, b, "sqeuclidean") / 2).mean()

  expected = kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)
  assert metrics.mmd_rbf(x, y) == pytest.approx(expected, rel=1e-9)
  monkeypatch.setattr(distances, "CHUNK_ELEMENTS", 1000)
  assert metrics.mmd_rbf(x, y) == pytest.approx(expected, rel=1e-9)


def test_mmd_of_two_points_and_of_equal_samples():
  x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
  assert metrics.mmd_rbf(x, y, sigma=2.0) == pytest.approx(2 - 2 * np.exp(-25 / 8))
  sample = np.random.default_rng(1).normal(size=(300, 4))
  assert metrics.mmd_rbf(sample, sample) == pytest.approx(0, abs=1e-14)


def test_wasserstein_agrees_with_scipy():
  rng = np.random.default_rng(2)
  x, y = rng.normal(size=200), rng.exponential(size=120)
  u, v = rng.uniform(size=200), rng.uniform(size=120)
  assert metrics.wasserstein_1d(x, y) == wasserstein_distance(x, y)
  assert metrics.wasserstein_1d(x, y, u, v) == pytest.approx(wasserstein_distance(x, y, u, v))
  assert metrics.wasserstein_1d(x, x + 0.7) == pytest.approx(0.7)


def test_wasserstein_of_rows_agrees_with_scipy_row_by_row():
  rng = np.random.default_rng(3)
  x, y = rng.exponential(size=(60, 12)), rng.exponential(2.0, size=(60, 9))
  x[5] = np.round(x[5])
  a, b = rng.random((60, 12)) < 0.6, rng.random((60, 9)) < 0.7
  a[0], b[1] = False, False
  rows = metrics.wasserstein_rows(x, y, a, b)
  assert np.isnan(rows[:2]).all()
  expected = [wasserstein_distance(x[i, a[i]], y[i, b[i]]) for i in range(2, 60)]
  np.testing.assert_allclose(rows[2:], expected, rtol=1e-9, atol=1e-12)


def test_frechet_distance_of_known_gaussians():
  rng = np.random.default_rng(4)
  x = rng.normal(size=(400, 3))
  x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False)).T)
  scale, shift = np.array([1.0, 2.0, 0.5]), np.array([0.0, 3.0, -1.0])
  # Commuting covariances: |shift|^2 + sum (1 - s)^2
  expected = np.sum(shift**2) + np.sum((1 - scale) ** 2)
  assert metrics.frechet_distance(x, x * scale + shift) == pytest.approx(expected)
  flat = np.c_[x, x[:, :1]]
  assert metrics.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


def test_histogram_distances_agree_with_scipy():
  rng = np.random.default_rng(5)
  p, q = rng.random(50), rng.random(50)
  assert metrics.kl_divergence(p, q, floor=0) == pytest.approx(entropy(p, q), rel=1e-12)
  assert metrics.jensen_shannon_distance(p, q) == pytest.approx(jensenshannon(p, q), rel=1e-12)
  apart = np.r_[np.ones(5), np.zeros(5)]
  assert metrics.jensen_shannon_distance(apart, apart[::-1]) == pytest.approx(np.sqrt(np.log(2)))
  # Disjoint bins: what the floor of 1e-10 makes of the logarithm
  assert metrics.kl_divergence(apart, apart[::-1]) == pytest.approx(np.log(0.2 / 1e-10), rel=1e-3)
  for metric in (metrics.kl_divergence, metrics.histogram_mse, metrics.jensen_shannon_distance):
    assert metric(p, 3 * p) == pytest.approx(0, abs=1e-8)


def test_energy_flow_polynomials_by_brute_force():
  """All graphs of up to three edges, by the defining sum over particles."""
  from jetfm.evals.metrics.energy_flow import _multisets, connected_graphs

  assert [len(connected_graphs(d)) for d in range(1, 6)] == [1, 2, 5, 12, 33]
  rng = np.random.default_rng(6)
  pt, eta = rng.exponential(size=(2, 4)), rng.normal(size=(2, 4))
  phi = rng.uniform(-np.pi, np.pi, (2, 4))
  mask = np.array([[True] * 4, [True, False, True, True]])
  ours = metrics.energy_flow_polynomials(pt, eta, phi, mask, max_edges=3)
  for b in range(2):
    keep = np.flatnonzero(mask[b])

    def connected(graph, b=b, keep=keep):
      size = 1 + max(max(edge) for edge in graph)
      total = 0.0
      for chosen in itertools.product(keep, repeat=size):
        term = np.prod(pt[b, list(chosen)])
        for k, l in graph:
          i, j = chosen[k], chosen[l]
          dphi = np.angle(np.exp(1j * (phi[b, i] - phi[b, j])))
          term *= np.hypot(eta[b, i] - eta[b, j], dphi)
        total += term
      return total

    expected = [
      np.prod([connected(g) for g in graphs]) if graphs else pt[b, keep].sum()
      for graphs in _multisets(3)
    ]
    np.testing.assert_allclose(ours[b], expected, rtol=1e-10)
