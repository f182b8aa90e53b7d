"""Which tiles of pairs the programs of the GPU kernels visit: of many, those with particles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jetfm.kernels.pallas import padded, tiles


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


class Share(NamedTuple):
  """How the tiles of all events are shared by programs."""

  n: int
  """Slots of an event."""
  tile: Tile
  symmetric: bool
  """Only pairs i <= j are wanted."""
  events: int
  most: int
  """Programs."""

  @property
  def shape(self) -> tuple[int, int]:
    return tiles(self.n, self.tile.rows), tiles(self.n, self.tile.columns)

  @property
  def tiles_of_event(self) -> int:
    rows, columns = self.shape
    return rows * (rows + 1) // 2 if self.symmetric else rows * columns

  @property
  def programs(self) -> int:
    return min(self.most, self.events * self.tiles_of_event)

  @property
  def one_each(self) -> bool:
    """Whether every tile has a program of its own, also one without a particle."""
    return self.programs == self.events * self.tiles_of_event

  def place(self, number: Any) -> tuple[jax.Array, jax.Array]:
    """Row and column of a tile of an event; here and in a kernel, by operations only."""
    rows, columns = self.shape
    if not self.symmetric:
      return jax.lax.div(number, jnp.int32(columns)), jax.lax.rem(number, jnp.int32(columns))
    # Tiles with a pair i <= j, row by row: row r begins with tile r, after first(r) others.
    assert self.tile.rows == self.tile.columns, "a triangle of squares"

    def first(row):
      return row * (2 * rows - row + 1) // 2

    row = jax.lax.iota(jnp.int32, padded(rows))
    row = ((row < rows) & (first(row) <= number)).sum(dtype=jnp.int32) - 1
    return row, number - first(row) + row

  def holds_particles(self, row: Any, column: Any, end: Any) -> jax.Array:
    """Of a tile, where the particles of its event are before `end`."""
    return (row * self.tile.rows < end) & (column * self.tile.columns < end)


class Work(NamedTuple):
  """Tiles of all events that hold a pair of particles, one after the other."""

  event: jax.Array
  """(B T,), as are `row` and `column`; the first `total` are tiles."""
  row: jax.Array
  column: jax.Array
  total: jax.Array


def tiles_with_pairs(end: jax.Array, share: Share) -> Work | None:
  """end (B,): particles of each event are before it.

  Returns: None where every tile has a program of its own, which then needs no list: to make one
    takes XLA longer than a few events take the kernel.
  """
  if share.one_each:
    return None
  row, column = jax.vmap(share.place)(jax.lax.iota(jnp.int32, share.tiles_of_event))
  live = share.holds_particles(row, column, end[:, None])
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


def visit_tiles(work: Any, end: Any, share: Share, visit: Callable[..., Any], state: Any) -> Any:
  """In a kernel: visit(event, pairs, state) -> state for every tile of this program's share."""
  program, tile = pl.program_id(0), share.tile

  def pairs_of(event, row, column):
    last, place = triton.load(end.at[event]), jax.lax.iota(jnp.int32, tile.pairs)
    i, j = row * tile.rows + place // tile.columns, column * tile.columns + place % tile.columns
    return event, Pairs(i, j, (i < last) & (j < last))

  if work is None:
    own = jnp.int32(share.tiles_of_event)
    event, number = jax.lax.div(program, own), jax.lax.rem(program, own)
    return visit(*pairs_of(event, *share.place(number)), state)

  def step(number, state):
    event, row, column = (triton.load(x.at[program + number * share.programs]) for x in work[:3])
    return visit(*pairs_of(event, row, column), state)

  programs = jnp.int32(share.programs)
  end_of_share = jax.lax.div(work.total[()] - program + programs - 1, programs)
  return jax.lax.fori_loop(jnp.int32(0), end_of_share, step, state)
