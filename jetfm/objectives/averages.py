"""Weighted averages over the events of a global batch, from per-event sums.

A loss of this library is a function of per-event sums and counts. They are added over the whole
global batch before any ratio, root or absolute value is taken, so that the number does not depend
on how events are spread over length groups, micro-batches or devices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def at_least_float32(x: ArrayLike) -> jax.Array:
  """Sums of bfloat16 numbers would lose digits: half precision becomes float32, the rest stays."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def absolute(x: ArrayLike) -> jax.Array:
  """|x| with gradient 0 at 0: what is exactly right is left alone (JAX's own is 1 there)."""
  x = jnp.asarray(x)
  return x * jnp.sign(x)


def weighted_sum(values: ArrayLike, weight: ArrayLike) -> jax.Array:
  """sum_b weight_b values_b, values (B, ...) and weight (B,) -> (...).

  Events of weight 0 are filler: whatever they hold, NaN included, adds exactly 0.
  """
  values, weight = at_least_float32(values), jnp.asarray(weight)
  weight = weight.reshape(weight.shape + (1,) * (values.ndim - 1)).astype(values.dtype)
  return (weight * jnp.where(weight != 0, values, 0)).sum(axis=0)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> jax.Array:
  """numerator / denominator, and 0 where there was nothing to average (denominator 0)."""
  denominator = jnp.asarray(denominator)
  some = denominator != 0
  return jnp.where(some, numerator / jnp.where(some, denominator, 1), 0)


def weighted_mean(total: ArrayLike, count: ArrayLike, weight: ArrayLike) -> jax.Array:
  """Mean over what events contain, such as particles.

      sum_b weight_b total_b / sum_b weight_b count_b

  Shapes: total (B, ...), count (B,) and weight (B,) -> (...). 0 where the count is 0 altogether.
  """
  return ratio(weighted_sum(total, weight), weighted_sum(count, weight))
