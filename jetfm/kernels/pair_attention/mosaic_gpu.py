"""Attention with a pair bias on Hopper GPUs, by Mosaic: the successor of the Triton kernels.

Everything comes in tiles of 64 queries and 64 keys, which the copy engine brings to shared memory
while earlier ones are worked on. Forward, one warpgroup per tile of queries, head and event walks
over the keys with the online softmax. Backward, one warpgroup per head and event walks over all
tiles: gradients of its keys stay in registers, those of its queries in shared memory, and tiles of
the bias gradient are changed in place. No atomics: results repeat bit by bit. Tiles beyond an
event's particles are not visited. Scores are in units of ln 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jetfm.kernels.pair_attention.gradient import Inputs, Options, attention_of
from jetfm.kernels.pallas import (
  LOG2E,
  Warpgroup,
  live_tiles,
  mosaic_gpu_call,
  padded,
  result,
  tiles,
)

SIDE = 64
"""Queries and keys of a tile: the least that a warpgroup multiplies."""
STRIP = 16
"""Rows of a tile are moved in multiples of it."""
LOWEST = -1e30
"""A score without weight. Finite: the difference of two infinities is not a number."""
NOBODY = 1e30
"""Log-sum-exp of a query without keys: exp2(score - NOBODY) is 0."""
SHARED_MEMORY = 200 * 1024
"""Bytes that a kernel may use, with some room left."""

MATRIX = plgpu.Layout.WGMMA
PER_ROW, PER_COLUMN = MATRIX.reduce(1), MATRIX.reduce(0)


class Slot(NamedTuple):
  """Shared memory for the tiles of one step, or of a few steps: then a first axis counts them."""

  q: Any = None
  k: Any = None
  v: Any = None
  bias: Any = None
  out: Any = None
  d_out: Any = None
  d_bias: Any = None

  def at(self, number) -> Slot:
    return Slot(*(None if ref is None else ref.at[number] for ref in self))


def _forward(inputs: Inputs, *, options: Options) -> tuple[jax.Array, jax.Array]:
  """out, and the log-sum-exp of the scores for whole tiles of queries."""
  n, width = inputs.q.shape[1], inputs.q.shape[-1]
  out, lse = _run_forward(options, _aligned(inputs, options))
  return out[:, :n, :, :width], lse


def _run_forward(options: Options, inputs: Inputs):
  events, n, heads, _ = inputs.q.shape
  steps = min(tiles(inputs.k.shape[1], SIDE), 2)
  tokens = functools.partial(_tile_of_tokens, inputs)
  copies = 2 if inputs.bias is None else 3
  return mosaic_gpu_call(
    functools.partial(_forward_kernel, options=options, steps=steps),
    name="pair_attention_forward",
    grid={"event": events, "tile": tiles(n, SIDE), "head": heads},
    out_shape=(
      result(inputs.q.shape, inputs.q.dtype, inputs),
      result((events, heads, tiles(n, SIDE) * SIDE), jnp.float32, inputs),
    ),
    scratch={
      "slots": Slot(k=tokens(steps), v=tokens(steps), bias=_tile_of_pairs(inputs.bias, steps)),
      "arrived": plgpu.Barrier(num_arrivals=copies, num_barriers=steps),
      "q_tile": tokens(),
      "q_arrived": plgpu.Barrier(),
      "lse_tile": plgpu.SMEM((SIDE,), jnp.float32),
    },
    interpret=options.interpret,
  )(inputs)


def _forward_kernel(
  inputs, out_ref, lse_ref, *, slots, arrived, q_tile, q_arrived, lse_tile, options, steps
):
  group, factor = Warpgroup(options.interpret), options.scale * LOG2E
  event, tile, head = (jax.lax.axis_index(name) for name in ("event", "tile", "head"))
  queries = pl.ds(tile * SIDE, SIDE)
  query_end, key_end = inputs.query_end[event], inputs.key_end[event]
  live = live_tiles(jnp.where(tile * SIDE < query_end, key_end, 0), SIDE)

  def fetch(j):
    number = jax.lax.rem(j, jnp.int32(steps))
    slot, barrier = slots.at(number), arrived.at[number]

    @_with_rows_of(j, key_end)
    def of_keys(rows):
      _fetch_rows(inputs.k.at[event, :, head], slot.k, j, rows, barrier)
      _fetch_rows(inputs.v.at[event, :, head], slot.v, j, rows, barrier)

    if inputs.bias is not None:

      @_with_rows_of(tile, query_end)
      def of_queries(rows):
        keys = pl.ds(j * SIDE, SIDE)
        _fetch_rows(inputs.bias.at[event, head, :, keys], slot.bias, tile, rows, barrier)

  @pl.when(live > 0)
  def start():
    plgpu.copy_gmem_to_smem(inputs.q.at[event, queries, head], q_tile, q_arrived)
    for j in range(steps):
      pl.when(j < live)(functools.partial(fetch, jnp.int32(j)))
    plgpu.barrier_wait(q_arrived)

  def visit(j, carry):
    top, total, mixed = carry
    keys, number = pl.ds(j * SIDE, SIDE), jax.lax.rem(j, jnp.int32(steps))
    slot = slots.at(number)
    flags = inputs.key_mask.at[event, keys]
    in_row, in_column = (
      group.load(flags, layout, optimized=False) for layout in (PER_ROW, PER_COLUMN)
    )
    plgpu.barrier_wait(arrived.at[number])
    _clean(group, slot.v, in_row)
    plgpu.commit_smem()
    scores = _scores(group, q_tile, slot, factor)
    scores = jnp.where(_columns(in_column, SIDE) > 0, scores, LOWEST)
    higher = jnp.maximum(top, scores.max(axis=1))
    weights = jnp.exp2(scores - _rows(higher, SIDE))
    shrink = jnp.exp2(top - higher)
    total = total * shrink + weights.sum(axis=1)
    new = group.product(weights.astype(inputs.v.dtype), slot.v)
    mixed = mixed * _rows(shrink, mixed.shape[1]) + new
    pl.when(j + steps < live)(functools.partial(fetch, j + steps))
    return higher, total, mixed

  nothing = (
    group.full((SIDE,), 0.5 * LOWEST, PER_ROW),  # next to it, `LOWEST` has no weight
    group.full((SIDE,), 0.0, PER_ROW),
    group.full(q_tile.shape, 0.0, MATRIX),
  )
  top, total, mixed = jax.lax.fori_loop(jnp.int32(0), live, visit, nothing)
  wanted = group.load(inputs.query_mask.at[event, queries], PER_ROW, optimized=False)
  some = (total > 0) & (wanted > 0)
  total = jnp.where(some, total, 1.0)
  share = jnp.where(some, 1.0 / total, 0.0)
  # Of a query that is not wanted, not even a NaN may show.
  out = jnp.where(_rows(share, mixed.shape[1]) > 0, mixed * _rows(share, mixed.shape[1]), 0.0)
  q_tile[...] = out.astype(out_ref.dtype)
  lse_tile[...] = jnp.where(some, top + jnp.log(total) * LOG2E, NOBODY)
  plgpu.commit_smem()
  plgpu.copy_smem_to_gmem(q_tile, out_ref.at[event, queries, head])
  plgpu.copy_smem_to_gmem(lse_tile, lse_ref.at[event, head, queries])
  plgpu.wait_smem_to_gmem(0)


def _backward(inputs: Inputs, out, lse, d_out, running, *, options: Options):
  (_, n, _, width), m = inputs.q.shape, inputs.k.shape[1]
  whole = _aligned(inputs, options)
  out, d_out = (_extend(x, whole.q.shape) for x in (out, d_out.astype(inputs.q.dtype)))
  if running is not None:
    running = _extend(running, whole.bias.shape)
  d_q, d_k, d_v, d_bias = _run_backward(options, whole, out, lse, d_out, running)
  return (
    d_q[:, :n, :, :width],
    d_k[:, :m, :, :width],
    d_v[:, :m, :, :width],
    None if d_bias is None else d_bias[:, :, :n, :m],
  )


def _run_backward(options: Options, inputs: Inputs, out, lse, d_out, running):
  (events, n, heads, width), m = inputs.q.shape, inputs.k.shape[1]
  tokens = functools.partial(_tile_of_tokens, inputs)
  start = running if running is not None or inputs.bias is None else jnp.zeros_like(inputs.bias)
  everything = (inputs, out, lse, d_out, start)
  copies = 5 + (inputs.bias is not None) + (running is not None)
  of_a_step = 2 * SIDE * (5 * width + 2 * SIDE)
  room = SHARED_MEMORY - 4 * tiles(n, SIDE) * SIDE * width - 2 * SIDE * (SIDE + 2 * width)
  steps = min(tiles(n, SIDE) * tiles(m, SIDE), 2, max(room // of_a_step, 1))
  call = mosaic_gpu_call(
    functools.partial(_backward_kernel, options=options, steps=steps, add=running is not None),
    name="pair_attention_backward",
    grid={"event": events, "head": heads},
    out_shape=tuple(
      result(x.shape, x.dtype, everything) for x in (*inputs[:3], start) if x is not None
    ),
    scratch={
      "slots": Slot(
        q=tokens(steps),
        k=tokens(steps),
        v=tokens(steps),
        bias=_tile_of_pairs(inputs.bias, steps),
        out=tokens(steps),
        d_out=tokens(steps),
        d_bias=_tile_of_pairs(inputs.bias, steps),
      ),
      "arrived": plgpu.Barrier(num_arrivals=copies, num_barriers=steps),
      # Multiplied with tiles of tokens, and must be laid out as these are.
      "turned": _tile(SIDE, SIDE, inputs.q.dtype, tokens().transforms[1].swizzle),
      "d_k_tile": tokens(),  # and of d_q, later
      "d_v_tile": tokens(),
      "d_q_sums": _tile(SIDE, width, jnp.float32, min(4 * width, 128), tiles(n, SIDE)),
    },
    aliases={} if start is None else {len(jax.tree.leaves(everything)) - 1: 3},
    interpret=options.interpret,
  )
  results = call(*everything)
  return results if start is not None else (*results, None)


def _backward_kernel(
  inputs, out_ref, lse_ref, d_out_ref, _, d_q_ref, d_k_ref, d_v_ref, d_bias_ref=None,
  *, slots, arrived, turned, d_k_tile, d_v_tile, d_q_sums, options, steps, add,
):  # fmt: skip
  group, scale = Warpgroup(options.interpret), options.scale
  event, head = (jax.lax.axis_index(name) for name in ("event", "head"))
  query_end, key_end = inputs.query_end[event], inputs.key_end[event]
  query_tiles = live_tiles(jnp.where(key_end > 0, query_end, 0), SIDE)
  key_tiles = live_tiles(jnp.where(query_end > 0, key_end, 0), SIDE)
  width, dtype = inputs.q.shape[-1], inputs.q.dtype

  def fetch(step):
    """Step `step` of all: tiles of keys one after the other, with all queries each."""
    j, i = jax.lax.div(step, query_tiles), jax.lax.rem(step, query_tiles)
    number = jax.lax.rem(step, jnp.int32(steps))
    slot, barrier = slots.at(number), arrived.at[number]

    @_with_rows_of(j, key_end)
    def of_keys(rows):
      _fetch_rows(inputs.k.at[event, :, head], slot.k, j, rows, barrier)
      _fetch_rows(inputs.v.at[event, :, head], slot.v, j, rows, barrier)

    @_with_rows_of(i, query_end)
    def of_queries(rows):
      keys = pl.ds(j * SIDE, SIDE)
      _fetch_rows(inputs.q.at[event, :, head], slot.q, i, rows, barrier)
      _fetch_rows(out_ref.at[event, :, head], slot.out, i, rows, barrier)
      _fetch_rows(d_out_ref.at[event, :, head], slot.d_out, i, rows, barrier)
      if inputs.bias is not None:
        _fetch_rows(inputs.bias.at[event, head, :, keys], slot.bias, i, rows, barrier)
      if add:
        _fetch_rows(d_bias_ref.at[event, head, :, keys], slot.d_bias, i, rows, barrier)

  every = query_tiles * key_tiles
  for step in range(steps):
    pl.when(step < every)(functools.partial(fetch, jnp.int32(step)))

  @pl.loop(jnp.int32(0), query_tiles)
  def clear(i):
    d_q_sums[i] = group.full((SIDE, width), 0.0, MATRIX)

  def visit(j, i, carry):
    d_k, d_v = carry
    step = j * query_tiles + i
    number = jax.lax.rem(step, jnp.int32(steps))
    slot = slots.at(number)
    queries, keys = pl.ds(i * SIDE, SIDE), pl.ds(j * SIDE, SIDE)
    flags = inputs.key_mask.at[event, keys]
    in_row, in_column = (
      group.load(flags, layout, optimized=False) for layout in (PER_ROW, PER_COLUMN)
    )
    lse = group.load(lse_ref.at[event, head, queries], PER_ROW, optimized=False)
    wanted = jnp.where(lse < NOBODY, jnp.int32(1), jnp.int32(0))
    both = (_columns(in_column, SIDE) > 0) & (_rows(wanted, SIDE) > 0)
    plgpu.barrier_wait(arrived.at[number])
    _clean(group, slot.k, in_row)
    _clean(group, slot.v, in_row)
    _clean(group, slot.q, wanted)
    d_out = _clean(group, slot.d_out, wanted).astype(jnp.float32)
    plgpu.commit_smem()
    out = group.load(slot.out, MATRIX).astype(jnp.float32)
    scores = _scores(group, slot.q, slot, scale * LOG2E)
    weights = jnp.where(both, jnp.exp2(scores - _rows(lse, SIDE)), 0.0)
    # The derivative of softmax: what a weight gains, less what the normalisation takes back.
    gain = group.product(slot.d_out, slot.v, turn_b=True)
    common = jnp.where(wanted > 0, (d_out * out).sum(axis=1), 0.0)
    d_scores = weights * (gain - _rows(common, SIDE))
    if d_bias_ref is not None:
      d_bias = d_scores
      if add:
        d_bias = d_bias + group.load(slot.d_bias, MATRIX).astype(jnp.float32)
      slot.d_bias[...] = d_bias.astype(d_bias_ref.dtype)
    turned[...] = weights.astype(dtype)
    plgpu.commit_smem()
    if d_bias_ref is not None:

      @_with_rows_of(i, query_end)
      def store(rows):
        place = d_bias_ref.at[event, head, pl.ds(i * SIDE, rows), keys]
        plgpu.copy_smem_to_gmem(slot.d_bias.at[pl.ds(0, rows)], place)

    d_v = d_v + group.product(turned, slot.d_out, turn_a=True)
    d_scores = d_scores.astype(dtype)
    turned[...] = d_scores
    plgpu.commit_smem()
    d_k = d_k + group.product(turned, slot.q, turn_a=True)
    d_q_sums[i] = group.load(d_q_sums.at[i], MATRIX) + group.product(d_scores, slot.k)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the slot is free
    pl.when(step + steps < every)(functools.partial(fetch, step + steps))
    return d_k, d_v

  def keys_done(j, d_k, d_v):
    keys = pl.ds(j * SIDE, SIDE)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
    d_k_tile[...] = (d_k * scale).astype(dtype)
    d_v_tile[...] = d_v.astype(dtype)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(d_k_tile, d_k_ref.at[event, keys, head])
    plgpu.copy_smem_to_gmem(d_v_tile, d_v_ref.at[event, keys, head])

  zeros = (group.full((SIDE, width), 0.0, MATRIX),) * 2

  @pl.loop(jnp.int32(0), key_tiles)
  def visit_keys(j):
    keys_done(j, *jax.lax.fori_loop(jnp.int32(0), query_tiles, functools.partial(visit, j), zeros))

  @pl.loop(key_tiles, jnp.int32(tiles(inputs.k.shape[1], SIDE)))
  def clear_keys(j):
    keys_done(j, *zeros)

  @pl.loop(jnp.int32(0), jnp.int32(tiles(inputs.q.shape[1], SIDE)))
  def queries_done(i):
    queries = pl.ds(i * SIDE, SIDE)
    d_q = group.load(d_q_sums.at[i], MATRIX)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
    d_k_tile[...] = jnp.where(i < query_tiles, d_q * scale, 0.0).astype(dtype)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(d_k_tile, d_q_ref.at[event, queries, head])

  plgpu.wait_smem_to_gmem(0)


pair_attention = attention_of(_forward, _backward, ordered_interpreter=True)
"""See `jetfm.kernels.pair_attention.api.pair_attention`."""


def _scores(group: Warpgroup, q, slot: Slot, factor: float) -> jax.Array:
  """scale q.k + bias, in units of ln 2, for a tile."""
  scores = group.product(q, slot.k, turn_b=True) * factor
  if slot.bias is None:
    return scores
  return scores + group.load(slot.bias, MATRIX).astype(jnp.float32) * LOG2E


def _clean(group: Warpgroup, ref, flags) -> jax.Array:
  """Zeros in place of rows without flag: a weight of 0 removes what they hold, unless it is NaN."""
  rows = group.load(ref, MATRIX)
  rows = jnp.where(_rows(flags, ref.shape[1]) > 0, rows, jnp.zeros((), rows.dtype))
  ref[...] = rows
  return rows


def _with_rows_of(tile, end) -> Callable[[Callable[[int], None]], None]:
  """Calls a function with how many rows of a tile are to be moved, a multiple of `STRIP`.

  Tiles with few particles are what most memory traffic would be for.
  """

  def call(function):
    strips = live_tiles(jnp.minimum(end - tile * SIDE, SIDE), STRIP)
    sizes = range(STRIP, SIDE + 1, STRIP)
    jax.lax.switch(strips - 1, [functools.partial(function, size) for size in sizes])

  return call


def _fetch_rows(source, target, tile, rows: int, barrier) -> None:
  source, target = source.at[pl.ds(tile * SIDE, rows)], target.at[pl.ds(0, rows)]
  plgpu.copy_gmem_to_smem(source, target, barrier)


def _rows(x, columns: int) -> jax.Array:
  """(R,) -> (R, columns)."""
  return jax.lax.broadcast_in_dim(x, (x.shape[0], columns), [0])


def _columns(x, rows: int) -> jax.Array:
  """(C,) -> (rows, C)."""
  return jax.lax.broadcast_in_dim(x, (rows, x.shape[0]), [1])


def _tile(rows: int, columns: int, dtype, swizzle: int, count: int | None = None) -> Any:
  """Shared memory for `count` matrices, as the copy engine and the tensor cores want them."""
  columns_of_8 = (8, swizzle // jnp.dtype(dtype).itemsize)
  transforms = (plgpu.TilingTransform(columns_of_8), plgpu.SwizzleTransform(swizzle))
  shape = (rows, columns) if count is None else (count, rows, columns)
  return plgpu.SMEM(shape, dtype, transforms=transforms)


def _tile_of_tokens(inputs: Inputs, count: int | None = None) -> Any:
  width = inputs.q.shape[-1]
  return _tile(SIDE, width, inputs.q.dtype, 2 * width, count)


def _tile_of_pairs(bias, count: int) -> Any:
  """The widest swizzle that divides a row of the array."""
  if bias is None:
    return None
  swizzle = next(size for size in (128, 64, 32) if 2 * bias.shape[-1] % size == 0)
  return _tile(SIDE, SIDE, bias.dtype, swizzle, count)


def _aligned(inputs: Inputs, options: Options) -> Inputs:
  """Lengths that are multiples of 16, widths that are powers of two: what the copy engine takes.

  Flags fill whole tiles.
  """
  side = SIDE if options.interpret else STRIP  # the interpreter does not look beyond arrays
  (events, n, heads, width), m = inputs.q.shape, inputs.k.shape[1]
  n, m, width = tiles(n, side) * side, tiles(m, side) * side, padded(width)
  return inputs._replace(
    q=_extend(inputs.q, (events, n, heads, width)),
    k=_extend(inputs.k, (events, m, heads, width)),
    v=_extend(inputs.v, (events, m, heads, width)),
    bias=None if inputs.bias is None else _extend(inputs.bias, (events, heads, n, m)),
    query_mask=_extend(inputs.query_mask, (events, tiles(n, SIDE) * SIDE)),
    key_mask=_extend(inputs.key_mask, (events, tiles(m, SIDE) * SIDE)),
  )


def _extend(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  if x.shape == shape:
    return x
  return jnp.pad(x, [(0, new - old) for old, new in zip(x.shape, shape, strict=True)])
