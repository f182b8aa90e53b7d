"""Backward kernels of token layers: gradients of tokens, and what those of weights are made of.

What the forward pass made is made again. The gradient of the hidden layer's norm needs two means
over the whole layer, and both follow from numbers of width D. With e the gradient of the block's
last product norm(h) W_2 = y, and d = e W_2^T that of norm(h),

    mean(d) = e . (1 W_2) / F,    mean(d norm(h)) = e . y / F,

so that one walk over the hidden layer is enough. Gradients of matrices are products over all
tokens, which XLA does well; those of vectors are summed over a tile here.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jetfm.kernels.activations import Arithmetic
from jetfm.kernels.pallas import accumulator, dot, padded, result, tiles, triton_call, whole
from jetfm.kernels.token_layers.gradient import (
  LinearGradient,
  LinearOptions,
  ResidualGradient,
  ResidualOptions,
  Tokens,
)
from jetfm.kernels.token_layers.rows import (
  arithmetic_of,
  columns_of,
  consecutive,
  load,
  load_vector,
  normalised,
  normalised_gradient,
  of_event,
  of_tile,
  store,
  store_vector,
)
from jetfm.kernels.token_layers.triton_forward import (
  Tiling,
  attended,
  cast,
  dropout_of,
  ended,
  fitted,
  hidden_part,
  residual_specs,
)
from jetfm.kernels.token_layers.weights import ResidualWeights


def linear(x, kernel, d_parts, *, options: LinearOptions) -> LinearGradient:
  """See `linear_of`."""
  (events, n, depth), dtype = x.shape, options.dtype
  tile = fitted(Tiling(64, size=16384, warps=8, stages=2), x)
  arrays = (x, kernel.astype(dtype), tuple(d_parts))
  made = LinearGradient(
    result(x.shape, x.dtype, arrays),
    result((events, tiles(n, tile.tokens), kernel.shape[1]), accumulator(dtype), arrays),
    result(x.shape, dtype, arrays),
  )
  columns = columns_of(tile.size, depth, d_parts[0].shape[2], dtype)
  return LinearGradient(
    *triton_call(
      functools.partial(_linear_kernel, size=tile.tokens, columns=columns),
      name="token_linear_backward",
      grid=(tiles(n, tile.tokens), events),
      in_specs=(of_event(x), whole(kernel), tuple(map(of_event, d_parts))),
      out_specs=(of_event(made.x), of_tile(made.bias), of_event(made.unit)),
      out_shape=tuple(made),
      warps=tile.warps,
      stages=tile.stages,
      interpret=options.interpret,
    )(*arrays)
  )


def _linear_kernel(
  x_ref, kernel_ref, d_part_refs, d_x_ref, d_bias_ref, unit_ref, *, size: int, columns: int
):
  (n, depth), width = x_ref.shape, d_part_refs[0].shape[1]
  token, deep = consecutive(pl.program_id(0), size), consecutive(0, padded(depth))
  precise = accumulator(kernel_ref.dtype)
  d_unit = jnp.zeros((size, padded(depth)), precise)
  for part, d_part_ref in enumerate(d_part_refs):

    def visit(number, d_unit, part=part, d_part_ref=d_part_ref):
      column = consecutive(number, columns)
      of_part, end = part * width + column, (part + 1) * width
      d = load(d_part_ref, token, column, n, width).astype(kernel_ref.dtype)
      d_bias = d.astype(precise).sum(axis=0)
      # Beyond the part's end is the next part, of which it knows nothing.
      store_vector(d_bias_ref, jnp.where(column < width, of_part, d_bias_ref.shape[0]), d_bias)
      of_kernel = load(kernel_ref, deep, of_part, depth, end)
      return d_unit + dot(d, of_kernel, contract=(1, 1))

    d_unit = lax.fori_loop(jnp.int32(0), jnp.int32(tiles(width, columns)), visit, d_unit)
  x = load(x_ref, token, deep, n, depth).astype(accumulator(x_ref.dtype))
  unit, inverse = normalised(x, deep < depth, depth)
  store(unit_ref, token, deep, unit)
  store(d_x_ref, token, deep, normalised_gradient(d_unit, unit, inverse, deep < depth, depth))


def residual(
  tokens: Tokens, gradient, weights, words, *, options: ResidualOptions
) -> ResidualGradient:
  """See `residual_of`."""
  x, width = tokens.x, weights.mlp_in.shape[1]
  events, n, depth = x.shape
  tile = fitted(Tiling(64, size=8192, warps=8, stages=1), x)
  given = (tokens, cast(weights, x.dtype), words)
  arrays = (*given, gradient)
  of_token, of_hidden = (result((events, n, k), x.dtype, arrays) for k in (depth, width))
  vectors = ResidualWeights(
    *(
      result((events, tiles(n, tile.tokens), w.size), accumulator(x.dtype), arrays) for w in weights
    )
  )
  call = functools.partial(
    triton_call,
    grid=(tiles(n, tile.tokens), events),
    in_specs=(*residual_specs(*given), of_event(gradient)),
    warps=tile.warps,
    stages=tile.stages,
    interpret=options.interpret,
  )
  of_mlp = MlpGradient(
    x=of_token,
    unit=of_token,
    hidden=of_hidden,
    unit_hidden=of_hidden,
    end=of_token,
    residual_scale=vectors.residual_scale,
    mlp_in_bias=vectors.mlp_in_bias,
    mlp_out_bias=vectors.mlp_out_bias,
  )
  mlp = call(
    functools.partial(
      _mlp_kernel,
      tile=tile,
      options=options,
      arithmetic=arithmetic_of(x.dtype, options.interpret),
    ),
    name="token_mlp_backward",
    out_specs=_specs(of_mlp),
    out_shape=of_mlp,
  )(*arrays)
  of_out = OutGradient(
    mixed=of_token,
    out=of_token,
    out_bias=vectors.out_bias,
    norm_scale=vectors.norm_scale,
    norm_shift=vectors.norm_shift,
  )
  out = call(
    functools.partial(_out_kernel, size=tile.tokens, options=options),
    name="token_out_backward",
    out_specs=_specs(of_out),
    out_shape=of_out,
  )(*given, mlp.x)
  parts = mlp._asdict() | out._asdict()
  sums = {name: parts[name] if name in VECTORS else None for name in ResidualWeights._fields}
  of_tokens = {name: parts[name] for name in ResidualGradient._fields if name != "vectors"}
  return ResidualGradient(**of_tokens, vectors=ResidualWeights(**sums))


class MlpGradient(NamedTuple):
  """What the kernel of a block's second line makes (see `residual_mlp`): part of a
  `ResidualGradient`, x here the gradient of what the first line makes.
  """

  x: Any
  unit: Any
  hidden: Any
  unit_hidden: Any
  end: Any
  residual_scale: Any
  mlp_in_bias: Any
  mlp_out_bias: Any


class OutGradient(NamedTuple):
  """The same of the first line, given that."""

  mixed: Any
  out: Any
  out_bias: Any
  norm_scale: Any
  norm_shift: Any


VECTORS = ("out_bias", "norm_scale", "norm_shift", "mlp_in_bias", "mlp_out_bias", "residual_scale")


def _specs(made: Any) -> Any:
  """Blocks of a kernel's results: of vectors there are sums over a tile."""
  blocks = (of_tile(x) if name in VECTORS else of_event(x) for name, x in made._asdict().items())
  return type(made)(*blocks)


def _mlp_kernel(
  tokens, weights, words, gradient_ref, *made_refs,
  tile: Tiling, options: ResidualOptions, arithmetic: Arithmetic,
):  # fmt: skip
  made, w = MlpGradient(*made_refs), weights.given
  (n, depth), width, dtype = tokens.x.shape, w.mlp_in.shape[1], w.mlp_in.dtype
  token, deep = consecutive(pl.program_id(0), tile.tokens), consecutive(0, padded(depth))
  inside = deep < depth
  columns = columns_of(tile.size, depth, width, dtype)
  drop = dropout_of(tokens, words, token, options.rate)

  x = attended(tokens, weights, token, drop).x
  gradient = load(gradient_ref, token, deep, n, depth).astype(x.dtype)
  store_vector(made.residual_scale, deep, (gradient * x).sum(axis=0))
  unit, inverse_x = normalised(x, inside, depth)
  unit = unit.astype(dtype)
  store(made.unit, token, deep, unit)
  y, mean, inverse = ended(unit, weights, drop, arithmetic, columns)
  end = drop(gradient, 2, deep, depth)
  store_vector(made.mlp_out_bias, deep, end.sum(axis=0))
  sums = load_vector(weights.mlp_out_sums, deep, depth)
  mean_d = (end * sums).sum(axis=1, keepdims=True) / width
  along = (end * y).sum(axis=1, keepdims=True) / width
  end = end.astype(dtype)
  store(made.end, token, deep, end)

  def visit(number, d_unit):
    column = consecutive(number, columns)
    value, slope = hidden_part(unit, weights, column, drop, arithmetic)
    unit_hidden = (value - mean) * inverse
    store(made.unit_hidden, token, column, unit_hidden)
    d = dot(end, load(w.mlp_out, column, deep, width, depth), contract=(1, 1))
    d = drop(inverse * (d - mean_d - unit_hidden * along), 1, column, width) * slope
    store_vector(made.mlp_in_bias, column, d.sum(axis=0))
    d = d.astype(dtype)
    store(made.hidden, token, column, d)
    return d_unit + dot(d, load(w.mlp_in, deep, column, depth, width), contract=(1, 1))

  d_unit = lax.fori_loop(jnp.int32(0), jnp.int32(tiles(width, columns)), visit, jnp.zeros_like(x))
  gradient = load(gradient_ref, token, deep, n, depth).astype(x.dtype)
  d_x = normalised_gradient(d_unit, unit.astype(x.dtype), inverse_x, inside, depth)
  store(made.x, token, deep, d_x + gradient * load_vector(w.residual_scale, deep, depth))


def _out_kernel(tokens, weights, words, d_x_ref, *made_refs, size: int, options: ResidualOptions):
  made, w = OutGradient(*made_refs), weights.given
  n, depth = tokens.x.shape
  token, deep = consecutive(pl.program_id(0), size), consecutive(0, padded(depth))
  inside = deep < depth
  unit, inverse, _ = attended(tokens, weights, token, lambda y, *_: y)
  d_y = load(d_x_ref, token, deep, n, depth).astype(unit.dtype)
  d_y = dropout_of(tokens, words, token, options.rate)(d_y, 0, deep, depth)
  store_vector(made.norm_shift, deep, d_y.sum(axis=0))
  store_vector(made.norm_scale, deep, (d_y * unit).sum(axis=0))
  d_y = d_y * load_vector(w.norm_scale, deep, depth)
  d_y = normalised_gradient(d_y, unit, inverse, inside, depth)
  store_vector(made.out_bias, deep, d_y.sum(axis=0))
  d_y = d_y.astype(w.out.dtype)
  store(made.out, token, deep, d_y)
  d_mixed = dot(d_y, load(w.out, deep, deep, depth, depth), contract=(1, 1))
  store(made.mixed, token, deep, d_mixed)
