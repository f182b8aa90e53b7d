"""What the Triton kernels of token layers share: tiles of one event's tokens."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.activations import PLAIN, Arithmetic
from jetfm.kernels.pallas import SMALLEST_DOT, elements, padded
from jetfm.kernels.token_layers.reference import EPSILON


def consecutive(number: Any, size: int) -> jax.Array:
  """The indices of tile `number` of an axis."""
  return jnp.int32(number * size) + jax.lax.iota(jnp.int32, size)


def load(ref, row: jax.Array, column: jax.Array, rows: int, columns: int) -> jax.Array:
  """A tile of a matrix, 0 beyond its end."""
  mask = (row < rows)[:, None] & (column < columns)[None, :]
  return triton.load(elements(ref, row[:, None], column[None, :]), mask=mask, other=0.0)


def load_vector(ref, index: jax.Array, end: int) -> jax.Array:
  """(1, columns), 0 beyond its end."""
  return triton.load(ref.at[index], mask=index < end, other=0.0)[None, :]


def store(ref, row: jax.Array, column: jax.Array, values: jax.Array) -> None:
  mask = (row < ref.shape[0])[:, None] & (column < ref.shape[1])[None, :]
  triton.store(elements(ref, row[:, None], column[None, :]), values.astype(ref.dtype), mask=mask)


def store_vector(ref, index: jax.Array, values: jax.Array) -> None:
  triton.store(ref.at[index], values.astype(ref.dtype), mask=index < ref.shape[0])


def normalised(x: jax.Array, inside: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
  """Of the columns that are `inside`, 0 in others; and the inverse deviations (rows, 1)."""
  x = jnp.where(inside[None, :], x - x.sum(axis=1, keepdims=True) / width, 0.0)
  inverse = jax.lax.rsqrt((x * x).sum(axis=1, keepdims=True) / width + EPSILON)
  return x * inverse, inverse


def normalised_gradient(
  d_unit: jax.Array, unit: jax.Array, inverse: jax.Array, inside: jax.Array, width: int
) -> jax.Array:
  """Of what was normalised, given the gradient of the result; both are 0 outside."""
  mean = d_unit.sum(axis=1, keepdims=True) / width
  along = (d_unit * unit).sum(axis=1, keepdims=True) / width
  return jnp.where(inside[None, :], inverse * (d_unit - mean - unit * along), 0.0)


def columns_of(size: int, depth: int, width: int, dtype: Any) -> int:
  """Of a matrix (depth, width), so many that they have about `size` bytes."""
  return min(padded(width), max(SMALLEST_DOT, size // (padded(depth) * jnp.dtype(dtype).itemsize)))


def arithmetic_of(dtype: Any, interpret: bool) -> Arithmetic:
  """The hardware's own tanh is good enough for half precision."""
  if interpret or jnp.dtype(dtype).itemsize > 2:
    return PLAIN
  return PLAIN._replace(tanh=triton.approx_tanh)


def of_event(x: Any) -> pl.BlockSpec:
  """The block of one event of an array (B, N, ...); the grid is (tiles, events, ...)."""
  rest = len(x.shape) - 1
  return pl.BlockSpec((None, *x.shape[1:]), lambda t, b, *_: (b, *(0,) * rest))


def of_tile(x: Any) -> pl.BlockSpec:
  """The block of one tile of an event of an array (B, tiles, K)."""
  return pl.BlockSpec((None, None, x.shape[2]), lambda t, b, *_: (b, t, 0))
