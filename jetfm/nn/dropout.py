"""Dropout whose masks cost almost nothing."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Dropout(nn.Module):
  """Sets elements to 0 with probability `rate` and divides the others by 1 - rate.

  Whether an element is dropped is a hash of its place and of a key from the stream 'dropout'. No
  random numbers are stored: the backward pass computes them again, as part of its other work, where
  those of `jax.random` cost many times more operations and are kept.

  Shapes: (..., D) -> (..., D).
  Raises: ValueError unless 0 <= rate < 1.
  """

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
    return dropped(x, self.rate, dropout_words(self, self.rate, deterministic))


def dropout_words(module: nn.Module, rate: float, deterministic: bool) -> jax.Array | None:
  """The key of a dropout in that module, (2,) uint32; None if nothing is dropped."""
  if not 0 <= rate < 1:
    raise ValueError(f"dropout rate is {rate}, expected at least 0 and below 1")
  if deterministic or not rate:
    return None
  return jax.random.bits(module.make_rng("dropout"), (2,), jnp.uint32)


def dropped(x: jax.Array, rate: float, words: jax.Array | None) -> jax.Array:
  """x without the elements that the key drops; x itself for None."""
  if words is None:
    return x
  keep = hashed(words, x.shape) >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
  return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def hashed(words: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """uint32 numbers of that shape, each a function of its place (modulo 2^32) and of two words.

  An integer hash whose every input bit changes every output bit with a probability near one half:
  two multiplications between three xor-shifts, one word before, the other between them. The
  multipliers are those of the search for such hashes at github.com/skeeto/hash-prospector.
  """
  place = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride % 2**32)
    stride *= shape[axis]
  x = place ^ words[0]
  x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
  x = (x ^ words[1] ^ (x >> 15)) * np.uint32(0xD35A2D97)
  return x ^ (x >> 15)
