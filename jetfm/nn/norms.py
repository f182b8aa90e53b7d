"""Normalisation over the width of each token."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerNorm(nn.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias, statistics over the last axis.

  Statistics are float32 at least; the result has `dtype`, or that of x.
  Shapes: (..., D) -> (..., D).
  """

  epsilon: float = 1e-5
  use_bias: bool = True
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dtype = self.dtype or x.dtype
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - x.mean(axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * scale
    if self.use_bias:
      x = x + self.param("bias", nn.initializers.zeros, x.shape[-1:])
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
