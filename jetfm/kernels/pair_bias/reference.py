"""The pair bias in plain JAX: what every other implementation must equal."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.kernels.activations import activate
from jetfm.kernels.pair_bias.features import PAIR_KINDS, features_of
from jetfm.lorentz import PairMomenta, pair_momenta

EPSILON = 1e-6


class Options(NamedTuple):
  """How a bias is made, hashable: the last arguments of `pair_bias`."""

  kind: str
  dtype: Any
  activation: str


def pair_bias(p4, weights, mask, hidden, kind: str, dtype, activation: str = "gelu") -> jax.Array:
  """See `jetfm.kernels.pair_bias.api.pair_bias`."""
  del mask  # padded particles are zero here, and their pairs cost nothing less
  length, symmetric = p4.shape[1], PAIR_KINDS[kind].symmetric
  i, j = np.triu_indices(length) if symmetric else np.indices((length, length)).reshape(2, -1)
  momenta = pair_momenta(p4, PAIR_KINDS[kind].source)
  first = PairMomenta(*(x[:, i] for x in momenta))
  second = PairMomenta(*(x[:, j] for x in momenta))
  features = jnp.stack(features_of(first, second, kind), axis=-1)  # (B, P, F) of P pairs
  bias = pair_mlp(features, fold_standardisation(weights, kind), dtype, activation)  # (B, P, H)
  if symmetric:
    bias = _unpack_triangle(bias, length)
  else:
    bias = bias.reshape(bias.shape[0], length, length, -1).transpose(0, 3, 1, 2)
  return hide(bias, weights.hidden, hidden)


def hide(bias, constant, hidden):
  """The learned constant (H,) where either particle is hidden; bias (B, H, N, N)."""
  if hidden is None:
    return bias
  pair = (hidden[:, :, None] | hidden[:, None, :])[:, None]
  return jnp.where(pair, jnp.asarray(constant, bias.dtype)[:, None, None], bias)


def fold_standardisation(weights, kind: str):
  """Weights that act on raw features: (f - mean)/std W + b = f (W/std) + (b - (mean/std) W)."""
  kernel = jnp.asarray(weights.kernels[0])
  mean, std = (np.asarray(x) for x in (PAIR_KINDS[kind].mean, PAIR_KINDS[kind].std))
  scaled = kernel / jnp.asarray(std, kernel.dtype)[:, None]
  shift = (jnp.asarray(mean, kernel.dtype)[:, None] * scaled).sum(axis=0)
  return weights._replace(
    kernels=(scaled, *weights.kernels[1:]),
    biases=(weights.biases[0] - shift, *weights.biases[1:]),
  )


def pair_mlp(x, weights, dtype, activation: str = "gelu"):
  """(..., F) -> (..., H): linear layers, between them RMSNorm (if there are scales), activation."""
  accumulator = jnp.promote_types(dtype, jnp.float32)
  x = x.astype(dtype)
  last = len(weights.kernels) - 1
  for layer, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
    x = jnp.dot(x, jnp.asarray(kernel, dtype), preferred_element_type=accumulator)
    x = x + jnp.asarray(bias, accumulator)
    if layer < last:
      if weights.scales:
        power = jnp.mean(x * x, axis=-1, keepdims=True)
        scale = jnp.asarray(weights.scales[layer], accumulator)
        x = x * jax.lax.rsqrt(power + EPSILON) * scale
      x = activate(x, activation)
    x = x.astype(dtype)
  return x


def _unpack_triangle(packed, length: int):
  """Upper triangle (B, P, H), P = N(N+1)/2 -> symmetric (B, H, N, N)."""
  i, j = np.triu_indices(length)
  index = np.zeros((length, length), np.int32)
  index[i, j] = index[j, i] = np.arange(i.size)

  @jax.custom_vjp
  def unpack(packed):
    return jnp.take(packed.transpose(0, 2, 1), index, axis=2)

  def forward(packed):
    return unpack(packed), None

  def backward(_, cotangent):
    # A gather like the forward pass, where XLA's own derivative would scatter.
    both = cotangent + cotangent.swapaxes(-1, -2)
    gradient = jnp.take(both.reshape(*both.shape[:2], -1), i * length + j, axis=2)
    gradient = gradient * jnp.asarray(np.where(i == j, 0.5, 1.0), both.dtype)
    return (gradient.transpose(0, 2, 1),)

  unpack.defvjp(forward, backward)
  return unpack(packed)
