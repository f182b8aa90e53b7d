"""Normalisation over the width of each token."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerNorm(nn.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias, statistics over the last axis.

  With a condition c of each event, scale and bias depend on it, and start as those of a plain one:

      scale(c) = scale + W_s c + b_s,   bias(c) = bias + W_b c + b_b,   W and b zero at first

  Statistics are float32 at least; the result has `dtype`, or that of x.
  Shapes: x (..., D) -> (..., D); condition (B, C) for x (B, ..., D).
  Source: arXiv:1709.07871 (scale and shift from a condition).
  """

  epsilon: float = 1e-5
  use_bias: bool = True
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
    dtype = self.dtype or x.dtype
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    shift = None
    if condition is not None:
      zeros = nn.initializers.zeros
      linear = nn.Dense((1 + self.use_bias) * x.shape[-1], kernel_init=zeros, name="condition")
      of_event = linear(condition.astype(x.dtype))
      of_event = of_event.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)
      scale = scale + of_event[..., : x.shape[-1]]
      shift = of_event[..., x.shape[-1] :]
    x = x - x.mean(axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * scale
    if self.use_bias:
      x = x + self.param("bias", nn.initializers.zeros, x.shape[-1:])
      x = x if shift is None else x + shift
    return x.astype(dtype)


class RMSNorm(nn.Module):
  """y = x / sqrt(mean(x^2) + epsilon) * scale over the last axis; (..., D) -> (..., D)."""

  epsilon: float = 1e-6
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dtype = self.dtype or x.dtype
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * scale
    return x.astype(dtype)
