"""Which tiles of pairs the programs of the GPU kernels visit: those that hold particles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.pallas import tiles


class Tile(NamedTuple):
  """Pairs of `rows` particles with `columns` particles, and how many warps work on them."""

  rows: int
  columns: int
  warps: int

  @property
  def pairs(self) -> int:
    return self.rows * self.columns


class Pairs(NamedTuple):
  """The pairs of a tile, one after the other."""

  i: jax.Array
  j: jax.Array
  counts: jax.Array
  """Both particles are inside the event."""


class Work(NamedTuple):
  """Tiles of all events that hold a pair of particles, one after the other."""

  event: jax.Array
  """(B T,), as are `row` and `column`; the first `total` are tiles."""
  row: jax.Array
  column: jax.Array
  total: jax.Array


def tiles_with_pairs(end: jax.Array, n: int, tile: Tile, symmetric: bool) -> Work:
  """end (B,): particles of each event are before it; symmetric: only pairs i <= j are wanted."""
  row, column = _tiles_of(n, tile, symmetric)
  live = (row * tile.rows < end[:, None]) & (column * tile.columns < end[:, None])
  event = jax.lax.broadcasted_iota(jnp.int32, live.shape, 0)
  flat = live.reshape(-1)
  total, before = flat.sum(dtype=jnp.int32), jnp.cumsum(flat, dtype=jnp.int32) - flat
  number = jax.lax.iota(jnp.int32, flat.size)
  place = jnp.where(flat, before, total + number - before)  # the others follow

  def in_a_row(x):
    x = jnp.broadcast_to(x, live.shape).reshape(-1)
    empty = jnp.zeros_like(x)
    return empty.at[place].set(x, unique_indices=True, mode="promise_in_bounds")

  return Work(in_a_row(event), in_a_row(row), in_a_row(column), total)


def visit_tiles(
  work: Any, end: Any, tile: Tile, programs: int, visit: Callable[..., Any], state: Any
) -> Any:
  """In a kernel: visit(event, pairs, state) -> state for every tile of this program's share."""
  program = pl.program_id(0)

  def step(number, state):
    event, row, column = (triton.load(x.at[program + number * programs]) for x in work[:3])
    last = triton.load(end.at[event])
    place = jax.lax.iota(jnp.int32, tile.pairs)
    i, j = row * tile.rows + place // tile.columns, column * tile.columns + place % tile.columns
    return visit(event, Pairs(i, j, (i < last) & (j < last)), state)

  share = jax.lax.div(work.total[()] - program + jnp.int32(programs - 1), jnp.int32(programs))
  return jax.lax.fori_loop(jnp.int32(0), share, step, state)


def _tiles_of(n: int, tile: Tile, symmetric: bool) -> tuple[jax.Array, jax.Array]:
  """Row and column of every tile that is computed; operations only, no constant arrays."""
  rows, columns = tiles(n, tile.rows), tiles(n, tile.columns)
  number = jax.lax.iota(jnp.int32, rows * columns)
  row, column = number // columns, number % columns
  if not symmetric:
    return row, column
  # Tiles with a pair i <= j, in their order: the others sort behind them.
  wanted = row * tile.rows < (column + 1) * tile.columns
  count = sum((c + 1) * tile.columns > r * tile.rows for r in range(rows) for c in range(columns))
  number = jnp.sort(jnp.where(wanted, number, rows * columns))[:count]
  return number // columns, number % columns
