"""The geometric algebra Cl(1,3) of space-time: multivectors of 16 components.

Components are the coefficients of the basis blades, ordered scalar, e0 e1 e2 e3,
e01 e02 e03 e12 e13 e23, e012 e013 e023 e123, e0123, with e0 e0 = +1 and ei ei = -1. Every table
here is derived from that metric. Constants are float64 NumPy arrays, cast where they are used.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

METRIC = np.array([1.0, -1.0, -1.0, -1.0])
"""Squares of e0, e1, e2, e3."""

BLADES: tuple[tuple[int, ...], ...] = tuple(
  blade for grade in range(5) for blade in itertools.combinations(range(4), grade)
)
"""The basis vectors in each component's blade: (), (0,), ..., (0, 1), ..., (0, 1, 2, 3)."""

NUM_COMPONENTS = len(BLADES)
GRADES = np.array([len(blade) for blade in BLADES])
"""(16,) grade of each component."""

_ENDS = np.cumsum(np.bincount(GRADES))
GRADE_SLICES: tuple[slice, ...] = tuple(
  slice(int(start), int(end)) for start, end in zip([0, *_ENDS[:-1]], _ENDS, strict=True)
)
"""Where the components of grade 0..4 are."""

_INDEX = {blade: component for component, blade in enumerate(BLADES)}


def _multiply_blades(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
  """Sign and blade of the product of two basis blades."""
  sign, factors = 1.0, list(a + b)
  # Bubble sort: each exchange of two different basis vectors changes the sign.
  for end in range(len(factors), 1, -1):
    for k in range(end - 1):
      if factors[k] > factors[k + 1]:
        factors[k], factors[k + 1] = factors[k + 1], factors[k]
        sign = -sign
  product: list[int] = []
  for vector in factors:
    if product and product[-1] == vector:
      product.pop()
      sign *= METRIC[vector]
    else:
      product.append(vector)
  return sign, tuple(product)


def _product_table() -> np.ndarray:
  table = np.zeros((NUM_COMPONENTS,) * 3)
  for (i, a), (j, b) in itertools.product(enumerate(BLADES), repeat=2):
    sign, blade = _multiply_blades(a, b)
    table[i, j, _INDEX[blade]] = sign
  return table


GEOMETRIC_PRODUCT = _product_table()
"""(16, 16, 16): (x y)_k = sum_ij x_i y_j GEOMETRIC_PRODUCT[i, j, k]."""

OUTER_PRODUCT = GEOMETRIC_PRODUCT * (
  GRADES[:, None, None] + GRADES[None, :, None] == GRADES[None, None, :]
)
"""(16, 16, 16): the part of the geometric product whose grade is the sum of the grades."""

REVERSE_SIGNS = (-1.0) ** (GRADES * (GRADES - 1) // 2)
"""(16,) signs of the reverse: the order of the vectors in every product is turned around."""

INNER_SIGNS = np.array([np.prod(METRIC[list(blade)]) for blade in BLADES])
"""(16,) <x, y> = sum_i INNER_SIGNS[i] x_i y_i: the product of its vectors' squares."""


def _bilinear(table: np.ndarray, x: ArrayLike, y: ArrayLike) -> jax.Array:
  x, y = jnp.asarray(x), jnp.asarray(y)
  signs = jnp.asarray(table, jnp.result_type(x, y))
  return jnp.einsum("...i,...j,ijk->...k", x, y, signs, precision="highest")


def geometric_product(x: ArrayLike, y: ArrayLike) -> jax.Array:
  """x y, (..., 16) and (..., 16) -> (..., 16)."""
  return _bilinear(GEOMETRIC_PRODUCT, x, y)


def outer_product(x: ArrayLike, y: ArrayLike) -> jax.Array:
  """x ^ y, (..., 16) and (..., 16) -> (..., 16)."""
  return _bilinear(OUTER_PRODUCT, x, y)


def inner_product(x: ArrayLike, y: ArrayLike) -> jax.Array:
  """Lorentz-invariant <reverse(x) y>_0, (..., 16) and (..., 16) -> (...); of vectors, p.q."""
  x, y = jnp.asarray(x), jnp.asarray(y)
  return (x * y * jnp.asarray(INNER_SIGNS, x.dtype)).sum(axis=-1)


def reverse(x: ArrayLike) -> jax.Array:
  """(..., 16) -> (..., 16), with reverse(x y) = reverse(y) reverse(x)."""
  x = jnp.asarray(x)
  return x * jnp.asarray(REVERSE_SIGNS, x.dtype)


def grade_projection(x: ArrayLike, grade: int) -> jax.Array:
  """The part of one grade, (..., 16) -> (..., 16), zero elsewhere.

  Raises: ValueError if grade is not 0..4.
  """
  if grade not in range(5):
    raise ValueError(f"grade is {grade}, expected 0 (scalar) to 4 (pseudoscalar)")
  x = jnp.asarray(x)
  return jnp.where(jnp.asarray(grade == GRADES), x, 0)


def _check_components(name: str, x: jax.Array, size: int) -> None:
  if x.ndim == 0 or x.shape[-1] != size:
    raise ValueError(f"{name} has shape {x.shape}, expected (..., {size})")


def embed_vector(p4: ArrayLike) -> jax.Array:
  """Four-vectors (E, px, py, pz) as multivectors of grade 1, (..., 4) -> (..., 16)."""
  p4 = jnp.asarray(p4)
  _check_components("p4", p4, 4)
  where = GRADE_SLICES[1]
  padding = [(0, 0)] * (p4.ndim - 1) + [(where.start, NUM_COMPONENTS - where.stop)]
  return jnp.pad(p4, padding)


def extract_vector(x: ArrayLike) -> jax.Array:
  """The four-vector in a multivector, (..., 16) -> (..., 4)."""
  x = jnp.asarray(x)
  _check_components("x", x, NUM_COMPONENTS)
  return x[..., GRADE_SLICES[1]]


def embed_scalar(scalar: ArrayLike) -> jax.Array:
  """Scalars as multivectors of grade 0, (...) -> (..., 16)."""
  scalar = jnp.asarray(scalar)
  return jnp.pad(scalar[..., None], [(0, 0)] * scalar.ndim + [(0, NUM_COMPONENTS - 1)])


def extract_scalar(x: ArrayLike) -> jax.Array:
  """The scalar component, (..., 16) -> (...)."""
  x = jnp.asarray(x)
  _check_components("x", x, NUM_COMPONENTS)
  return x[..., 0]


def extract_pseudoscalar(x: ArrayLike) -> jax.Array:
  """The component of e0123, (..., 16) -> (...)."""
  x = jnp.asarray(x)
  _check_components("x", x, NUM_COMPONENTS)
  return x[..., NUM_COMPONENTS - 1]


def equivariant_maps(pseudoscalar: bool) -> np.ndarray:
  """A basis of the linear maps of multivectors that commute with the Lorentz group.

  Map g = 0..4 projects on grade g: these five commute with the full group. With `pseudoscalar`,
  map 5 + g is the projection on grade g followed by multiplication by e0123 from the right: the
  ten commute with the connected group only. From the left, odd grades change sign.

  Shapes: (5 | 10, 16, 16) float64; map k acts as y_a = sum_b maps[k, a, b] x_b.
  Source: arXiv:2405.14806, section 3.
  """
  projections = np.stack([np.diag(np.equal(GRADES, grade).astype(float)) for grade in range(5)])
  if not pseudoscalar:
    return projections
  times_pseudoscalar = GEOMETRIC_PRODUCT[:, -1, :].T
  return np.concatenate([projections, times_pseudoscalar @ projections])
