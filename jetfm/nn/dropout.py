"""Dropout whose masks cost almost nothing."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.kernels.dropout import dropped


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


def dropout_words(
  module: nn.Module, rate: float, deterministic: bool, keys: int | None = None
) -> jax.Array | None:
  """The key of a dropout in that module, (2,) uint32, or several; None if nothing is dropped."""
  if not 0 <= rate < 1:
    raise ValueError(f"dropout rate is {rate}, expected at least 0 and below 1")
  if deterministic or not rate:
    return None
  shape = (2,) if keys is None else (keys, 2)
  return jax.random.bits(module.make_rng("dropout"), shape, jnp.uint32)
