"""The layers of single tokens in plain JAX: the contract of every other implementation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jetfm.kernels.activations import activate
from jetfm.kernels.dropout import dropped
from jetfm.kernels.pallas import accumulator

EPSILON = 1e-5


def linear(x, kernel, bias, *, parts: int, gelu: bool, dtype: Any) -> tuple[jax.Array, ...]:
  """See `jetfm.kernels.token_layers.api.normalised_linear`."""
  y = _product(_normalised(x.astype(accumulator(x.dtype))), kernel, dtype) + bias
  return tuple(jnp.split((activate(y, "gelu") if gelu else y).astype(dtype), parts, axis=-1))


def residual(x, mixed, weights, words, *, rate: float) -> jax.Array:
  """See `jetfm.kernels.token_layers.api.residual_mlp`."""
  w, dtype = weights, x.dtype

  def drop(y: jax.Array, which: int) -> jax.Array:
    return dropped(y, rate, None if words is None else words[which])

  y = _product(mixed, w.out, dtype) + w.out_bias
  x = x.astype(accumulator(dtype)) + drop(_normalised(y) * w.norm_scale + w.norm_shift, 0)
  hidden = _product(_normalised(x), w.mlp_in, dtype) + w.mlp_in_bias
  hidden = drop(activate(hidden, "gelu"), 1)
  y = _product(_normalised(hidden), w.mlp_out, dtype) + w.mlp_out_bias
  return (x * w.residual_scale + drop(y, 2)).astype(dtype)


def _normalised(x: jax.Array) -> jax.Array:
  x = x - x.mean(axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)


def _product(x: jax.Array, kernel: jax.Array, dtype: Any) -> jax.Array:
  return jnp.dot(
    x.astype(dtype),
    kernel.astype(dtype),
    precision="highest",
    preferred_element_type=accumulator(dtype),
  )
