"""The pair bias on a CPU: pairs of real particles only, a few thousand at a time.

The pair MLP has three hidden arrays of 64 numbers for each pair: for a whole batch they go to
memory and come back between any two operations, those of a chunk stay in the cache. The backward
pass recomputes a chunk's instead of keeping them, which costs less than reading them.

Pairs are numbered by the later of their two particles, so that those of an event's real particles
come first, whatever their number. They are cut into tiles, and the tiles that hold real pairs are
put in a row: the loops end where these do.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jetfm.kernels.extent import particle_extent
from jetfm.kernels.pair_bias import reference
from jetfm.kernels.pair_bias.features import PAIR_KINDS, features_of
from jetfm.kernels.pair_bias.gradient import bias_of
from jetfm.kernels.partition import varying_as
from jetfm.lorentz import PairMomenta, pair_momenta

TILE = 64
"""Pairs of a tile, all of one event."""
CHUNK = 30
"""Tiles at a time: hidden arrays of half a megabyte in float32.

Their pairs are a multiple of 6 and of 16. Of 2048 pairs the last two had other last bits on a
processor with AVX2 alone, and a jet's bias depended on its place in the batch.
"""


def pair_bias(p4, weights, mask, hidden, kind: str, dtype, activation: str = "gelu") -> jax.Array:
  """See `jetfm.kernels.pair_bias.api.pair_bias`."""
  n = p4.shape[1]
  extent = jnp.full(p4.shape[0], n, jnp.int32) if mask is None else particle_extent(mask)
  momenta = jnp.stack(pair_momenta(p4, PAIR_KINDS[kind].source), axis=-1)  # (B, N, fields)
  folded = reference.fold_standardisation(weights, kind)
  bias = _bias(folded, (momenta, extent), reference.Options(kind, jnp.dtype(dtype), activation))
  return reference.hide(bias, weights.hidden, hidden)


def _tiles(n: int, kind: str) -> int:
  pairs = n * (n + 1) // 2 if PAIR_KINDS[kind].symmetric else n * n
  return -(-pairs // TILE)


def _particles(pair: jax.Array, kind: str) -> tuple[jax.Array, jax.Array]:
  """The two particles of pairs given by number; int32 below 2^20."""
  number = pair.astype(jnp.float32)  # exact; the halves keep roots of squares from rounding down
  if PAIR_KINDS[kind].symmetric:
    later = ((jnp.sqrt(8 * number + 1.5) - 1) / 2).astype(jnp.int32)
    return pair - later * (later + 1) // 2, later
  later = jnp.sqrt(number + 0.5).astype(jnp.int32)
  rest = pair - later * later
  return jnp.where(rest <= later, rest, later), jnp.where(rest <= later, later, rest - later - 1)


def _numbers(n: int, kind: str) -> jax.Array:
  """(N, N) numbers of the pairs: the inverse of `_particles`."""
  i, j = (jax.lax.broadcasted_iota(jnp.int32, (n, n), axis) for axis in (0, 1))
  low, high = jnp.minimum(i, j), jnp.maximum(i, j)
  if PAIR_KINDS[kind].symmetric:
    return high * (high + 1) // 2 + low
  return high * high + jnp.where(i <= j, low, high + 1 + low)


class _Live(NamedTuple):
  """Tiles in a row, those with real pairs first."""

  tiles: jax.Array
  """(chunks, tiles of a chunk) number b T + t of each; B T where there is none."""
  place: jax.Array
  """(B, T) where a tile is in the row."""
  chunks: jax.Array
  """How many chunks have real pairs."""


def _live(extent: jax.Array, n: int, kind: str) -> _Live:
  tiles = _tiles(n, kind)
  pairs = extent * (extent + 1) // 2 if PAIR_KINDS[kind].symmetric else extent * extent
  live = (jnp.arange(tiles, dtype=jnp.int32) * TILE < pairs[:, None]).reshape(-1)
  count = live.sum(dtype=jnp.int32)
  before = jnp.cumsum(live, dtype=jnp.int32) - live
  number = jnp.arange(live.size, dtype=jnp.int32)
  place = jnp.where(live, before, count + number - before)
  chunk = max(min(CHUNK, live.size), 1)
  row = jnp.full(live.size + -live.size % chunk, live.size, jnp.int32)
  row = row.at[place].set(number, unique_indices=True, mode="promise_in_bounds")
  return _Live(row.reshape(-1, chunk), place.reshape(-1, tiles), (count + chunk - 1) // chunk)


def _pairs(row: jax.Array, momenta, kind: str):
  """Event (R, 1) and particles (R, TILE) of the pairs of R tiles."""
  events, n, _ = momenta.shape
  tiles = _tiles(n, kind)
  pair = (row % tiles)[:, None] * TILE + jnp.arange(TILE, dtype=jnp.int32)
  return jnp.minimum(row // tiles, events - 1)[:, None], *_particles(pair, kind)


def _features(row, momenta, options: reference.Options) -> jax.Array:
  """Of the pairs of R tiles, (R TILE, F)."""
  events, n, fields = momenta.shape
  event, first, second = _pairs(row, momenta, options.kind)
  flat = momenta.reshape(events * n, fields)

  def of(particle: jax.Array) -> PairMomenta:
    numbers = (event * n + jnp.minimum(particle, n - 1)).reshape(-1)
    return PairMomenta(*flat.at[numbers].get(mode="promise_in_bounds").T)

  features = features_of(of(first), of(second), options.kind)
  # Side by side in memory would be slower: each number would come from another formula.
  return jnp.stack(features).T


def _forward(weights, momenta, extent, *, options: reference.Options) -> jax.Array:
  events, n, _ = momenta.shape
  heads = weights.kernels[-1].shape[1]
  live = _live(extent, n, options.kind)

  def chunk(step, out):
    features = _features(live.tiles[step], momenta, options)
    made = reference.pair_mlp(features, weights, options.dtype, options.activation).T  # (H, pairs)
    return jax.lax.dynamic_update_slice_in_dim(out, made, step * made.shape[1], axis=1)

  out = varying_as(jnp.zeros((heads, live.tiles.size * TILE), options.dtype), weights, momenta)
  out = jax.lax.fori_loop(0, live.chunks, chunk, out)
  # (B, N N): where each pair is in the row; beyond the chunks that were computed, zeros are.
  number = _numbers(n, options.kind).reshape(-1)
  where = live.place[:, number // TILE] * TILE + number % TILE
  bias = out.at[:, where].get(mode="promise_in_bounds")  # (H, B, N N)
  return bias.swapaxes(0, 1).reshape(events, heads, n, n)


def _backward(weights, momenta, extent, d_bias, *, options: reference.Options):
  n, heads = momenta.shape[1], d_bias.shape[1]
  live = _live(extent, n, options.kind)
  if PAIR_KINDS[options.kind].symmetric:
    d_bias = d_bias + d_bias.swapaxes(-1, -2)
  flat = d_bias.transpose(0, 2, 3, 1).reshape(-1, heads)

  def chunk(step, total):
    row = live.tiles[step]
    event, first, second = _pairs(row, momenta, options.kind)
    # Where there is no real pair, the bias plays no part: its gradient counts as zero.
    real = jnp.maximum(first, second) < extent[event]
    real = real & (row < live.place.size)[:, None]
    number = jnp.where(real, (event * n + first) * n + second, 0).reshape(-1)
    given = flat.at[number].get(mode="promise_in_bounds")  # (pairs, H)
    if PAIR_KINDS[options.kind].symmetric:  # a pair (i, i) was added to itself
      given = given * jnp.where(first == second, 0.5, 1.0).reshape(-1, 1).astype(given.dtype)
    given = jnp.where(real.reshape(-1, 1), given, 0)
    features = _features(row, momenta, options)
    _, pull = jax.vjp(
      lambda w: reference.pair_mlp(features, w, options.dtype, options.activation), weights
    )
    return jax.tree.map(jnp.add, total, pull(given.astype(options.dtype))[0])

  return jax.lax.fori_loop(0, live.chunks, chunk, jax.tree.map(jnp.zeros_like, weights))


_bias = bias_of(_forward, _backward)
