"""Laws of the distances between sets of particles."""

import jax
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from jetfm import objectives

chamfer_distance = jax.jit(objectives.chamfer_distance)
existence_cross_entropy = jax.jit(objectives.existence_cross_entropy)
particle_distance = jax.jit(objectives.particle_distance)
wasserstein_1d = jax.jit(objectives.wasserstein_1d)

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(2, 7, 4)), RNG.normal(size=(2, 9, 4))
A_MASK = np.arange(7) < np.array([5, 7])[:, None]
B_MASK = np.arange(9) < np.array([9, 2])[:, None]


def test_particle_distance_is_periodic_and_euclidean_for_small_angles(x64):
  turned = A + 2 * np.pi * np.array([0, 0, 1, 0])
  np.testing.assert_allclose(particle_distance(turned, B), particle_distance(A, B), rtol=1e-12)
  near = A[:, :1] + 1e-4 * RNG.normal(size=(2, 1, 4))
  np.testing.assert_allclose(
    particle_distance(A[:, :1], near)[..., 0, 0],
    ((A[:, 0] - near[:, 0]) ** 2).sum(axis=-1),
    rtol=1e-7,
  )


def test_chamfer_equals_its_definition(x64):
  for event in range(2):
    a, b = A[event][A_MASK[event]], B[event][B_MASK[event]]
    distance = np.asarray(particle_distance(a, b))
    expected = distance.min(axis=1).mean() + distance.min(axis=0).mean()
    assert float(chamfer_distance(A, B, A_MASK, B_MASK)[event]) == pytest.approx(expected, 1e-12)


def test_distances_of_equal_sets_are_zero_in_any_order(x64):
  order = RNG.permutation(7)
  np.testing.assert_allclose(
    chamfer_distance(A, A[:, order], A_MASK, A_MASK[:, order]), 0, atol=1e-14
  )
  np.testing.assert_allclose(
    wasserstein_1d(A[..., 0], A[:, order, 0], A_MASK, A_MASK[:, order]), 0, atol=1e-14
  )


def test_wasserstein_equals_scipy(x64):
  expected = [
    wasserstein_distance(A[event, A_MASK[event], 0], B[event, B_MASK[event], 0])
    for event in range(2)
  ]
  np.testing.assert_allclose(
    wasserstein_1d(A[..., 0], B[..., 0], A_MASK, B_MASK), expected, rtol=1e-12
  )


def test_wasserstein_of_a_shift_is_the_shift(x64):
  np.testing.assert_allclose(
    wasserstein_1d(A[..., 0], A[..., 0] + 5.5, A_MASK, A_MASK), 5.5, rtol=1e-12
  )


def test_padding_changes_no_distance(x64):
  more = np.pad(B, [(0, 0), (0, 4), (0, 0)], constant_values=np.nan)
  more_mask = np.pad(B_MASK, [(0, 0), (0, 4)])
  np.testing.assert_allclose(
    chamfer_distance(A, more, A_MASK, more_mask), chamfer_distance(A, B, A_MASK, B_MASK), rtol=1e-14
  )
  np.testing.assert_allclose(
    wasserstein_1d(A[..., 0], more[..., 0], A_MASK, more_mask),
    wasserstein_1d(A[..., 0], B[..., 0], A_MASK, B_MASK),
    rtol=1e-13,
  )


def test_empty_sets_are_at_distance_zero():
  nothing = np.zeros_like(B_MASK)
  assert not np.asarray(chamfer_distance(A, B, A_MASK, nothing)).any()
  assert not np.asarray(wasserstein_1d(A[..., 0], B[..., 0], A_MASK, nothing)).any()


def test_existence_is_least_at_the_right_probability(x64):
  rate = 0.3
  logit = np.log(rate / (1 - rate))

  def expected_loss(x):
    there, absent = (float(existence_cross_entropy(x, exists)) for exists in (True, False))
    return rate * there + (1 - rate) * absent

  entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
  assert expected_loss(logit) == pytest.approx(entropy, rel=1e-13)
  assert min(expected_loss(logit + d) for d in (-0.1, 0.1)) > entropy
  assert np.isfinite(existence_cross_entropy(np.array([-1e4, 1e4]), np.array([True, False]))).all()
