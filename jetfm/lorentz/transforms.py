"""Lorentz transformations of four-vectors (4 x 4) and of multivectors (16 x 16), and the jet frame.

Transformations are active: boost(y, z) gives a particle at rest rapidity y along z. A 4 x 4 matrix
acts on columns, p' = L p. It acts on multivectors by outermorphism, A(u ^ v) = L u ^ L v, whose
matrix holds the minors of L; for reflections this is the twisted sandwich product.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jetfm.lorentz.algebra import BLADES, GRADE_SLICES, METRIC, NUM_COMPONENTS, OUTER_PRODUCT
from jetfm.lorentz.kinematics import eta_sign

_HIGHEST = "highest"  # the default precision of float32 products on a GPU is 10 bits


def _unit(direction: ArrayLike) -> jax.Array:
  direction = jnp.asarray(direction)
  direction = direction.astype(jnp.result_type(direction, float))
  if direction.ndim != 1 or direction.shape[0] != 3:
    raise ValueError(f"a direction has shape {direction.shape}, expected (3,)")
  return direction / jnp.linalg.norm(direction)


def boost(rapidity: ArrayLike, direction: ArrayLike) -> jax.Array:
  """Boost by a rapidity along a direction (3,) of any non-zero length -> (4, 4)."""
  n = _unit(direction)
  ch, sh = jnp.cosh(rapidity), jnp.sinh(rapidity)
  space = jnp.eye(3, dtype=n.dtype) + (ch - 1) * jnp.outer(n, n)
  return jnp.block([[ch.reshape(1, 1), sh * n[None, :]], [sh * n[:, None], space]])


def rotation(axis: ArrayLike, angle: ArrayLike) -> jax.Array:
  """Right-handed rotation by an angle in radians about an axis (3,) -> (4, 4)."""
  n = _unit(axis)
  cross = jnp.cross(n[None, :], jnp.eye(3, dtype=n.dtype)).T  # cross @ v = n x v
  space = (
    jnp.eye(3, dtype=n.dtype)
    + jnp.sin(angle) * cross
    + (1 - jnp.cos(angle)) * jnp.matmul(cross, cross, precision=_HIGHEST)
  )
  return jnp.eye(4, dtype=n.dtype).at[1:, 1:].set(space)


def parity() -> jax.Array:
  """Reflection of all three space axes, (4, 4)."""
  return jnp.diag(jnp.asarray([1.0, -1.0, -1.0, -1.0]))


def time_reversal() -> jax.Array:
  """Reflection of the time axis, (4, 4)."""
  return jnp.diag(jnp.asarray([-1.0, 1.0, 1.0, 1.0]))


def mirror(direction: ArrayLike) -> jax.Array:
  """Reflection of one space direction (3,), such as z: pz -> -pz -> (4, 4)."""
  n = _unit(direction)
  return jnp.eye(4, dtype=n.dtype).at[1:, 1:].add(-2 * jnp.outer(n, n))


def random_lorentz(key: jax.Array, max_rapidity: float, reflections: bool = False) -> jax.Array:
  """A random rotation after a random boost, of rapidity uniform in [0, max_rapidity] -> (4, 4).

  With `reflections`, parity and time reversal are applied with probability 1/2 each, so that all
  four components of the Lorentz group occur; without, only the connected one.
  """
  keys = jax.random.split(key, 6)
  matrix = jnp.matmul(
    rotation(jax.random.normal(keys[0], (3,)), jax.random.uniform(keys[1], maxval=2 * np.pi)),
    boost(jax.random.uniform(keys[2], maxval=max_rapidity), jax.random.normal(keys[3], (3,))),
    precision=_HIGHEST,
  )
  if reflections:
    time, space = jax.random.bernoulli(keys[4]), jax.random.bernoulli(keys[5])
    flips = jnp.where(jnp.asarray([time, space, space, space]), -1, 1)
    matrix = flips[:, None] * matrix
  return matrix


def inverse_lorentz(matrix: ArrayLike) -> jax.Array:
  """Inverse of Lorentz transformations by the metric, g L^T g, (..., 4, 4) -> (..., 4, 4)."""
  matrix = jnp.asarray(matrix)
  metric = jnp.asarray(METRIC, matrix.dtype)
  return metric[:, None] * jnp.swapaxes(matrix, -1, -2) * metric


def multivector_matrix(matrix: ArrayLike) -> jax.Array:
  """The action on multivectors of transformations of vectors, (..., 4, 4) -> (..., 16, 16).

  Column J is the image of blade J, the outer product of the images of its vectors: entry (I, J) of
  equal grade is the minor of rows I and columns J.
  """
  matrix = jnp.asarray(matrix)
  outer = jnp.asarray(OUTER_PRODUCT[:, GRADE_SLICES[1], :], matrix.dtype)
  one = jnp.zeros((*matrix.shape[:-2], NUM_COMPONENTS), matrix.dtype).at[..., 0].set(1)
  images: dict[tuple[int, ...], jax.Array] = {(): one}
  for blade in BLADES[1:]:
    images[blade] = jnp.einsum(
      "...i,...j,ijk->...k",
      images[blade[:-1]],
      matrix[..., :, blade[-1]],
      outer,
      precision=_HIGHEST,
    )
  return jnp.stack([images[blade] for blade in BLADES], axis=-1)


def transform_vectors(matrix: ArrayLike, p4: ArrayLike) -> jax.Array:
  """p' = L p: matrix (..., 4, 4), p4 (..., N, 4) -> (..., N, 4); (4, 4) serves any p4 (..., 4)."""
  return _apply(matrix, p4, 4)


def transform_multivectors(matrix: ArrayLike, x: ArrayLike) -> jax.Array:
  """The transformation `matrix` of vectors acting on multivectors.

  Shapes: matrix (..., 4, 4), x (..., C, 16) -> (..., C, 16); one (4, 4) serves any x (..., 16).
  """
  return _apply(multivector_matrix(matrix), x, NUM_COMPONENTS)


def _apply(matrix: ArrayLike, x: ArrayLike, size: int) -> jax.Array:
  matrix, x = jnp.asarray(matrix), jnp.asarray(x)
  if x.ndim == 0 or x.shape[-1] != size or matrix.shape[-2:] != (size, size):
    raise ValueError(
      f"cannot apply a transformation {matrix.shape} to {x.shape}: expected (..., 4, 4) and "
      f"components on a last axis of {size}"
    )
  if matrix.ndim > 2:
    matrix = matrix[..., None, :, :]
  return jnp.einsum("...ij,...j->...i", matrix, x, precision=_HIGHEST)


def to_jet_frame(
  p4: ArrayLike, mask: ArrayLike, *, jet: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
  """Bring jets into the frame where their axis is at phi = 0 and rapidity 0.

  Rotation of the jet to phi = 0, boost along the beam to y = 0, then pz -> sign(jet eta) pz, the
  reflection of deta in JetClass: one Lorentz transformation, so that energies change and masses
  stay. The boost multiplies E + pz and divides E - pz by one number, without the cancellations of
  E cosh y - pz sinh y.

  Shapes: p4 (..., N, 4) in GeV, mask (..., N) -> p4 (..., N, 4), matrix (..., 4, 4), which maps
  the input to the output and serves for reference vectors and, by `inverse_lorentz`, for the way
  back. Padded slots become exactly 0. `jet` (..., 4) replaces the sum of the particles as the jet.
  A jet without particles has the identity as its frame.
  """
  p4 = jnp.where(jnp.asarray(mask)[..., None], jnp.asarray(p4), 0)
  energy, px, py, pz = jnp.moveaxis(p4, -1, 0)
  plus, minus = energy + pz, energy - pz
  if jet is None:
    jet = p4.sum(axis=-2)
    jet_plus, jet_minus = plus.sum(axis=-1), minus.sum(axis=-1)
  else:
    jet = jnp.asarray(jet, p4.dtype)
    jet_plus, jet_minus = jet[..., 0] + jet[..., 3], jet[..., 0] - jet[..., 3]

  physical = (jet_plus > 0) & (jet_minus > 0)
  scale = jnp.sqrt(jnp.where(physical, jet_plus, 1) / jnp.where(physical, jet_minus, 1))  # e^y
  pt2 = jet[..., 1] ** 2 + jet[..., 2] ** 2
  transverse = pt2 > 0
  pt = jnp.sqrt(jnp.where(transverse, pt2, 1))
  cos = jnp.where(transverse, jet[..., 1] / pt, 1)
  sin = jnp.where(transverse, jet[..., 2] / pt, 0)
  sign = eta_sign(jet)

  def per_particle(x):
    return x[..., None]

  plus, minus = plus / per_particle(scale), minus * per_particle(scale)
  moved = jnp.stack(
    [
      0.5 * (plus + minus),
      per_particle(cos) * px + per_particle(sin) * py,
      per_particle(cos) * py - per_particle(sin) * px,
      per_particle(sign) * 0.5 * (plus - minus),
    ],
    axis=-1,
  )
  ch, sh, zero = 0.5 * (scale + 1 / scale), 0.5 * (scale - 1 / scale), jnp.zeros_like(scale)
  rows = [
    [ch, zero, zero, -sh],
    [zero, cos, sin, zero],
    [zero, -sin, cos, zero],
    [-sign * sh, zero, zero, sign * ch],
  ]
  matrix = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
  return moved, matrix
