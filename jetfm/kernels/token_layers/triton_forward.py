"""Forward kernels of token layers: a program keeps its tokens in registers throughout.

The hidden layer is made and used a part at a time. Its norm needs the whole, so it is applied to
the product instead: norm(h) W = (h W - mean(h) 1 W) / sqrt(var(h) + epsilon). So half precision
rounds h with its mean: where that is ten times the deviation, errors are ten times as large.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from jetfm.kernels.activations import Arithmetic, value_and_slope
from jetfm.kernels.dropout import kept
from jetfm.kernels.implementations import target_device_kind
from jetfm.kernels.pallas import (
  SMALLEST_DOT,
  accumulator,
  dot,
  padded,
  result,
  tiles,
  triton_call,
  whole,
)
from jetfm.kernels.token_layers.api import FEW_TOKENS
from jetfm.kernels.token_layers.gradient import LinearOptions, ResidualOptions, Tokens
from jetfm.kernels.token_layers.reference import EPSILON
from jetfm.kernels.token_layers.rows import (
  arithmetic_of,
  columns_of,
  consecutive,
  load,
  load_vector,
  normalised,
  of_event,
  store,
)
from jetfm.kernels.token_layers.weights import ResidualWeights


class Tiling(NamedTuple):
  """How a kernel divides its work."""

  tokens: int
  """Of a program."""
  size: int
  """Bytes of a matrix, that a program multiplies with at a time."""
  warps: int
  stages: int


def fitted(tile: Tiling, x: Any) -> Tiling:
  """The tile with no more tokens than an event of x (B, N, D) has.

  Only numbers of two bytes fit so many times into registers; products of others have no tensor
  cores either. It does not depend on the number of events: results of one shape for all of them
  are made on several devices, each of which knows its own only.
  """
  if x.dtype.itemsize > 2:
    return tile._replace(tokens=SMALLEST_DOT)
  return tile._replace(tokens=min(tile.tokens, padded(x.shape[1])))


LARGE_SHARED_MEMORY = ("A100", "H100", "H200", "H800", "H20", "GH200", "B100", "B200", "GB200")
"""Programs of these may have 160 kB or more, those of many others 99 kB."""


def for_few(tile: Tiling, few: Tiling, x: Any) -> Tiling:
  """`few` where a call has few tokens, which as many multiprocessors are to share as can."""
  return few if x.shape[0] * x.shape[1] <= FEW_TOKENS else fitted(tile, x)


def linear(x, kernel, bias, *, options: LinearOptions) -> tuple[jax.Array, ...]:
  """See `linear_of`."""
  (events, n, depth), width, dtype = x.shape, kernel.shape[1] // options.parts, options.dtype
  many = Tiling(64, size=16384, warps=4, stages=1)
  tile = for_few(many, many._replace(tokens=SMALLEST_DOT), x)
  columns = columns_of(tile.size, depth, width, dtype)
  arrays = (x, kernel.astype(dtype), bias.astype(accumulator(dtype)))
  made = (result((events, n, width), dtype, arrays),) * options.parts
  return triton_call(
    functools.partial(
      _linear_kernel,
      tokens=tile.tokens,
      columns=columns,
      gelu=options.gelu,
      arithmetic=arithmetic_of(dtype, options.interpret),
    ),
    name="token_linear",
    grid=(tiles(n, tile.tokens), events, tiles(width, columns)),
    in_specs=(of_event(x), *map(whole, arrays[1:])),
    out_specs=tuple(map(of_event, made)),
    out_shape=made,
    warps=tile.warps,
    stages=tile.stages,
    interpret=options.interpret,
  )(*arrays)


def _linear_kernel(
  x_ref, kernel_ref, bias_ref, *out_refs,
  tokens: int, columns: int, gelu: bool, arithmetic: Arithmetic,
):  # fmt: skip
  (n, depth), width = x_ref.shape, out_refs[0].shape[1]
  token, deep = consecutive(pl.program_id(0), tokens), consecutive(0, padded(depth))
  column = consecutive(pl.program_id(2), columns)
  x = load(x_ref, token, deep, n, depth).astype(accumulator(x_ref.dtype))
  unit = normalised(x, deep < depth, depth)[0].astype(kernel_ref.dtype)
  for part, out_ref in enumerate(out_refs):
    of_part, end = part * width + column, (part + 1) * width
    y = dot(unit, load(kernel_ref, deep, of_part, depth, end)) + load_vector(bias_ref, of_part, end)
    if gelu:
      y = value_and_slope(y, "gelu", arithmetic)[0]
    store(out_ref, token, column, y)


def residual(tokens: Tokens, weights, words, *, options: ResidualOptions) -> jax.Array:
  """See `residual_of`."""
  x = tokens.x
  arrays = (tokens, cast(weights, x.dtype), words)
  # Few programs load two matrices three steps ahead, which fills the shared memory of an H100.
  large = any(name in target_device_kind() for name in LARGE_SHARED_MEMORY)
  few = Tiling(SMALLEST_DOT, size=32768, warps=4, stages=3 if large else 2)
  tile = for_few(Tiling(64, size=16384, warps=8, stages=3), few, x)
  (made,) = triton_call(
    functools.partial(
      _residual_kernel,
      tile=tile,
      options=options,
      arithmetic=arithmetic_of(x.dtype, options.interpret),
    ),
    name="token_residual",
    grid=(tiles(x.shape[1], tile.tokens), x.shape[0]),
    in_specs=residual_specs(*arrays),
    out_specs=(of_event(x),),
    out_shape=(result(x.shape, x.dtype, arrays),),
    warps=tile.warps,
    stages=tile.stages,
    interpret=options.interpret,
  )(*arrays)
  return made


class CastWeights(NamedTuple):
  """Matrices in the dtype of the tokens, vectors in that of sums."""

  given: ResidualWeights
  mlp_out_sums: Any
  """(D,): of mlp_out over the hidden layer."""


def cast(weights: ResidualWeights, dtype: Any) -> CastWeights:
  """Weights as a kernel takes them."""
  precise = accumulator(dtype)
  given = ResidualWeights(*(w.astype(dtype if w.ndim == 2 else precise) for w in weights))
  return CastWeights(given, given.mlp_out.astype(precise).sum(axis=0))


def residual_specs(tokens: Tokens, weights: CastWeights, words: Any) -> Any:
  """Blocks of `(tokens, weights, words)`, one event at a time."""
  return jax.tree.map(of_event, tokens), jax.tree.map(whole, weights), jax.tree.map(whole, words)


Drop = Callable[[jax.Array, int, jax.Array, int], jax.Array]
"""drop(y, which of three, column, width): y without what is dropped."""


def dropout_of(tokens: Tokens, words: Any, token: jax.Array, rate: float) -> Drop:
  """Of the tile with these tokens."""
  if words is None:
    return lambda y, *_: y
  number = load_vector(tokens.number, token, tokens.x.shape[0]).reshape(-1, 1).astype(jnp.uint32)

  def drop(y, which, column, width):
    place = number * np.uint32(width) + column.astype(jnp.uint32)[None, :]
    keep = kept(place, words[which, 0], words[which, 1], rate)
    return jnp.where(keep, y / (1 - rate), 0.0)

  return drop


class Attended(NamedTuple):
  """What there is after attention's own part, float32 at least."""

  unit: jax.Array
  """(T, D): norm(mixed W_o + b_o), and the inverse deviations (T, 1)."""
  inverse: jax.Array
  x: jax.Array
  """(T, D)."""


def attended(tokens: Tokens, weights: CastWeights, token: jax.Array, drop: Drop) -> Attended:
  """For a tile of tokens."""
  (n, depth), w = tokens.x.shape, weights.given
  deep = consecutive(0, padded(depth))
  inside = deep < depth
  mixed = load(tokens.mixed, token, deep, n, depth)
  y = dot(mixed, load(w.out, deep, deep, depth, depth)) + load_vector(w.out_bias, deep, depth)
  unit, inverse = normalised(y, inside, depth)
  y = unit * load_vector(w.norm_scale, deep, depth) + load_vector(w.norm_shift, deep, depth)
  x = load(tokens.x, token, deep, n, depth).astype(accumulator(mixed.dtype))
  return Attended(unit, inverse, x + drop(y, 0, deep, depth))


class Hidden(NamedTuple):
  """A part of the hidden layer, of some columns."""

  value: jax.Array
  """(T, columns): GELU(y), some dropped, and GELU'(y) for all."""
  slope: jax.Array


def hidden_part(
  unit: jax.Array, weights: CastWeights, column: jax.Array, drop: Drop, arithmetic: Arithmetic
) -> Hidden:
  """Of norm(x) (T, D), in the dtype of the products."""
  w = weights.given
  depth, width = w.mlp_in.shape
  deep = consecutive(0, padded(depth))
  y = dot(unit, load(w.mlp_in, deep, column, depth, width))
  y = y + load_vector(w.mlp_in_bias, column, width)
  value, slope = value_and_slope(y, "gelu", arithmetic)
  return Hidden(drop(value, 1, column, width), slope)


class Ended(NamedTuple):
  """What the hidden layer comes to."""

  y: jax.Array
  """(T, D): norm(h) W_2."""
  mean: jax.Array
  """(T, 1) of h, and its inverse deviations."""
  inverse: jax.Array


def ended(
  unit: jax.Array, weights: CastWeights, drop: Drop, arithmetic: Arithmetic, columns: int
) -> Ended:
  """Of norm(x) (T, D), so many columns at a time."""
  w = weights.given
  width, depth = w.mlp_out.shape
  deep = consecutive(0, padded(depth))

  def visit(number, sums):
    product, total, squares = sums
    column = consecutive(number, columns)
    h = hidden_part(unit, weights, column, drop, arithmetic).value
    product = product + dot(h.astype(unit.dtype), load(w.mlp_out, column, deep, width, depth))
    return product, total + h.sum(axis=1), squares + (h * h).sum(axis=1)

  precise = accumulator(unit.dtype)
  zeros = jnp.zeros(unit.shape[:1], precise)
  product, total, squares = jax.lax.fori_loop(
    jnp.int32(0),
    jnp.int32(tiles(width, columns)),
    visit,
    (jnp.zeros(unit.shape, precise), zeros, zeros),
  )
  mean = total / width
  inverse = jax.lax.rsqrt(jnp.maximum(squares / width - mean * mean, 0.0) + EPSILON)
  mean, inverse = mean[:, None], inverse[:, None]
  y = (product - mean * load_vector(weights.mlp_out_sums, deep, depth)) * inverse
  return Ended(y, mean, inverse)


def _residual_kernel(
  tokens, weights, words, out_ref,
  *, tile: Tiling, options: ResidualOptions, arithmetic: Arithmetic,
):  # fmt: skip
  depth, width = weights.given.mlp_in.shape
  dtype = weights.given.mlp_in.dtype
  token, deep = consecutive(pl.program_id(0), tile.tokens), consecutive(0, padded(depth))
  drop = dropout_of(tokens, words, token, options.rate)
  x = attended(tokens, weights, token, drop).x
  unit = normalised(x, deep < depth, depth)[0].astype(dtype)
  columns = columns_of(tile.size, depth, width, dtype)
  y = ended(unit, weights, drop, arithmetic, columns).y
  y = drop(y + load_vector(weights.given.mlp_out_bias, deep, depth), 2, deep, depth)
  store(out_ref, token, deep, x * load_vector(weights.given.residual_scale, deep, depth) + y)
