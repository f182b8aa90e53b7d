"""The pair network with batch normalisation over all pairs, as in the published ParT, in plain XLA.

For comparison alone: what it makes of one jet depends on the others of its batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jetfm.kernels.implementations import Implementation
from jetfm.kernels.pair_bias import api
from jetfm.kernels.pair_bias.features import PAIR_KINDS, features_of
from jetfm.kernels.pair_bias.reference import hide
from jetfm.lorentz import PairMomenta, pair_momenta

EPSILON = 1e-5


def pair_bias(p4, weights, mask, hidden, kind: str, dtype, activation: str = "gelu") -> jax.Array:
  """See `jetfm.kernels.pair_bias.api.pair_bias`, with batch norms in place of its norms."""
  del mask, activation
  momenta = pair_momenta(p4, PAIR_KINDS[kind].source)
  first = PairMomenta(*(x[:, :, None] for x in momenta))
  second = PairMomenta(*(x[:, None, :] for x in momenta))
  x = _normalised(jnp.stack(jnp.broadcast_arrays(*features_of(first, second, kind)), axis=-1))
  x, last = x.astype(dtype), len(weights.kernels) - 1
  for layer, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
    x = jnp.dot(x, kernel.astype(dtype)) + bias.astype(dtype)
    if layer < last:
      x = jax.nn.gelu((_normalised(x) * weights.scales[layer]).astype(dtype))
  return hide(jnp.moveaxis(x, -1, 1), weights.hidden, hidden)


def _normalised(x: jax.Array) -> jax.Array:
  x = x.astype(jnp.float32)
  mean = x.mean(axis=(0, 1, 2))
  variance = jnp.mean(x * x, axis=(0, 1, 2)) - mean * mean
  return (x - mean) * jax.lax.rsqrt(variance + EPSILON)


@contextlib.contextmanager
def as_xla() -> Iterator[None]:
  """Inside, implementation 'xla' of the pair bias is this one."""
  before = api.IMPLEMENTATIONS["xla"]
  api.IMPLEMENTATIONS["xla"] = Implementation("benchmarks.batch_norm_bias", "pair_bias")
  try:
    yield
  finally:
    api.IMPLEMENTATIONS["xla"] = before
