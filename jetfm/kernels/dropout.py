"""Which elements a dropout keeps: the same numbers in XLA's programs and inside kernels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def scrambled(place: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
  """A uint32 number for each place (uint32), a function of the place and of two words (uint32).

  An integer hash whose every input bit changes every output bit with a probability near one half:
  two multiplications between three xor-shifts, one word before, the other between them. The
  multipliers are those of the search for such hashes at github.com/skeeto/hash-prospector.
  """
  x = place ^ first
  x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
  x = (x ^ second ^ (x >> np.uint32(15))) * np.uint32(0xD35A2D97)
  return x ^ (x >> np.uint32(15))


def kept(place: jax.Array, first: jax.Array, second: jax.Array, rate: float) -> jax.Array:
  """True for each place with probability 1 - rate."""
  return scrambled(place, first, second) >= np.uint32(min(round(rate * 2**32), 2**32 - 1))


def places(shape: tuple[int, ...]) -> jax.Array:
  """uint32 numbers of the elements of an array in their order, modulo 2^32."""
  place = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride % 2**32)
    stride *= shape[axis]
  return place


def dropped(x: jax.Array, rate: float, words: jax.Array | None) -> jax.Array:
  """x without the elements that the words (2,) drop, others over 1 - rate; x itself for None."""
  if words is None:
    return x
  keep = kept(places(x.shape), words[0], words[1], rate)
  return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)
