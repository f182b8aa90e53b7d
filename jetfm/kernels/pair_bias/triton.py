"""The pair bias on NVIDIA GPUs: features and hidden layers of a pair never leave the registers.

A tile is a rectangle of pairs, for symmetric features only of those in the upper triangle, where it
is written twice. A fixed number of programs share the tiles of all events that hold particles;
others are visited only if there are so few tiles that each has a program. Backward, a tile is
recomputed, and weight gradients are summed in registers; the programs' sums are added afterwards:
no atomics, results repeat bit by bit.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.activations import PLAIN, Arithmetic, value_and_slope
from jetfm.kernels.extent import particle_extent
from jetfm.kernels.pair_bias.features import PAIR_KINDS, features_of
from jetfm.kernels.pair_bias.gradient import bias_of
from jetfm.kernels.pair_bias.packing import FIELDS, pack_particles, pack_weights
from jetfm.kernels.pair_bias.reference import EPSILON
from jetfm.kernels.pair_bias.triton_work import Pairs, Share, Tile, tiles_with_pairs, visit_tiles
from jetfm.kernels.pallas import (
  SMALLEST_DOT,
  accumulator,
  approximate_log,
  dot,
  elements,
  fused_multiply_add,
  padded,
  result,
  triton_call,
  whole,
)
from jetfm.lorentz import PairMomenta

_HALF = Tile(8, 8, warps=4), Tile(4, 4, warps=4)
_SINGLE = Tile(4, 4, warps=8), Tile(4, 4, warps=8)
"""Forward and backward, by dtype: a backward tile also has all weight gradients in registers."""
FORWARD_PROGRAMS, BACKWARD_PROGRAMS = 1056, 264
"""Eight and two for each multiprocessor of an H100 or H200."""


class Options(NamedTuple):
  kind: str
  widths: tuple[int, ...]
  """Of the hidden layers, before padding."""
  heads: int
  dtype: Any
  activation: str
  interpret: bool

  @property
  def tiles(self) -> tuple[Tile, Tile]:
    return _HALF if jnp.dtype(self.dtype).itemsize == 2 else _SINGLE

  @property
  def symmetric(self) -> bool:
    return PAIR_KINDS[self.kind].symmetric

  def share(self, tile: Tile, programs: int, events: int, n: int) -> Share:
    """Of the tiles, for so many programs at most; interpreted, one runs after the other."""
    return Share(n, tile, self.symmetric, events, 3 if self.interpret else programs)

  @property
  def arithmetic(self) -> Arithmetic:
    """The hardware's own log and tanh are good for half precision, and several times faster."""
    if self.interpret or jnp.dtype(self.dtype).itemsize > 2:
      return PLAIN
    return Arithmetic(triton.approx_tanh, approximate_log, fused_multiply_add)


def pair_bias(
  p4, weights, mask, hidden, kind: str, dtype, activation: str = "gelu", interpret: bool = False
) -> jax.Array:
  """See `jetfm.kernels.pair_bias.api.pair_bias`."""
  events, n = p4.shape[:2]
  end = jnp.full(events, n, jnp.int32) if mask is None else particle_extent(mask)
  widths = tuple(kernel.shape[1] for kernel in weights.kernels)
  options = Options(kind, widths[:-1], widths[-1], jnp.dtype(dtype), activation, interpret)
  packed = pack_weights(weights, kind, dtype, padded)
  return _bias(packed, (pack_particles(p4, hidden, kind, dtype), end), options)


def _forward(weights, particles, end, *, options: Options) -> jax.Array:
  events, _, n = particles.shape
  tile, _ = options.tiles
  share = options.share(tile, FORWARD_PROGRAMS, events, n)
  work = tiles_with_pairs(end, share)
  out = result((events, options.heads, n, n), options.dtype, weights, particles, end, work)
  empty = None
  if work is not None:
    # Tiles without a pair of particles are not visited: zeros, which vary over the axes of a
    # shard_map as `end` does.
    empty = jnp.broadcast_to((end * 0).astype(out.dtype)[:, None, None, None], out.shape)
  arrays = (weights, particles, end, work, empty)
  return triton_call(
    functools.partial(_forward_kernel, options=options, share=share),
    name="pair_bias_forward",
    grid=(share.programs,),
    in_specs=jax.tree.map(whole, arrays),
    out_specs=whole(out),
    out_shape=out,
    warps=tile.warps,
    aliases={} if empty is None else {len(jax.tree.leaves(arrays)) - 1: 0},
    interpret=options.interpret,
  )(*arrays)


def _forward_kernel(
  weights, particles, end, work, empty_ref, out_ref, *, options: Options, share: Share
):
  del empty_ref  # the same memory as the result
  n = particles.shape[-1]
  head = jax.lax.broadcasted_iota(jnp.int32, (share.tile.pairs, padded(options.heads)), 1)

  def visit(event, pairs):
    x, hidden = _features(particles, (event,), pairs, options)
    for layer in range(len(options.widths)):
      unit, _ = _normalised(x, weights, layer, options)
      x = _activated(unit, weights, layer, options)[0].astype(options.dtype)
    bias = dot(x, weights.kernels[-1][...]) + weights.biases[-1][...][None, :]
    bias = jnp.where(hidden[:, None], weights.hidden[...][None, :], bias).astype(out_ref.dtype)
    exists = ((pairs.i < n) & (pairs.j < n))[:, None] & (head < options.heads)
    i, j = pairs.i[:, None], pairs.j[:, None]
    triton.store(elements(out_ref, event, head, i, j), bias, mask=exists)
    if options.symmetric:
      triton.store(elements(out_ref, event, head, j, i), bias, mask=exists)

  visit_tiles(work, end, share, lambda event, pairs, _: visit(event, pairs), None)


def _backward(weights, particles, end, d_bias, *, options: Options):
  _, tile = options.tiles
  share = options.share(tile, BACKWARD_PROGRAMS, particles.shape[0], particles.shape[-1])
  work = tiles_with_pairs(end, share)
  arrays = (weights, particles, end, work, d_bias)

  def of_programs(*shape):
    return result((share.programs, *shape), accumulator(options.dtype), *arrays)

  kernels = weights.kernels
  partial_sums = Sums(
    tuple(of_programs(*kernel.shape) for kernel in kernels),
    tuple(of_programs(SMALLEST_DOT, kernel.shape[1]) for kernel in kernels),
  )

  def own_part(x):
    return pl.BlockSpec((None, *x.shape[1:]), lambda g: (g,) + (0,) * (len(x.shape) - 1))

  (sums,) = triton_call(
    functools.partial(_backward_kernel, options=options, share=share),
    name="pair_bias_backward",
    grid=(share.programs,),
    in_specs=jax.tree.map(whole, arrays),
    out_specs=(jax.tree.map(own_part, partial_sums),),
    out_shape=(partial_sums,),
    warps=tile.warps,
    interpret=options.interpret,
  )(*arrays)
  sums = jax.tree.map(lambda x: x.sum(axis=0), sums)
  biases, others = ([vectors[row] for vectors in sums.vectors] for row in (0, 1))
  scales = tuple(others[:-1]) if weights.scales else ()
  return type(weights)(sums.kernels, tuple(biases), scales, others[-1])


def _backward_kernel(
  weights, particles, end, work, d_bias_ref, sums_ref, *, options: Options, share: Share
):
  head = jax.lax.broadcasted_iota(jnp.int32, (share.tile.pairs, padded(options.heads)), 1)

  def visit(event, pairs, sums):
    def load(i, j, wanted):
      where = elements(d_bias_ref, event, head, i[:, None], j[:, None])
      wanted = wanted[:, None] & (head < options.heads)
      return triton.load(where, mask=wanted, other=0.0).astype(accumulator(options.dtype))

    if options.symmetric:  # a pair stands for both of its orders
      d_bias = load(pairs.i, pairs.j, pairs.counts & (pairs.i <= pairs.j))
      d_bias = d_bias + load(pairs.j, pairs.i, pairs.counts & (pairs.i < pairs.j))
    else:
      d_bias = load(pairs.i, pairs.j, pairs.counts)
    more = _gradients(weights, particles, (event,), pairs, d_bias, options)
    return jax.tree.map(jnp.add, sums, more)

  zeros = jax.tree.map(lambda ref: jnp.zeros(ref.shape, ref.dtype), sums_ref)
  sums = visit_tiles(work, end, share, visit, zeros)
  for ref, value in zip(jax.tree.leaves(sums_ref), jax.tree.leaves(sums), strict=True):
    ref[...] = value


_bias = bias_of(_forward, _backward)


def _gradients(weights, particles, event, pairs, d_bias, options: Options):
  """Gradients of all weights from those of the bias of a tile, (pairs, heads).

  Of each hidden layer only the normalised linear part is kept, in low precision, and the activation
  is computed again: registers are scarce.
  """
  low = options.dtype
  features, hidden = _features(particles, event, pairs, options)
  d_out = jnp.where(hidden[:, None], 0.0, d_bias).astype(low)
  vectors = [_sums(low, d_out, jnp.where(hidden[:, None], d_bias, 0.0))]
  x, units, inverses = features, [], []
  for number in range(len(options.widths)):
    unit, inverse = _normalised(x, weights, number, options)
    units.append(unit.astype(low))
    inverses.append(inverse)
    x = _activated(unit, weights, number, options)[0].astype(low)
  kernels = [dot(x, d_out, contract=(0, 0))]
  gradient = dot(d_out, weights.kernels[-1][...], contract=(1, 1))
  for number in reversed(range(len(units))):
    unit = units[number].astype(gradient.dtype)
    gradient = gradient * _activated(unit, weights, number, options)[1]
    if weights.scales:
      d_scale = gradient * unit
      scale = weights.scales[number][...]
      along = (d_scale * scale[None, :]).sum(axis=1) * (-1 / options.widths[number])
      along = jnp.broadcast_to(along[:, None], unit.shape)
      gradient = options.arithmetic.fma(unit, along, gradient * scale[None, :]) * inverses[number]
      vectors.append(_sums(low, gradient, d_scale))
    else:
      vectors.append(_sums(low, gradient))
    gradient = gradient.astype(low)
    x = features
    if number:
      x = _activated(units[number - 1].astype(d_bias.dtype), weights, number - 1, options)[0]
    kernels.append(dot(x.astype(low), gradient, contract=(0, 0)))
    if number:
      gradient = dot(gradient, weights.kernels[number][...], contract=(1, 1))
  return Sums(tuple(kernels[::-1]), tuple(vectors[::-1]))


class Sums(NamedTuple):
  """Gradients of all weights, as they are summed over pairs."""

  kernels: tuple[Any, ...]
  vectors: tuple[Any, ...]
  """Of every layer (16, width): the gradient of its bias, then of its scale (of the last layer: of
  the constant of hidden pairs), then nothing."""


def _sums(dtype, *terms: jax.Array) -> jax.Array:
  """(pairs, width) each -> (16, width): sums over the pairs, as products with a row of ones.

  A sum along the pairs goes through shared memory and keeps every thread's share of each vector in
  registers; the matrix units do it on the side.
  """
  total: Any = 0
  for number, term in enumerate(terms):
    row = jax.lax.broadcasted_iota(jnp.int32, (SMALLEST_DOT, term.shape[0]), 0)
    total = total + dot((row == number).astype(dtype), term.astype(dtype))
  return total


def _normalised(x, weights, number: int, options: Options):
  """Linear part of a hidden layer over its root mean square, and one over that (pairs, 1).

  Without a norm, the linear part and None.
  """
  linear = dot(x, weights.kernels[number][...]) + weights.biases[number][...][None, :]
  if not weights.scales:
    return linear, None
  power = (linear * linear).sum(axis=1) * (1 / options.widths[number])
  inverse = jax.lax.rsqrt(power + EPSILON)[:, None]
  return linear * inverse, inverse


def _activated(unit, weights, number: int, options: Options) -> tuple[jax.Array, jax.Array]:
  """Result of a hidden layer from its normalised linear part, and the slope of the activation."""
  scaled = unit * weights.scales[number][...][None, :] if weights.scales else unit
  return value_and_slope(scaled, options.activation, options.arithmetic)


def _features(particles, event, pairs: Pairs, options: Options):
  """(pairs, 16) features in the first columns, and which pairs have a hidden particle."""

  def particle(index):
    return [
      triton.load(elements(particles, *event, field, index), mask=pairs.counts, other=1.0)
      for field in range(FIELDS)
    ]

  *first, first_hidden = particle(pairs.i)
  *second, second_hidden = particle(pairs.j)
  features = features_of(
    PairMomenta(*first), PairMomenta(*second), options.kind, options.arithmetic.log
  )
  column = jax.lax.broadcasted_iota(jnp.int32, (*pairs.i.shape, SMALLEST_DOT), 1)
  x = jnp.zeros(column.shape, features[0].dtype)
  for number, feature in enumerate(features):
    x = jnp.where(column == number, feature[:, None], x)
  return x.astype(options.dtype), first_hidden + second_hidden > 0
