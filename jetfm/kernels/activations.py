"""Activations of the networks inside kernels, and their slopes for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jetfm.names import nearest

ACTIVATIONS = ("gelu", "relu")


class Arithmetic(NamedTuple):
  """How a kernel computes what its machine has an instruction for."""

  tanh: Callable[[jax.Array], jax.Array] = jnp.tanh
  log: Callable[[jax.Array], jax.Array] = jnp.log
  fma: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] = lambda a, b, c: a * b + c
  """a b + c, of one shape."""


PLAIN = Arithmetic()


def check_activation(name: str) -> None:
  """Raises ValueError for an activation that does not exist."""
  if name not in ACTIVATIONS:
    near = nearest(name, ACTIVATIONS)
    raise ValueError(f"no activation '{name}'; the nearest is '{near}' of {list(ACTIVATIONS)}")


def activate(x: jax.Array, name: str) -> jax.Array:
  """GELU in its tanh form, or ReLU."""
  return jax.nn.gelu(x) if name == "gelu" else jax.nn.relu(x)


def value_and_slope(
  x: jax.Array, name: str, arithmetic: Arithmetic = PLAIN
) -> tuple[jax.Array, jax.Array]:
  """The activation and its derivative.

  GELU(x) = h (1 + t) with h = x/2 and t = tanh(x (c + c a x^2)), c = sqrt(2/pi), a = 0.044715; its
  slope is (1 + t)/2 + h (1 - t^2)(c + 3 c a x^2).
  """
  if name == "relu":
    positive = x > 0
    return jnp.where(positive, x, 0), jnp.where(positive, jnp.ones_like(x), 0)
  fma, root, cubic = arithmetic.fma, 0.7978845608028654, 0.044715

  def constant(value: float) -> jax.Array:
    return jnp.full_like(x, value)

  square, half = x * x, 0.5 * x
  t = arithmetic.tanh(x * fma(square, constant(root * cubic), constant(root)))
  value = fma(half, t, half)
  inner = half * fma(square, constant(3 * root * cubic), constant(root))
  slope = fma(fma(-t, t, constant(1.0)), inner, fma(t, constant(0.5), constant(0.5)))
  return value, slope
