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
  total: jax.Array | None
  """None where every tile, also one without a particle, has a program of its own."""


def tiles_with_pairs(end: jax.Array, n: int, tile: Tile, symmetric: bool, programs: int) -> Work:
  """end (B,): particles of each event are before it; symmetric: only pairs i <= j are wanted.

  programs: most that share them. So many tiles at most are not put in a row, which takes XLA longer
  than a few events take the kernel.
  """
  row, column = _tiles_of(n, tile, symmetric)
  live = _holds_particles(row, column, end[:, None], tile)
  event = jax.lax.broadcasted_iota(jnp.int32, live.shape, 0)
  if live.size <= programs:
    event, row, column = (jnp.broadcast_to(x, live.shape).reshape(-1) for x in (event, row, column))
    return Work(event, row, column, total=None)
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

  def place_of(number):
    event, row, column = (triton.load(x.at[program + number * programs]) for x in work[:3])
    return event, row, column, triton.load(end.at[event])

  def step(number, state):
    event, row, column, last = place_of(number)
    place = jax.lax.iota(jnp.int32, tile.pairs)
    i, j = row * tile.rows + place // tile.columns, column * tile.columns + place % tile.columns
    return visit(event, Pairs(i, j, (i < last) & (j < last)), state)

  if work.total is None:
    _, row, column, last = place_of(0)
    share = _holds_particles(row, column, last, tile).astype(jnp.int32)
  else:
    share = jax.lax.div(work.total[()] - program + jnp.int32(programs - 1), jnp.int32(programs))
  return jax.lax.fori_loop(jnp.int32(0), share, step, state)


def _holds_particles(row: Any, column: Any, end: Any, tile: Tile) -> jax.Array:
  return (row * tile.rows < end) & (column * tile.columns < end)


def _tiles_of(n: int, tile: Tile, symmetric: bool) -> tuple[jax.Array, jax.Array]:
  """Row and column of every tile that is computed; operations only, no constant arrays."""
  rows, columns = tiles(n, tile.rows), tiles(n, tile.columns)
  if not symmetric:
    number = jax.lax.iota(jnp.int32, rows * columns)
    return number // columns, number % columns
  # Tiles with a pair i <= j, row by row: row r begins with tile r, after first(r) others.
  assert tile.rows == tile.columns, "a triangle of squares"

  def first(row):
    return row * (2 * rows - row + 1) // 2

  number = jax.lax.iota(jnp.int32, first(rows))
  begun = first(jax.lax.iota(jnp.int32, rows)) <= number[:, None]
  row = begun.sum(axis=1, dtype=jnp.int32) - 1
  return row, number - first(row) + row
