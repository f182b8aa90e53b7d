"""The layers of single tokens on NVIDIA GPUs: a program keeps its tokens in registers throughout.

The hidden layer is made and used a part at a time. Its norm needs the whole, so it is applied to
the product instead: norm(h) W = (h W - mean(h) 1 W) / sqrt(var(h) + epsilon).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.activations import PLAIN, Arithmetic, value_and_slope
from jetfm.kernels.pallas import (
  SMALLEST_DOT,
  accumulator,
  dot,
  elements,
  padded,
  result,
  tiles,
  triton_call,
  whole,
)
from jetfm.kernels.token_layers.reference import EPSILON

TOKENS = SMALLEST_DOT
"""Of a program: few, so that the tokens of one event are shared by several multiprocessors."""
LINEAR_BYTES, RESIDUAL_BYTES = 16384, 32768
"""Of a matrix, that a program multiplies with at a time. `linear` has more programs with fewer;
`residual` loads two matrices three steps ahead, which fills the shared memory of an H100."""


def linear(x, kernel, bias, *, parts: int, gelu: bool, dtype: Any, interpret: bool = False):
  """See `jetfm.kernels.token_layers.api.normalised_linear`."""
  rows = x.reshape(-1, x.shape[-1])
  width = kernel.shape[1] // parts
  columns = _columns(LINEAR_BYTES, x.shape[-1], width, dtype)
  arrays = (rows, kernel.astype(dtype), bias.astype(accumulator(dtype)))
  made = result((len(rows), width), dtype, arrays)
  results = triton_call(
    functools.partial(
      _linear_kernel, columns=columns, gelu=gelu, arithmetic=_arithmetic(dtype, interpret)
    ),
    name="token_linear",
    grid=(tiles(len(rows), TOKENS), tiles(width, columns)),
    in_specs=tuple(map(whole, arrays)),
    out_specs=(whole(made),) * parts,
    out_shape=(made,) * parts,
    warps=4,
    interpret=interpret,
  )(*arrays)
  return (y.reshape(*x.shape[:-1], width) for y in results)


def _linear_kernel(
  x_ref, kernel_ref, bias_ref, *out_refs, columns: int, gelu: bool, arithmetic: Arithmetic
):
  (tokens, depth), width = x_ref.shape, out_refs[0].shape[1]
  token = _range(pl.program_id(0), TOKENS)
  deep = _range(0, padded(depth))
  column = _range(pl.program_id(1), columns)
  x = _load(x_ref, token, deep, tokens, depth).astype(accumulator(x_ref.dtype))
  unit = _normalised(x, deep < depth, depth).astype(kernel_ref.dtype)
  for part, out_ref in enumerate(out_refs):
    of_part, end = part * width + column, (part + 1) * width
    bias = triton.load(bias_ref.at[of_part], mask=of_part < end, other=0.0)
    y = dot(unit, _load(kernel_ref, deep, of_part, depth, end)) + bias[None, :]
    if gelu:
      y = value_and_slope(y, "gelu", arithmetic)[0]
    _store(out_ref, token, column, y)


def residual(x, mixed, weights, *, interpret: bool = False) -> jax.Array:
  """See `jetfm.kernels.token_layers.api.residual_mlp`."""
  precise = accumulator(x.dtype)
  rows, mixed = (y.reshape(-1, x.shape[-1]) for y in (x, mixed))
  mlp_out = weights.mlp_out.astype(x.dtype)
  weights = type(weights)(
    *(w.astype(x.dtype if w.ndim == 2 else precise) for w in weights[:-3]),
    mlp_out,
    *(w.astype(precise) for w in weights[-2:]),
  )
  arrays = (rows, mixed, weights, mlp_out.astype(precise).sum(axis=0))
  (made,) = triton_call(
    functools.partial(_residual_kernel, arithmetic=_arithmetic(x.dtype, interpret)),
    name="token_residual",
    grid=(tiles(len(rows), TOKENS),),
    in_specs=jax.tree.map(whole, arrays),
    out_specs=(whole(rows),),
    out_shape=(result(rows.shape, x.dtype, arrays),),
    warps=4,
    stages=3,
    interpret=interpret,
  )(*arrays)
  return made.reshape(x.shape)


def _residual_kernel(x_ref, mixed_ref, weights, sums_ref, out_ref, *, arithmetic: Arithmetic):
  (tokens, depth), hidden = x_ref.shape, weights.mlp_in.shape[1]
  precise = accumulator(x_ref.dtype)
  token, deep = _range(pl.program_id(0), TOKENS), _range(0, padded(depth))
  inside = deep < depth

  def vector(ref):
    return triton.load(ref.at[deep], mask=inside, other=0.0)[None, :]

  mixed = _load(mixed_ref, token, deep, tokens, depth)
  y = dot(mixed, _load(weights.out, deep, deep, depth, depth)) + vector(weights.out_bias)
  y = _normalised(y, inside, depth) * vector(weights.norm_scale) + vector(weights.norm_shift)
  x = _load(x_ref, token, deep, tokens, depth).astype(precise) + y
  unit = _normalised(x, inside, depth).astype(mixed.dtype)
  columns = _columns(RESIDUAL_BYTES, depth, hidden, x_ref.dtype)

  def visit(number, sums):
    product, total, squares = sums
    column = _range(number, columns)
    h = dot(unit, _load(weights.mlp_in, deep, column, depth, hidden))
    h = h + triton.load(weights.mlp_in_bias.at[column], mask=column < hidden, other=0.0)[None, :]
    h = value_and_slope(h, "gelu", arithmetic)[0]
    product = product + dot(
      h.astype(mixed.dtype), _load(weights.mlp_out, column, deep, hidden, depth)
    )
    return product, total + h.sum(axis=1), squares + (h * h).sum(axis=1)

  zeros = jnp.zeros((TOKENS,), precise)
  product, total, squares = jax.lax.fori_loop(
    jnp.int32(0),
    jnp.int32(tiles(hidden, columns)),
    visit,
    (jnp.zeros((TOKENS, padded(depth)), precise), zeros, zeros),
  )
  mean = total / hidden
  inverse = jax.lax.rsqrt(jnp.maximum(squares / hidden - mean * mean, 0.0) + EPSILON)
  y = (product - mean[:, None] * vector(sums_ref)) * inverse[:, None]
  x = x * vector(weights.residual_scale) + y + vector(weights.mlp_out_bias)
  _store(out_ref, token, deep, x)


def _normalised(x: jax.Array, inside: jax.Array, width: int) -> jax.Array:
  """Of the columns that are `inside`; 0 in others."""
  x = jnp.where(inside[None, :], x - x.sum(axis=1, keepdims=True) / width, 0.0)
  return x * jax.lax.rsqrt((x * x).sum(axis=1, keepdims=True) / width + EPSILON)


def _columns(size: int, depth: int, width: int, dtype: Any) -> int:
  """Of a matrix (depth, width), so many that they have about `size` bytes."""
  return min(padded(width), max(SMALLEST_DOT, size // (padded(depth) * jnp.dtype(dtype).itemsize)))


def _range(number: Any, size: int) -> jax.Array:
  return jnp.int32(number * size) + jax.lax.iota(jnp.int32, size)


def _load(ref, row: jax.Array, column: jax.Array, rows: int, columns: int) -> jax.Array:
  """A tile of a matrix, 0 beyond its end."""
  mask = (row < rows)[:, None] & (column < columns)[None, :]
  return triton.load(elements(ref, row[:, None], column[None, :]), mask=mask, other=0.0)


def _store(ref, row: jax.Array, column: jax.Array, values: jax.Array) -> None:
  mask = (row < ref.shape[0])[:, None] & (column < ref.shape[1])[None, :]
  triton.store(elements(ref, row[:, None], column[None, :]), values.astype(ref.dtype), mask=mask)


def _arithmetic(dtype: Any, interpret: bool) -> Arithmetic:
  """The hardware's own tanh is good enough for half precision."""
  if interpret or jnp.dtype(dtype).itemsize > 2:
    return PLAIN
  return PLAIN._replace(tanh=triton.approx_tanh)
