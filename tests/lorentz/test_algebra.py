"""Cl(1,3): the laws of its product, and the linear maps that commute with the Lorentz group."""

import jax
import numpy as np
import pytest

from tests.compiled import lorentz

MINKOWSKI = np.diag([1.0, -1.0, -1.0, -1.0])


def multivectors(seed, *shape):
  return np.random.default_rng(seed).normal(size=(*shape, 16))


def close(a, b):
  np.testing.assert_allclose(a, b, atol=1e-11)


def test_components_have_the_agreed_order():
  names = ["".join(map(str, blade)) for blade in lorentz.BLADES]
  order = " 0 1 2 3 01 02 03 12 13 23 012 013 023 123 0123"
  assert names == order.split(" ")
  assert [len(range(*s.indices(16))) for s in lorentz.GRADE_SLICES] == [1, 4, 6, 4, 1]
  for grade, where in enumerate(lorentz.GRADE_SLICES):
    assert (lorentz.GRADES[where] == grade).all()


def test_basis_vectors_anticommute_to_the_metric(x64):
  """e_m e_n + e_n e_m = 2 g_mn, the law that defines the algebra."""
  e = np.asarray(lorentz.embed_vector(np.eye(4)))
  products = np.asarray(lorentz.geometric_product(e[:, None], e[None, :]))
  symmetric = products + products.swapaxes(0, 1)
  np.testing.assert_array_equal(symmetric[..., 0], 2 * MINKOWSKI)
  np.testing.assert_array_equal(symmetric[..., 1:], 0)


def test_basis_blades_are_products_of_their_vectors(x64):
  e = np.asarray(lorentz.embed_vector(np.eye(4)))
  for component, blade in enumerate(lorentz.BLADES):
    product = np.eye(16)[0]
    for vector in blade:
      product = lorentz.geometric_product(product, e[vector])
    np.testing.assert_array_equal(product, np.eye(16)[component])


def test_product_is_associative_and_has_a_unit(x64):
  x, y, z = multivectors(0, 3, 20)
  left = lorentz.geometric_product(lorentz.geometric_product(x, y), z)
  close(left, lorentz.geometric_product(x, lorentz.geometric_product(y, z)))
  close(lorentz.geometric_product(lorentz.embed_scalar(np.ones(20)), x), x)


def test_square_of_a_vector_is_its_mass_squared(x64, jets):
  p4 = jets(1)[0] / 10
  square = lorentz.geometric_product(lorentz.embed_vector(p4), lorentz.embed_vector(p4))
  close(lorentz.extract_scalar(square), lorentz.mass_squared(p4))
  close(square[..., 1:], 0.0)


def test_product_of_vectors_is_inner_plus_outer(x64):
  p, q = np.random.default_rng(2).normal(size=(2, 10, 4))
  p, q = lorentz.embed_vector(p), lorentz.embed_vector(q)
  inner = lorentz.embed_scalar(lorentz.inner_product(p, q))
  close(lorentz.geometric_product(p, q), inner + lorentz.outer_product(p, q))
  close(lorentz.outer_product(p, q), -lorentz.outer_product(q, p))


def test_outer_product_is_associative_and_nilpotent_on_vectors(x64):
  x, y, z = multivectors(3, 3, 10)
  left = lorentz.outer_product(lorentz.outer_product(x, y), z)
  close(left, lorentz.outer_product(x, lorentz.outer_product(y, z)))
  v = lorentz.grade_projection(x, 1)
  close(lorentz.outer_product(v, v), 0.0)


def test_reverse_turns_products_around(x64):
  x, y = multivectors(4, 2, 10)
  turned = lorentz.geometric_product(lorentz.reverse(y), lorentz.reverse(x))
  close(lorentz.reverse(lorentz.geometric_product(x, y)), turned)
  vectors = lorentz.grade_projection(x, 0) + lorentz.grade_projection(x, 1)
  close(lorentz.reverse(vectors), vectors)


def test_inner_product_is_the_scalar_part_of_reverse_times(x64):
  x, y = multivectors(5, 2, 10)
  product = lorentz.geometric_product(lorentz.reverse(x), y)
  close(lorentz.inner_product(x, y), lorentz.extract_scalar(product))


def test_grades_add_up(x64):
  x = multivectors(6, 10)
  close(sum(lorentz.grade_projection(x, grade) for grade in range(5)), x)
  with pytest.raises(ValueError, match="grade is 5"):
    lorentz.grade_projection(x, 5)


def test_embedded_quantities_come_back():
  p4 = np.arange(8.0).reshape(2, 4)
  np.testing.assert_array_equal(lorentz.extract_vector(lorentz.embed_vector(p4)), p4)
  np.testing.assert_array_equal(lorentz.extract_scalar(lorentz.embed_scalar(p4)), p4)
  assert lorentz.embed_scalar(p4).shape == (2, 4, 16)
  np.testing.assert_array_equal(lorentz.extract_pseudoscalar(np.eye(16)), np.eye(16)[-1])
  with pytest.raises(ValueError, match=r"expected \(..., 4\)"):
    lorentz.embed_vector(np.zeros((2, 3)))
  with pytest.raises(ValueError, match=r"expected \(..., 16\)"):
    lorentz.extract_vector(p4)


def actions(pseudoscalar):
  """16 x 16 actions that generate the group: connected, or with parity and time reversal."""
  matrices = [lorentz.random_lorentz(jax.random.key(seed), 1.0) for seed in range(3)]
  if not pseudoscalar:
    matrices += [lorentz.parity(), lorentz.time_reversal()]
  return [np.asarray(lorentz.multivector_matrix(matrix)) for matrix in matrices]


@pytest.mark.parametrize("pseudoscalar", [False, True], ids=["full", "connected"])
def test_maps_commute_with_the_group(x64, pseudoscalar):
  for action in actions(pseudoscalar):
    for k, linear in enumerate(lorentz.equivariant_maps(pseudoscalar)):
      np.testing.assert_allclose(linear @ action, action @ linear, atol=1e-10, err_msg=str(k))


@pytest.mark.parametrize("reflection", [lorentz.parity, lorentz.time_reversal])
def test_pseudoscalar_maps_do_not_commute_with_reflections(x64, reflection):
  """They change sign: right-multiplication by A(e0123) = -e0123."""
  action = np.asarray(lorentz.multivector_matrix(reflection()))
  for linear in lorentz.equivariant_maps(True)[5:]:
    close(linear @ action, -(action @ linear))


@pytest.mark.parametrize("pseudoscalar", [False, True], ids=["full", "connected"])
def test_maps_are_all_there_are(x64, pseudoscalar):
  """The solutions M of M A = A M have exactly 5 (10) dimensions, and the maps span them."""
  identity = np.eye(16)
  equations = np.concatenate(
    [np.kron(identity, a.T) - np.kron(a, identity) for a in actions(pseudoscalar)]
  )
  singular = np.linalg.svd(equations, compute_uv=False)
  maps = lorentz.equivariant_maps(pseudoscalar).reshape(-1, 256)
  assert np.sum(singular < 1e-10 * singular[0]) == len(maps) == (10 if pseudoscalar else 5)
  assert np.linalg.matrix_rank(maps) == len(maps)
  np.testing.assert_allclose(equations @ maps.T, 0.0, atol=1e-10)


def test_pseudoscalar_multiplies_from_the_right(x64):
  """Left and right multiplication agree for even grades and differ in sign for odd ones."""
  x = multivectors(7)
  pseudoscalar = np.eye(16)[-1]
  for grade, linear in enumerate(lorentz.equivariant_maps(True)[5:]):
    part = lorentz.grade_projection(x, grade)
    right = lorentz.geometric_product(part, pseudoscalar)
    left = lorentz.geometric_product(pseudoscalar, part)
    close(linear @ x, right)
    close(left, (-1) ** grade * right)
    assert np.asarray(right).any()


def test_products_in_float32_use_full_precision():
  x, y = multivectors(8, 2, 50)
  single = lorentz.geometric_product(x.astype(np.float32), y.astype(np.float32))
  assert single.dtype == np.float32
  with jax.enable_x64(True):
    double = np.asarray(lorentz.geometric_product(x, y))
  np.testing.assert_allclose(single, double, atol=2e-5)
