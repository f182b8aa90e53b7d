"""The pair bias on NVIDIA GPUs: features and hidden layers of a pair never leave the registers.

A tile is a square of pairs. Forward, one program per tile and event; for symmetric features only
tiles of the upper triangle are computed, and written twice. Backward, a fixed number of programs
walks over all tiles of all events, recomputes them and sums weight gradients in registers; the
programs' sums are added afterwards: no atomics, results repeat bit by bit. Tiles beyond an event's
particles cost nothing.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.extent import particle_extent
from jetfm.kernels.pair_bias.features import PAIR_KINDS, features_of
from jetfm.kernels.pair_bias.gradient import bias_of
from jetfm.kernels.pair_bias.packing import FIELDS, gelu_and_slope, pack_particles, pack_weights
from jetfm.kernels.pair_bias.reference import EPSILON
from jetfm.kernels.pallas import (
  SMALLEST_DOT,
  accumulator,
  dot,
  padded,
  result,
  tiles,
  triton_call,
)
from jetfm.lorentz import PairMomenta

SIDE = 8
"""Particles on each side of a tile: 64 pairs."""
PROGRAMS = 264
"""Of the backward pass: two for each multiprocessor of an H100 or H200."""


class Options(NamedTuple):
  kind: str
  widths: tuple[int, ...]
  """Of the hidden layers, before padding."""
  heads: int
  dtype: Any
  interpret: bool

  @property
  def symmetric(self) -> bool:
    return PAIR_KINDS[self.kind].symmetric

  @property
  def approximate(self) -> bool:
    """Hardware's own log and tanh: good for half precision, and several times faster."""
    return not self.interpret and jnp.dtype(self.dtype).itemsize == 2


def pair_bias(p4, weights, mask, hidden, kind: str, dtype, interpret: bool = False) -> jax.Array:
  """See `jetfm.kernels.pair_bias.api.pair_bias`."""
  events, n = p4.shape[:2]
  end = jnp.full(events, n, jnp.int32) if mask is None else particle_extent(mask)
  widths = tuple(kernel.shape[1] for kernel in weights.kernels)
  options = Options(kind, widths[:-1], widths[-1], jnp.dtype(dtype), interpret)
  packed = pack_weights(weights, kind, dtype, padded)
  return _bias(packed, (pack_particles(p4, hidden, kind, dtype), end), options)


def _forward(weights, particles, end, *, options: Options) -> jax.Array:
  events, _, n = particles.shape
  first, second = _tiles_of(n, options)
  of_an_event = pl.BlockSpec((None, FIELDS, n), lambda t, b: (b, 0, 0))
  of_a_tile = pl.BlockSpec((None,), lambda t, b: (t,))
  return triton_call(
    functools.partial(_forward_kernel, options=options),
    name="pair_bias_forward",
    grid=(first.size, events),
    in_specs=(
      jax.tree.map(_whole, weights),
      of_an_event,
      pl.BlockSpec((None,), lambda t, b: (b,)),
      of_a_tile,
      of_a_tile,
    ),
    out_specs=pl.BlockSpec((None, options.heads, n, n), lambda t, b: (b, 0, 0, 0)),
    out_shape=result((events, options.heads, n, n), options.dtype, weights, particles, end),
    warps=4,
    interpret=options.interpret,
  )(weights, particles, end, first, second)


def _forward_kernel(weights, particles, end, first, second, out_ref, *, options: Options):
  pairs = _pairs(first[()], second[()], end[()])
  n = particles.shape[-1]
  head = jax.lax.broadcasted_iota(jnp.int32, (SIDE * SIDE, padded(options.heads)), 1)
  exists = ((pairs.i < n) & (pairs.j < n))[:, None] & (head < options.heads)

  def store(bias):
    bias = bias.astype(out_ref.dtype)
    triton.store(_at(out_ref, head, pairs.i[:, None], pairs.j[:, None]), bias, mask=exists)
    if options.symmetric:
      triton.store(_at(out_ref, head, pairs.j[:, None], pairs.i[:, None]), bias, mask=exists)

  def compute():
    x, hidden = _features(particles, (), pairs, options)
    for layer in range(len(options.widths)):
      x = _hidden_layer(x, _layer(weights, layer), options.widths[layer], options).out
    bias = dot(x, weights.kernels[-1][...]) + weights.biases[-1][...][None, :]
    store(jnp.where(hidden[:, None], weights.hidden[...][None, :], bias))

  def skip():
    store(jnp.zeros(head.shape, accumulator(options.dtype)))

  jax.lax.cond(pairs.some, compute, skip)


def _backward(weights, particles, end, d_bias, *, options: Options):
  events, _, n = particles.shape
  first, second = _tiles_of(n, options)
  programs = min(PROGRAMS, events * first.size)
  if options.interpret:  # one after the other in any case
    programs = min(programs, 2)
  arrays = (weights, particles, end, first, second, d_bias)
  partial_sums = jax.tree.map(
    lambda x: result((programs, *x.shape), accumulator(x.dtype), *arrays), weights
  )

  def own_part(x):
    return pl.BlockSpec((None, *x.shape[1:]), lambda g: (g,) + (0,) * (len(x.shape) - 1))

  (sums,) = triton_call(
    functools.partial(_backward_kernel, options=options, events=events, programs=programs),
    name="pair_bias_backward",
    grid=(programs,),
    in_specs=jax.tree.map(_whole, arrays),
    out_specs=(jax.tree.map(own_part, partial_sums),),
    out_shape=(partial_sums,),
    warps=4,
    interpret=options.interpret,
  )(*arrays)
  return jax.tree.map(lambda x: x.sum(axis=0), sums)


def _backward_kernel(
  weights, particles, end, first, second, d_bias_ref, d_weights_ref,
  *, options: Options, events: int, programs: int,
):  # fmt: skip
  each = first.shape[0]
  program = pl.program_id(0)
  head = jax.lax.broadcasted_iota(jnp.int32, (SIDE * SIDE, padded(options.heads)), 1)

  def visit(step, sums):
    number = program + step * programs
    event, tile = number // each, number % each
    row, column = triton.load(first.at[tile]), triton.load(second.at[tile])
    pairs = _pairs(row, column, triton.load(end.at[event]))

    def load(i, j, wanted):
      where = _at(d_bias_ref, event, head, i[:, None], j[:, None])
      counts = pairs.counts[:, None] & (head < options.heads) & wanted
      return triton.load(where, mask=counts, other=0.0).astype(accumulator(options.dtype))

    def compute(sums):
      d_bias = load(pairs.i, pairs.j, True)
      if options.symmetric:  # a tile on the diagonal holds both orders of its pairs
        d_bias = d_bias + load(pairs.j, pairs.i, row != column)
      more = _gradients(weights, particles, (event,), pairs, d_bias, options)
      return jax.tree.map(jnp.add, sums, more)

    return jax.lax.cond(pairs.some, compute, lambda sums: sums, sums)

  zeros = jax.tree.map(lambda ref: jnp.zeros(ref.shape, ref.dtype), d_weights_ref)
  mine = (jnp.int32(events * each - 1) - program) // programs + 1
  sums = jax.lax.fori_loop(jnp.int32(0), mine, visit, zeros)
  for ref, value in zip(jax.tree.leaves(d_weights_ref), jax.tree.leaves(sums), strict=True):
    ref[...] = value


_bias = bias_of(_forward, _backward)


def _gradients(weights, particles, event, pairs, d_bias, options: Options):
  """Gradients of all weights from those of the bias of a tile, (pairs, heads)."""
  low = options.dtype
  x, hidden = _features(particles, event, pairs, options)
  layers = []
  for number, width in enumerate(options.widths):
    layers.append((x, _hidden_layer(x, _layer(weights, number), width, options)))
    x = layers[-1][1].out
  d_hidden = jnp.where(hidden[:, None], d_bias, 0.0).sum(axis=0)
  d_out = jnp.where(hidden[:, None], 0.0, d_bias)
  kernels = [dot(x, d_out.astype(low), contract=(0, 0))]
  biases, scales = [d_out.sum(axis=0)], []
  gradient = dot(d_out.astype(low), weights.kernels[-1][...], contract=(1, 1))
  for number in reversed(range(len(layers))):
    x, layer = layers[number]
    unit = layer.unit.astype(gradient.dtype)
    gradient = gradient * layer.slope.astype(gradient.dtype)
    scales.append((gradient * unit).sum(axis=0))
    gradient = gradient * weights.scales[number][...][None, :]
    along = (gradient * unit).sum(axis=1) / options.widths[number]
    gradient = layer.inverse * (gradient - unit * along[:, None])
    biases.append(gradient.sum(axis=0))
    gradient = gradient.astype(low)
    kernels.append(dot(x, gradient, contract=(0, 0)))
    if number:
      gradient = dot(gradient, weights.kernels[number][...], contract=(1, 1))
  return type(weights)(tuple(kernels[::-1]), tuple(biases[::-1]), tuple(scales[::-1]), d_hidden)


class HiddenLayer(NamedTuple):
  out: jax.Array
  slope: jax.Array
  """Of the activation."""
  unit: jax.Array
  """Linear part over its root mean square."""
  inverse: jax.Array
  """One over the root mean square, (pairs, 1)."""


def _hidden_layer(x, layer, width: int, options: Options) -> HiddenLayer:
  """What a backward pass needs of it is in low precision: registers are scarce."""
  kernel, bias, scale = layer
  linear = dot(x, kernel) + bias[None, :]
  power = (linear * linear).sum(axis=1) / width
  inverse = jax.lax.rsqrt(power + EPSILON)[:, None]
  unit = linear * inverse
  tanh = triton.approx_tanh if options.approximate else jnp.tanh
  out, slope = gelu_and_slope(unit * scale[None, :], tanh)
  out, slope, unit = (y.astype(options.dtype) for y in (out, slope, unit))
  return HiddenLayer(out, slope, unit, inverse)


def _layer(weights, number: int):
  return tuple(part[number][...] for part in (weights.kernels, weights.biases, weights.scales))


class Pairs(NamedTuple):
  """The pairs of a tile, one after the other."""

  i: jax.Array
  j: jax.Array
  counts: jax.Array
  """Both particles are inside the event."""
  some: jax.Array
  """Scalar: not all pairs are beyond the event."""


def _pairs(row, column, end) -> Pairs:
  place = jax.lax.iota(jnp.int32, SIDE * SIDE)
  i, j = row * SIDE + place // SIDE, column * SIDE + place % SIDE
  return Pairs(i, j, (i < end) & (j < end), (row * SIDE < end) & (column * SIDE < end))


def _features(particles, event, pairs: Pairs, options: Options):
  """(pairs, 16) features in the first columns, and which pairs have a hidden particle."""

  def particle(index):
    return [
      triton.load(_at(particles, *event, field, index), mask=pairs.counts, other=1.0)
      for field in range(FIELDS)
    ]

  *first, first_hidden = particle(pairs.i)
  *second, second_hidden = particle(pairs.j)
  log = _approximate_log if options.approximate else jnp.log
  features = features_of(PairMomenta(*first), PairMomenta(*second), options.kind, log)
  column = jax.lax.broadcasted_iota(jnp.int32, (SIDE * SIDE, SMALLEST_DOT), 1)
  x = jnp.zeros(column.shape, features[0].dtype)
  for number, feature in enumerate(features):
    x = jnp.where(column == number, feature[:, None], x)
  return x.astype(options.dtype), first_hidden + second_hidden > 0


def _approximate_log(x):
  log2 = triton.elementwise_inline_asm(
    "lg2.approx.f32 $0, $1;",
    args=[x],
    constraints="=f,f",
    pack=1,
    result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)],
  )[0]
  return log2 * 0.6931471805599453


def _at(ref, *index):
  """Elements of a reference, one for each position of indices that broadcast together."""
  index = tuple(jnp.asarray(i, jnp.int32) for i in index)
  shape = jnp.broadcast_shapes(*(i.shape for i in index))
  return ref.at[tuple(jnp.broadcast_to(i, shape) for i in index)]


def _tiles_of(n: int, options: Options):
  """Row and column of every tile that is computed; operations only, no constant arrays."""
  side = tiles(n, SIDE)
  if not options.symmetric:
    number = jax.lax.iota(jnp.int32, side * side)
    return number // side, number % side

  def first_of(row):  # number of the first tile of a row of the upper triangle
    return row * side - row * (row - 1) // 2

  number = jax.lax.iota(jnp.int32, side * (side + 1) // 2)
  begun = number[:, None] >= first_of(jax.lax.iota(jnp.int32, side))
  row = begun.sum(axis=1, dtype=jnp.int32) - 1
  return row, row + number - first_of(row)


def _whole(x) -> pl.BlockSpec:
  return pl.BlockSpec(x.shape, lambda *_: (0,) * len(x.shape))
