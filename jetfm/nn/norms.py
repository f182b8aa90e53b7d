"""Normalisation over the width of each token."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Normalised(NamedTuple):
  """What a norm makes, in parts: unit * scale + shift."""

  unit: jax.Array
  """(..., D), of mean 0 and variance 1."""
  scale: jax.Array
  """(D,), or (B, ..., D) where it depends on the event; the shift too."""
  shift: jax.Array

  def applied(self) -> jax.Array:
    """(..., D) in the dtype of `unit`."""
    y = self.unit.astype(jnp.promote_types(self.unit.dtype, jnp.float32)) * self.scale
    return (y + self.shift).astype(self.unit.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def normalise(x: jax.Array, epsilon: float, dtype: Any) -> jax.Array:
  """(x - mean) / sqrt(var + epsilon) over the last axis; statistics are float32 at least.

  For its gradient it keeps the result, which a product after it keeps in any case.
  """
  return _normalise(x, epsilon, dtype)[0]


def _normalise(x, epsilon, dtype):
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  x = x - x.mean(axis=-1, keepdims=True)
  inverse = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)
  return (x * inverse).astype(dtype), inverse


def _normalise_forward(x, epsilon, dtype):
  unit, inverse = _normalise(x, epsilon, dtype)
  return unit, (unit, inverse, jnp.zeros((), x.dtype))


def _normalise_backward(epsilon, dtype, saved, gradient):
  del epsilon, dtype
  unit, inverse, like = saved
  unit, gradient = unit.astype(inverse.dtype), gradient.astype(inverse.dtype)
  gradient = gradient - gradient.mean(axis=-1, keepdims=True)
  along = jnp.mean(gradient * unit, axis=-1, keepdims=True)
  return ((inverse * (gradient - unit * along)).astype(like.dtype),)


normalise.defvjp(_normalise_forward, _normalise_backward)


class LayerNorm(nn.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias, statistics over the last axis.

  With a condition c of each event, scale and bias depend on it, and start as those of a plain one:

      scale(c) = scale + W_s c + b_s,   bias(c) = bias + W_b c + b_b,   W and b zero at first

  Statistics are float32 at least; the result has `dtype`, or that of x. `in_parts` returns it as
  `Normalised`, which a `Linear` takes. `before` is applied to x first, and computed again in the
  backward pass: on GPUs a pass over the array costs more.
  Shapes: x (..., D) -> (..., D); condition (B, C) for x (B, ..., D).
  Source: arXiv:1709.07871 (scale and shift from a condition).
  """

  epsilon: float = 1e-5
  dtype: Any = None
  in_parts: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    condition: jax.Array | None = None,
    before: Callable[[jax.Array], jax.Array] | None = None,
  ) -> Any:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    shift = self.param("bias", nn.initializers.zeros, x.shape[-1:])
    if condition is not None:
      zeros = nn.initializers.zeros
      linear = nn.Dense(2 * x.shape[-1], kernel_init=zeros, name="condition")
      of_event = linear(condition.astype(jnp.promote_types(x.dtype, jnp.float32)))
      of_event = of_event.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)
      scale = scale + of_event[..., : x.shape[-1]]
      shift = shift + of_event[..., x.shape[-1] :]
    dtype = jnp.dtype(self.dtype or x.dtype)

    def unit_of(x):
      return normalise(x if before is None else before(x), self.epsilon, dtype)

    unit = (unit_of if before is None else jax.checkpoint(unit_of))(x)
    parts = Normalised(unit, scale, shift)
    return parts if self.in_parts else parts.applied()
