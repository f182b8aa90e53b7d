"""The pair bias on TPUs: channels on sublanes, the pairs of one particle with all on lanes.

One program takes a few rows of pairs of one event, one after the other. Backward, programs run in
order and add to the same weight gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jetfm.kernels.activations import value_and_slope
from jetfm.kernels.pair_bias.features import features_of
from jetfm.kernels.pair_bias.gradient import bias_of
from jetfm.kernels.pair_bias.packing import FIELDS, pack_particles, pack_weights
from jetfm.kernels.pair_bias.reference import EPSILON
from jetfm.kernels.pallas import accumulator, dot, result, tiles, tpu_call
from jetfm.lorentz import PairMomenta

ROWS = 8
"""Particles i for each program; sizes on sublanes are multiples of this."""


class Options(NamedTuple):
  kind: str
  widths: tuple[int, ...]
  """Of the hidden layers, before padding."""
  dtype: Any
  activation: str
  interpret: bool


def pair_bias(
  p4, weights, mask, hidden, kind: str, dtype, activation: str = "gelu", interpret: bool = False
) -> jax.Array:
  """See `jetfm.kernels.pair_bias.api.pair_bias`."""
  n, heads = p4.shape[1], weights.kernels[-1].shape[1]
  widths = tuple(kernel.shape[1] for kernel in weights.kernels[:-1])
  packed = _upright(pack_weights(weights, kind, dtype, lambda size: tiles(size, ROWS) * ROWS))
  particles = pack_particles(p4, hidden, kind, dtype)
  visible = jnp.ones(p4.shape[:2], bool) if mask is None else mask
  particles = jnp.concatenate([particles, visible[:, None].astype(particles.dtype)], axis=1)
  particles = jnp.pad(particles, ((0, 0), (0, -particles.shape[1] % ROWS), (0, -n % ROWS)))
  options = Options(kind, widths, jnp.dtype(dtype), activation, interpret)
  return _bias(packed, (particles,), options)[:, :heads, :n, :n]


def _upright(weights):
  """Kernels (out, in) and columns (out, 1): a layer is W x + b for x (in, pairs)."""
  return weights._replace(
    kernels=tuple(kernel.T for kernel in weights.kernels),
    biases=tuple(bias[:, None] for bias in weights.biases),
    scales=tuple(scale[:, None] for scale in weights.scales),
    hidden=weights.hidden[:, None],
  )


def _forward(weights, particles, *, options: Options) -> jax.Array:
  events, _, n = particles.shape
  heads = weights.hidden.shape[0]
  return tpu_call(
    functools.partial(_forward_kernel, options=options),
    name="pair_bias_forward",
    grid=(events, n // ROWS),
    in_specs=(jax.tree.map(_whole, weights), *_particle_specs(particles)),
    out_specs=_rows_of(heads, n),
    out_shape=result((events, heads, n, n), options.dtype, weights, particles),
    interpret=options.interpret,
  )(weights, particles.swapaxes(1, 2), particles)


def _forward_kernel(weights, rows, columns, out_ref, *, options: Options):
  def of_row(row):
    x, hidden, _ = _features(rows, columns, row, weights.kernels[0].shape[1], options)
    for layer in range(len(options.widths)):
      x = _hidden_layer(x, weights, layer, options)[0]
    bias = dot(weights.kernels[-1][...], x) + weights.biases[-1][...]
    bias = jnp.where(hidden, weights.hidden[...], bias)
    out_ref[0, :, row, :] = bias.astype(out_ref.dtype)

  _each_row(of_row, options)


def _backward(weights, particles, d_bias, *, options: Options):
  events, _, n = particles.shape
  arrays = (weights, particles.swapaxes(1, 2), particles, d_bias)
  sums = jax.tree.map(lambda x: result(x.shape, accumulator(x.dtype), *arrays), weights)
  (sums,) = tpu_call(
    functools.partial(_backward_kernel, options=options),
    name="pair_bias_backward",
    grid=(events, n // ROWS),
    in_specs=(
      jax.tree.map(_whole, weights),
      *_particle_specs(particles),
      _rows_of(d_bias.shape[1], n),
    ),
    out_specs=(jax.tree.map(_whole, sums),),
    out_shape=(sums,),
    in_order=True,
    interpret=options.interpret,
  )(*arrays)
  return sums


def _backward_kernel(weights, rows, columns, d_bias_ref, d_weights_ref, *, options: Options):
  @pl.when((pl.program_id(0) == 0) & (pl.program_id(1) == 0))
  def _():
    for ref in jax.tree.leaves(d_weights_ref):
      ref[...] = jnp.zeros(ref.shape, ref.dtype)

  def of_row(row):
    x, hidden, visible = _features(rows, columns, row, weights.kernels[0].shape[1], options)
    d_bias = jnp.where(visible, d_bias_ref[0, :, row, :], 0)
    d_bias = d_bias.astype(accumulator(options.dtype))
    _add_gradients(d_weights_ref, weights, x, hidden, d_bias, options)

  _each_row(of_row, options)


def _each_row(of_row: Callable[[Any], None], options: Options) -> None:
  """Unrolled, as a TPU wants it; the interpreter would only compile the same eight times."""
  if options.interpret:
    jax.lax.fori_loop(0, ROWS, lambda row, _: of_row(row), None)
  else:
    for row in range(ROWS):
      of_row(row)


_bias = bias_of(_forward, _backward)


def _add_gradients(sums, weights, x, hidden, d_bias, options: Options) -> None:
  """Adds the gradients of all weights, from those of a row of biases, (heads, pairs)."""
  low, layers = options.dtype, []
  for number in range(len(options.widths)):
    out, slope, unit, inverse = _hidden_layer(x, weights, number, options)
    layers.append((x, slope, unit, inverse))
    x = out
  sums.hidden[...] += jnp.where(hidden, d_bias, 0.0).sum(axis=1, keepdims=True)
  gradient = jnp.where(hidden, 0.0, d_bias)
  sums.biases[-1][...] += gradient.sum(axis=1, keepdims=True)
  gradient = gradient.astype(low)
  sums.kernels[-1][...] += dot(gradient, x, contract=(1, 1))
  for number in reversed(range(len(layers))):
    x, slope, unit, inverse = layers[number]
    gradient = dot(weights.kernels[number + 1][...], gradient, contract=(0, 0)) * slope
    if weights.scales:
      sums.scales[number][...] += (gradient * unit).sum(axis=1, keepdims=True)
      gradient = gradient * weights.scales[number][...]
      along = (gradient * unit).sum(axis=0, keepdims=True) / options.widths[number]
      gradient = inverse * (gradient - unit * along)
    sums.biases[number][...] += gradient.sum(axis=1, keepdims=True)
    gradient = gradient.astype(low)
    sums.kernels[number][...] += dot(gradient, x, contract=(1, 1))


def _hidden_layer(x, weights, number: int, options: Options):
  """Output, slope of the activation, linear part over its root mean square, one over that.

  Without a norm the third is the linear part itself, and the last None.
  """
  linear = dot(weights.kernels[number][...], x) + weights.biases[number][...]
  if not weights.scales:
    out, slope = value_and_slope(linear, options.activation)
    return out.astype(options.dtype), slope, linear, None
  power = (linear * linear).sum(axis=0, keepdims=True) / options.widths[number]
  inverse = jax.lax.rsqrt(power + EPSILON)
  unit = linear * inverse
  out, slope = value_and_slope(unit * weights.scales[number][...], options.activation)
  return out.astype(options.dtype), slope, unit, inverse


def _features(rows, columns, row, height: int, options: Options):
  """Of a particle with all: features (height, pairs), (1, pairs) is hidden, is inside the event."""
  *one, one_hidden, one_visible = (rows[0, pl.ds(row, 1), k : k + 1] for k in range(FIELDS + 1))
  *many, many_hidden, many_visible = (columns[0, k : k + 1, :] for k in range(FIELDS + 1))
  features = features_of(PairMomenta(*one), PairMomenta(*many), options.kind)
  place = jax.lax.broadcasted_iota(jnp.int32, (height, columns.shape[2]), 0)
  x = jnp.zeros(place.shape, features[0].dtype)
  for number, feature in enumerate(features):
    x = jnp.where(place == number, feature, x)
  return x.astype(options.dtype), one_hidden + many_hidden > 0, one_visible * many_visible > 0


def _particle_specs(particles):
  """A few rows of one copy (B, N, fields), all columns of the other (B, fields, N)."""
  _, fields, n = particles.shape
  return (
    pl.BlockSpec((1, ROWS, fields), lambda b, i: (b, i, 0)),
    pl.BlockSpec((1, fields, n), lambda b, i: (b, 0, 0)),
  )


def _rows_of(heads: int, n: int) -> pl.BlockSpec:
  return pl.BlockSpec((1, heads, ROWS, n), lambda b, i: (b, 0, i, 0))


def _whole(x) -> pl.BlockSpec:
  return pl.BlockSpec(x.shape, lambda b, i: (0,) * len(x.shape))
