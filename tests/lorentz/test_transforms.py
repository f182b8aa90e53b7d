"""The Lorentz group acting on vectors and on multivectors."""

import itertools

import jax
import numpy as np
import pytest

from tests.compiled import lorentz

MINKOWSKI = np.diag([1.0, -1.0, -1.0, -1.0])
SEEDS = range(4)


def close(a, b, atol=1e-10):
  np.testing.assert_allclose(a, b, atol=atol)


def random_matrix(seed, reflections):
  return np.asarray(lorentz.random_lorentz(jax.random.key(seed), 1.5, reflections))


def multivectors(seed, *shape):
  return np.random.default_rng(seed).normal(size=(*shape, 16))


@pytest.fixture(params=[False, True], ids=["connected", "reflections"])
def reflections(request):
  return request.param


@pytest.mark.parametrize("seed", SEEDS)
def test_random_transformations_keep_the_metric(x64, seed, reflections):
  matrix = random_matrix(seed, reflections)
  close(matrix.T @ MINKOWSKI @ matrix, MINKOWSKI)
  close(lorentz.inverse_lorentz(matrix) @ matrix, np.eye(4))
  if not reflections:
    assert matrix[0, 0] >= 1 and np.linalg.det(matrix) > 0


def test_reflections_reach_all_four_components(x64):
  matrices = [random_matrix(seed, True) for seed in range(40)]
  components = {(m[0, 0] > 0, np.linalg.det(m) > 0) for m in matrices}
  assert len(components) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_action_on_multivectors_is_a_representation(x64, seed, reflections):
  first, second = random_matrix(seed, reflections), random_matrix(seed + 100, reflections)
  product = lorentz.multivector_matrix(first @ second)
  close(product, lorentz.multivector_matrix(first) @ lorentz.multivector_matrix(second))
  close(lorentz.multivector_matrix(np.eye(4)), np.eye(16))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("product", [lorentz.geometric_product, lorentz.outer_product])
def test_action_is_an_automorphism(x64, seed, reflections, product):
  matrix = random_matrix(seed, reflections)
  x, y = multivectors(seed, 2, 8)
  together = lorentz.transform_multivectors(matrix, product(x, y))
  apart = product(
    lorentz.transform_multivectors(matrix, x), lorentz.transform_multivectors(matrix, y)
  )
  np.testing.assert_allclose(together, apart, rtol=1e-10, atol=1e-10 * np.abs(together).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_inner_product_and_masses_are_invariant(x64, jets, seed, reflections):
  matrix = random_matrix(seed, reflections)
  x, y = multivectors(seed, 2, 8)
  moved = [lorentz.transform_multivectors(matrix, value) for value in (x, y)]
  close(lorentz.inner_product(*moved), lorentz.inner_product(x, y), atol=1e-9)
  p4, mask = jets(seed)
  p4 = p4 / p4[..., 0].max()
  moved = lorentz.transform_vectors(matrix, p4)
  close(lorentz.mass_squared(moved), lorentz.mass_squared(p4), atol=1e-12)
  if not reflections:
    masses = lorentz.constituent_mass(moved, mask) ** 2
    close(masses, lorentz.constituent_mass(p4, mask) ** 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_entries_are_minors(x64, seed, reflections):
  matrix = random_matrix(seed, reflections)
  action = np.asarray(lorentz.multivector_matrix(matrix))
  expected = np.zeros((16, 16))
  for (i, rows), (j, columns) in itertools.product(enumerate(lorentz.BLADES), repeat=2):
    if len(rows) == len(columns):
      expected[i, j] = np.linalg.det(matrix[np.ix_(rows, columns)]) if rows else 1.0
  close(action, expected)


def test_vectors_transform_alike_in_both_forms(x64, jets):
  matrix = random_matrix(5, True)
  p4 = jets(5)[0] / 100
  as_multivectors = lorentz.transform_multivectors(matrix, lorentz.embed_vector(p4))
  moved = lorentz.embed_vector(lorentz.transform_vectors(matrix, p4))
  close(as_multivectors, moved)


def test_mirror_is_the_twisted_sandwich_product(x64):
  """A(x) = n x^ n^-1 with the grade involution x^, for a mirror of direction n."""
  direction = np.array([0.3, -1.2, 0.7])
  n = np.asarray(lorentz.embed_vector(np.append(0.0, direction / np.linalg.norm(direction))))
  x = multivectors(6, 8)
  involuted = x * (-1.0) ** lorentz.GRADES
  sandwich = lorentz.geometric_product(lorentz.geometric_product(n, involuted), -n)
  close(lorentz.transform_multivectors(lorentz.mirror(direction), x), sandwich)


def test_boost_gives_its_rapidity(x64):
  at_rest = np.array([2.0, 0.0, 0.0, 0.0])
  moved = lorentz.transform_vectors(lorentz.boost(0.8, [0.0, 0.0, 3.0]), at_rest)
  close(lorentz.rapidity(moved), 0.8)
  close(moved, [2 * np.cosh(0.8), 0, 0, 2 * np.sinh(0.8)])
  along = np.asarray(lorentz.boost(0.3, [1, 2, -1])) @ np.asarray(lorentz.boost(0.5, [1, 2, -1]))
  close(along, lorentz.boost(0.8, [1, 2, -1]))


def test_rotation_is_right_handed(x64):
  x_axis = np.array([1.0, 1.0, 0.0, 0.0])
  close(
    lorentz.transform_vectors(lorentz.rotation([0, 0, 2], np.pi / 2), x_axis), [1.0, 0.0, 1.0, 0.0]
  )
  moved = lorentz.transform_vectors(lorentz.rotation([0, 0, 1], 0.4), x_axis)
  close(lorentz.azimuth(moved), 0.4)
  matrix = np.asarray(lorentz.rotation([1, -2, 0.5], 1.1))
  close(matrix @ [0, 1, -2, 0.5], [0, 1, -2, 0.5])
  close(np.trace(matrix), 2 + 2 * np.cos(1.1))


def test_reflections_are_what_they_say(x64):
  p = np.array([5.0, 1.0, 2.0, 3.0])
  close(lorentz.transform_vectors(lorentz.parity(), p), [5, -1, -2, -3])
  close(lorentz.transform_vectors(lorentz.time_reversal(), p), [-5, 1, 2, 3])
  close(lorentz.transform_vectors(lorentz.mirror([0, 0, 9]), p), [5, 1, 2, -3])


def test_one_matrix_per_jet(x64, jets):
  p4, _ = jets(7)
  keys = jax.random.split(jax.random.key(0), len(p4))
  matrices = np.array([lorentz.random_lorentz(key, 1.5, True) for key in keys])
  x = np.asarray(lorentz.embed_vector(p4))
  moved = np.asarray(lorentz.transform_vectors(matrices, p4))
  moved_x = np.asarray(lorentz.transform_multivectors(matrices, x))
  for b, matrix in enumerate(matrices):
    close(moved[b], lorentz.transform_vectors(matrix, p4[b]))
    close(moved_x[b], lorentz.transform_multivectors(matrix, x[b]))


def test_wrong_shapes_are_refused(jets):
  p4, _ = jets(0)
  with pytest.raises(ValueError, match="last axis of 4"):
    lorentz.transform_vectors(np.eye(4), p4[..., :3])
  with pytest.raises(ValueError, match="last axis of 16"):
    lorentz.transform_multivectors(np.eye(4), p4)
  with pytest.raises(ValueError, match="expected \\(3,\\)"):
    lorentz.boost(1.0, [0.0, 1.0])
