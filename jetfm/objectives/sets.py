"""Distances of sets of particles, per event, for generation and super-resolution.

Particle coordinates are standardised (pT, eta, phi, E) with phi in radians, as in
`jetfm.objectives.conservation`. Slots outside a mask may hold anything, NaN included, and an empty
set is at distance 0 from everything: a caller counts the events that have particles.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.objectives.averages import at_least_float32, ratio


def particle_distance(a: ArrayLike, b: ArrayLike, phi_scale: float = 1.0) -> jax.Array:
  """Squared distances of all pairs, a (..., N, 4) and b (..., M, 4) -> (..., N, M).

      (pT - pT')^2 + (eta - eta')^2 + s^2 4 sin^2((phi - phi')/2) + (E - E')^2,   s = phi_scale

  The third term is periodic and equal to (s (phi - phi'))^2 for small angles.
  """
  difference = at_least_float32(a)[..., :, None, :] - jnp.asarray(b)[..., None, :, :]
  pt, eta, phi, energy = jnp.moveaxis(difference, -1, 0)
  return pt**2 + eta**2 + (2 * phi_scale * jnp.sin(phi / 2)) ** 2 + energy**2


def chamfer_distance(
  a: ArrayLike, b: ArrayLike, a_mask: ArrayLike, b_mask: ArrayLike, phi_scale: float = 1.0
) -> jax.Array:
  """Mean squared distance of each a to its nearest b, plus of each b to its nearest a.

  Shapes: a (..., N, 4), a_mask (..., N), b (..., M, 4), b_mask (..., M) -> (...); distances are
  those of `particle_distance`; 0 if a set is empty.
  """
  a_mask, b_mask = jnp.asarray(a_mask), jnp.asarray(b_mask)
  # Zeroed before the squares: a gradient of 0 times NaN is NaN.
  a = jnp.where(a_mask[..., None], jnp.asarray(a), 0)
  b = jnp.where(b_mask[..., None], jnp.asarray(b), 0)
  pairs = a_mask[..., :, None] & b_mask[..., None, :]
  distance = jnp.where(pairs, particle_distance(a, b, phi_scale), jnp.inf)

  def one_way(nearest, mask):
    total = jnp.where(mask & jnp.isfinite(nearest), nearest, 0).sum(axis=-1)
    return ratio(total, mask.sum(axis=-1).astype(nearest.dtype))

  return one_way(distance.min(axis=-1), a_mask) + one_way(distance.min(axis=-2), b_mask)


def wasserstein_1d(a: ArrayLike, b: ArrayLike, a_mask: ArrayLike, b_mask: ArrayLike) -> jax.Array:
  """Earth mover's distance of two sets of numbers, each of total weight one.

      integral |F_a(x) - F_b(x)| dx,   F the cumulative distributions

  Shapes: a and a_mask (..., N), b and b_mask (..., M) -> (...), in the unit of a and b; 0 if a set
  is empty.
  """
  a_mask, b_mask = jnp.asarray(a_mask), jnp.asarray(b_mask)
  mask = jnp.concatenate([a_mask, b_mask], axis=-1)
  values = jnp.concatenate([at_least_float32(a), at_least_float32(b)], axis=-1)
  values = jnp.where(mask, values, 0)
  a_count = a_mask.sum(axis=-1, keepdims=True)
  b_count = b_mask.sum(axis=-1, keepdims=True)
  mass = jnp.concatenate(
    [ratio(a_mask.astype(values.dtype), a_count), ratio(-b_mask.astype(values.dtype), b_count)],
    axis=-1,
  )
  # A slot outside the masks sits at 0 with mass 0 and changes no integral.
  order = jnp.argsort(values, axis=-1)
  values = jnp.take_along_axis(values, order, axis=-1)
  difference = jnp.cumsum(jnp.take_along_axis(mass, order, axis=-1), axis=-1)
  distance = (jnp.abs(difference[..., :-1]) * jnp.diff(values, axis=-1)).sum(axis=-1)
  return jnp.where((a_count[..., 0] > 0) & (b_count[..., 0] > 0), distance, 0)


def existence_cross_entropy(logits: ArrayLike, exists: ArrayLike) -> jax.Array:
  """Binary cross entropy in nats of "this slot holds a particle", (...) and (...) -> (...)."""
  logits = at_least_float32(logits)
  return jax.nn.softplus(logits) - logits * jnp.asarray(exists).astype(logits.dtype)
