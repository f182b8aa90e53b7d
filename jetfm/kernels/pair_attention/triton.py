"""Attention with a pair bias on NVIDIA GPUs: scores never leave the registers.

Forward, one program per tile of queries, head and event walks over the keys with the online
softmax. Backward, one program per 128 keys, head and event walks over the queries:
gradients of its keys stay in registers, and every tile of the bias gradient is written once. No
atomics: results repeat bit by bit. Tiles beyond an event's particles are not visited. Scores are in
units of ln 2.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.pair_attention.gradient import Inputs, Options, attention_of
from jetfm.kernels.pallas import (
  LOG2E,
  accumulator,
  dot,
  live_tiles,
  padded,
  result,
  tiles,
  triton_call,
)

LOWEST = -1e30
"""A score without weight. Finite: the difference of two infinities is not a number."""
BACKWARD_KEYS = 128
"""Of a program of the backward pass, so that most events have one part of dq."""
ALIGNED = 16
"""Particles are loaded so many at a time, or as many as divide their number: a bound on an index
that is a multiple of 8 lets the compiler load 8 numbers at once."""
NOBODY = 1e30
"""Log-sum-exp of a query without keys: exp2(score - NOBODY) is 0."""


class Tile(NamedTuple):
  queries: int
  keys: int
  width: int
  """Head width, padded."""


class Span(NamedTuple):
  """Rows of a tile: consecutive particles, of which `valid` ones count."""

  start: jax.Array
  rows: jax.Array
  valid: jax.Array
  near: jax.Array
  """Those that count, and some more: regular enough for loads of 16 bytes."""

  @property
  def slice(self):
    return pl.ds(self.start, self.rows.shape[0])


def _tile(inputs: Inputs, queries: int, keys: int) -> Tile:
  (_, n, _, width), m = inputs.q.shape, inputs.k.shape[1]
  if inputs.q.dtype.itemsize > 2 or width > 32:  # twice the registers for each number or row
    queries, keys = min(queries, 64), min(keys, 64)
  return Tile(min(queries, padded(n)), min(keys, padded(m)), padded(width))


def _forward(inputs: Inputs, *, options: Options) -> tuple[jax.Array, jax.Array]:
  tile = _tile(inputs, queries=64, keys=128)
  events, n, heads, _ = inputs.q.shape
  return triton_call(
    functools.partial(_forward_kernel, scale=options.scale, tile=tile),
    name="pair_attention_forward",
    grid=(tiles(n, tile.queries), heads, events),
    in_specs=(_input_specs(inputs),),
    out_specs=(_particles(n, inputs), _per_query(n)),
    out_shape=(
      result(inputs.q.shape, inputs.q.dtype, inputs),
      result((events, heads, n), accumulator(inputs.q.dtype), inputs),
    ),
    warps=4,
    stages=2,
    interpret=options.interpret,
  )(inputs)


def _forward_kernel(inputs, out_ref, lse_ref, *, scale: float, tile: Tile):
  precise = accumulator(inputs.q.dtype)
  query_end, key_end = inputs.query_end[()], inputs.key_end[()]
  queries = _span(pl.program_id(0), tile.queries, inputs.query_mask, query_end)
  q = _load_rows(inputs.q, queries, tile)

  def visit(j, carry):
    top, total, mixed = carry
    keys = _span(j, tile.keys, inputs.key_mask, key_end)
    scores = _scores(inputs, q, _load_rows(inputs.k, keys, tile), queries, keys, scale)
    higher = jnp.maximum(top, scores.max(axis=1))
    weights = jnp.where(keys.valid[None, :], jnp.exp2(scores - higher[:, None]), 0.0)
    shrink = jnp.exp2(top - higher)
    v = _load_rows(inputs.v, keys, tile)
    mixed = mixed * shrink[:, None] + dot(weights.astype(v.dtype), v)
    return higher, total * shrink + weights.sum(axis=1), mixed

  nothing = (
    jnp.full((tile.queries,), LOWEST, precise),
    jnp.zeros((tile.queries,), precise),
    jnp.zeros((tile.queries, tile.width), precise),
  )
  end = jnp.where(queries.start < query_end, key_end, 0)
  top, total, mixed = jax.lax.fori_loop(jnp.int32(0), live_tiles(end, tile.keys), visit, nothing)
  some = (total > 0) & queries.valid
  total = jnp.where(some, total, 1.0)
  _store_rows(out_ref, queries, jnp.where(some[:, None], mixed / total[:, None], 0.0), tile)
  lse = jnp.where(some, top + jnp.log2(total), NOBODY)
  triton.store(lse_ref.at[queries.slice], lse, mask=queries.rows < lse_ref.shape[0])


def _backward(inputs: Inputs, out, lse, d_out, running, *, options: Options):
  tile = _tile(inputs, queries=32, keys=32 if inputs.q.dtype.itemsize > 2 else 64)
  q, k, v, bias = inputs[:4]
  events, n, heads, width = q.shape
  m = k.shape[1]
  programs = tiles(m, BACKWARD_KEYS)
  # Every program has its own part of dq, summed below.
  d_q_dtype = q.dtype if programs == 1 else accumulator(q.dtype)
  d_q_part = pl.BlockSpec((None, None, n, None, width), lambda t, h, b: (t, b, 0, h, 0))
  everything = (inputs, out, lse, d_out, running)
  pairs = None if bias is None else _pairs(n, m)
  d_q, d_k, d_v, d_bias = triton_call(
    functools.partial(_backward_kernel, scale=options.scale, tile=tile),
    name="pair_attention_backward",
    grid=(programs, heads, events),
    in_specs=(
      _input_specs(inputs),
      _particles(n, inputs),
      _per_query(n),
      _particles(n, inputs),
      None if running is None else pairs,
    ),
    out_specs=(d_q_part, _particles(m, inputs), _particles(m, inputs), pairs),
    out_shape=(
      result((programs, *q.shape), d_q_dtype, everything),
      result(k.shape, k.dtype, everything),
      result(v.shape, v.dtype, everything),
      None if bias is None else result(bias.shape, bias.dtype, everything),
    ),
    warps=4,
    aliases={} if running is None else {len(jax.tree.leaves(everything)) - 1: 3},
    interpret=options.interpret,
  )(*everything)
  d_q = d_q[0] if programs == 1 else d_q.sum(axis=0)
  return d_q.astype(q.dtype), d_k, d_v, d_bias


def _backward_kernel(
  inputs, out_ref, lse_ref, d_out_ref, running_ref, d_q_ref, d_k_ref, d_v_ref, d_bias_ref,
  *, scale: float, tile: Tile,
):  # fmt: skip
  precise = accumulator(inputs.q.dtype)
  query_end, key_end = inputs.query_end[()], inputs.key_end[()]
  all_queries = jnp.int32(tiles(inputs.q.shape[0], tile.queries))
  count = min(BACKWARD_KEYS // tile.keys, tiles(inputs.k.shape[0], tile.keys))
  first = pl.program_id(0) * (BACKWARD_KEYS // tile.keys)
  key_tiles = [_span(first + t, tile.keys, inputs.key_mask, key_end) for t in range(count)]
  k_tiles = [_load_rows(inputs.k, keys, tile) for keys in key_tiles]
  v_tiles = [_load_rows(inputs.v, keys, tile) for keys in key_tiles]

  def visit(i, sums):
    queries = _span(i, tile.queries, inputs.query_mask, query_end)
    q, out, d_out = (_load_rows(ref, queries, tile) for ref in (inputs.q, out_ref, d_out_ref))
    lse = triton.load(lse_ref.at[queries.slice], mask=queries.valid, other=NOBODY)
    common = (d_out.astype(precise) * out.astype(precise)).sum(axis=1)

    def of_keys(keys: Span, k, v, d_q, d_k, d_v):
      scores = _scores(inputs, q, k, queries, keys, scale)
      both = queries.valid[:, None] & keys.valid[None, :]
      weights = jnp.where(both, jnp.exp2(scores - lse[:, None]), 0.0)
      d_v = d_v + dot(weights.astype(d_out.dtype), d_out, contract=(0, 0))
      # The derivative of softmax: what a weight gains, less what the normalisation takes back.
      d_scores = weights * (dot(d_out, v, contract=(1, 1)) - common[:, None])
      if d_bias_ref is not None:
        d_bias = d_scores
        if running_ref is not None:
          d_bias = d_bias + _load_pairs(running_ref, queries, keys).astype(precise)
        _store_pairs(d_bias_ref, queries, keys, d_bias, changes=running_ref is not None)
      d_scores = d_scores.astype(q.dtype)
      return d_q + dot(d_scores, k), d_k + dot(d_scores, q, contract=(0, 0)), d_v

    d_q, new = jnp.zeros((tile.queries, tile.width), precise), []
    for keys, k, v, (d_k, d_v) in zip(key_tiles, k_tiles, v_tiles, sums, strict=True):
      d_q, d_k, d_v = jax.lax.cond(
        keys.start < key_end,
        functools.partial(of_keys, keys, k, v),
        lambda *sums: sums,
        d_q, d_k, d_v,
      )  # fmt: skip
      new.append((d_k, d_v))
    _store_rows(d_q_ref, queries, d_q * scale, tile)
    return tuple(new)

  zeros = jnp.zeros((tile.keys, tile.width), precise)
  live = live_tiles(jnp.where(key_tiles[0].start < key_end, query_end, 0), tile.queries)
  sums = jax.lax.fori_loop(jnp.int32(0), live, visit, ((zeros, zeros),) * count)
  for keys, (d_k, d_v) in zip(key_tiles, sums, strict=True):
    _store_rows(d_k_ref, keys, d_k * scale, tile)
    _store_rows(d_v_ref, keys, d_v, tile)

  def clear_queries(i, _):
    queries = _span(i, tile.queries, inputs.query_mask, query_end)
    _store_rows(d_q_ref, queries, jnp.zeros((tile.queries, tile.width), precise), tile)

  jax.lax.fori_loop(live, all_queries, clear_queries, None)
  if d_bias_ref is None or running_ref is not None:
    return
  for keys in key_tiles:  # whatever was not visited

    def clear_pairs(i, _, keys=keys):
      queries = _span(i, tile.queries, inputs.query_mask, query_end)
      nothing = jnp.zeros((tile.queries, tile.keys), precise)
      _store_pairs(d_bias_ref, queries, keys, nothing, changes=False)

    jax.lax.fori_loop(jnp.where(keys.start < key_end, live, 0), all_queries, clear_pairs, None)


pair_attention = attention_of(_forward, _backward)
"""See `jetfm.kernels.pair_attention.api.pair_attention`."""


def _scores(inputs, q, k, queries: Span, keys: Span, scale: float) -> jax.Array:
  """scale q.k + bias, in units of ln 2, for a tile; `LOWEST` where there is no key."""
  scores = dot(q, k, contract=(1, 1)) * (scale * LOG2E)
  if inputs.bias is not None:
    bias = _load_pairs(inputs.bias, queries, keys)
    scores = scores + bias.astype(scores.dtype) * LOG2E
  return jnp.where(queries.valid[:, None] & keys.valid[None, :], scores, LOWEST)


def _span(number, size: int, mask, end) -> Span:
  """Tile `number` of an axis with a mask (N,), which is 0 from `end` on."""
  start = jnp.int32(number * size)
  index = start + jax.lax.iota(jnp.int32, size)
  step = jnp.int32(ALIGNED)
  rounded = jnp.minimum(jax.lax.div(end + step - 1, step) * step, jnp.int32(mask.shape[0]))
  span = Span(start, index, index < end, index < rounded)
  return span._replace(valid=triton.load(mask.at[span.slice], mask=span.valid, other=0) > 0)


def _load_rows(ref, span: Span, tile: Tile) -> jax.Array:
  """(rows, width) of a (N, K) array: 0 where a row does not count, and beyond K."""
  where, inside = _columns(ref, span, tile)
  return triton.load(where, mask=span.valid[:, None] & inside, other=0.0)


def _store_rows(ref, span: Span, values, tile: Tile) -> None:
  where, inside = _columns(ref, span, tile)
  exists = (span.rows < ref.shape[0])[:, None]
  triton.store(where, values.astype(ref.dtype), mask=exists & inside)


def _columns(ref, span: Span, tile: Tile):
  inside = jax.lax.broadcasted_iota(jnp.int32, (span.rows.shape[0], tile.width), 1) < ref.shape[1]
  return ref.at[span.slice, pl.ds(jnp.int32(0), tile.width)], inside


def _load_pairs(ref, queries: Span, keys: Span) -> jax.Array:
  """A tile of a (N, M) array: anything for pairs that do not count; most of these are not read."""
  both = queries.near[:, None] & keys.near[None, :]
  return triton.load(ref.at[queries.slice, keys.slice], mask=both, other=0.0)


def _store_pairs(ref, queries: Span, keys: Span, values, *, changes: bool) -> None:
  """All pairs of a tile that exist; with `changes` the near ones, others stay as they are."""
  these, those = (
    span.near if changes else span.rows < size
    for span, size in zip((queries, keys), ref.shape, strict=True)
  )
  mask = these[:, None] & those[None, :]
  triton.store(ref.at[queries.slice, keys.slice], values.astype(ref.dtype), mask=mask)


def _input_specs(inputs: Inputs) -> Inputs:
  """Blocks of one head of one event; the grid is (tiles, heads, events)."""
  n, m = inputs.q.shape[1], inputs.k.shape[1]
  one_number = pl.BlockSpec((None,), lambda t, h, b: (b,))
  return Inputs(
    q=_particles(n, inputs),
    k=_particles(m, inputs),
    v=_particles(m, inputs),
    bias=None if inputs.bias is None else _pairs(n, m),
    query_mask=pl.BlockSpec((None, n), lambda t, h, b: (b, 0)),
    key_mask=pl.BlockSpec((None, m), lambda t, h, b: (b, 0)),
    query_end=one_number,
    key_end=one_number,
  )


def _particles(length: int, inputs: Inputs) -> pl.BlockSpec:
  width = inputs.q.shape[-1]
  return pl.BlockSpec((None, length, None, width), lambda t, h, b: (b, 0, h, 0))


def _per_query(n: int) -> pl.BlockSpec:
  return pl.BlockSpec((None, None, n), lambda t, h, b: (b, h, 0))


def _pairs(n: int, m: int) -> pl.BlockSpec:
  return pl.BlockSpec((None, None, n, m), lambda t, h, b: (b, h, 0, 0))
