"""The pair bias on a CPU: the MLP takes a few thousand pairs at a time, which stay in the cache.

The pair MLP has three hidden arrays of 64 numbers for each pair: for a whole batch they go to
memory and come back between any two operations. The backward pass recomputes a chunk's instead of
keeping them, which costs less than reading them.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from jetfm.kernels.pair_bias import reference

CHUNK = 2048
"""Pairs at a time: hidden arrays of half a megabyte in float32."""


def _mlp(features, weights, dtype) -> jax.Array:
  leading, pairs = features.shape[:-1], math.prod(features.shape[:-1])
  if pairs <= CHUNK:
    return reference.pair_mlp(features, weights, dtype)
  flat = features.reshape(pairs, -1)
  flat = jnp.pad(flat, ((0, -pairs % CHUNK), (0, 0)))
  one_chunk = jax.checkpoint(lambda x: reference.pair_mlp(x, weights, dtype))
  out = jax.lax.map(one_chunk, flat.reshape(-1, CHUNK, flat.shape[-1]))
  return out.reshape(flat.shape[0], -1)[:pairs].reshape(*leading, -1)


pair_bias = functools.partial(reference.pair_bias, mlp=_mlp)
"""See `jetfm.kernels.pair_bias.api.pair_bias`."""
