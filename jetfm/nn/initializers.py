"""Initial values of parameters, taken from one draw for each distribution.

Compilers need a quarter of a second for every array of random numbers in a program, which a model
of a hundred parameters makes the longest part of its start. Inside `drawn_together` there are two.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")
Initializer = Callable[..., jax.Array]
"""(key, shape, dtype=float32) -> array, as those of `jax.nn.initializers`."""
Draw = Callable[[jax.Array, Sequence[int]], jax.Array]
"""(key, shape) -> float32 array of independent numbers of one distribution."""

WITHIN = 0.87962566103423978
"""Standard deviation of a unit normal between -2 and 2."""


def _unit(key: jax.Array, shape: Sequence[int]) -> jax.Array:
  return jax.random.normal(key, shape, jnp.float32)


def _truncated(key: jax.Array, shape: Sequence[int]) -> jax.Array:
  return jax.random.truncated_normal(key, -2, 2, shape, jnp.float32)


_DRAWS: tuple[Draw, ...] = (_unit, _truncated)

Take = Callable[[Draw, Sequence[int]], jax.Array]
_TAKE: contextvars.ContextVar[Take | None] = contextvars.ContextVar("take", default=None)


@contextlib.contextmanager
def _taking(take: Take | None) -> Iterator[None]:
  token = _TAKE.set(take)
  try:
    yield
  finally:
    _TAKE.reset(token)


def _scaled(
  draw: Draw,
  deviation: Callable[[Sequence[int]], float],
  key: jax.Array,
  shape: Sequence[int],
  dtype: Any = jnp.float32,
  **_: Any,
) -> jax.Array:
  take = _TAKE.get()
  unit = draw(key, shape) if take is None else take(draw, shape)
  return (unit * deviation(shape)).astype(dtype)


def normal(deviation: float) -> Initializer:
  """Normal numbers of that standard deviation."""
  return functools.partial(_scaled, _unit, lambda shape: deviation)


def truncated_normal(deviation: float) -> Initializer:
  """Normal numbers of that standard deviation, drawn again beyond two of it."""
  return functools.partial(_scaled, _truncated, lambda shape: deviation)


def lecun_normal(scale: float = 1.0) -> Initializer:
  """Truncated normal numbers of variance scale / F for a kernel (F, D)."""

  def deviation(shape: Sequence[int]) -> float:
    inputs, _ = shape
    return math.sqrt(scale / inputs) / WITHIN

  return functools.partial(_scaled, _truncated, deviation)


def drawn_together(make: Callable[[], T], key: jax.Array) -> T:
  """make(), in which the initializers of this module share their draws.

  It is traced twice: first to count. What a parameter gets depends on the key and on those that
  are made before it, neither on its name nor on what comes after.
  """
  counted: dict[Draw, int] = {}

  def count(draw: Draw, shape: Sequence[int]) -> jax.Array:
    counted[draw] = counted.get(draw, 0) + math.prod(shape)
    return jnp.zeros(shape, jnp.float32)

  with _taking(count):
    jax.eval_shape(make)
  drawn = {
    draw: draw(jax.random.fold_in(key, _DRAWS.index(draw)), (size,))
    for draw, size in counted.items()
  }
  used = dict.fromkeys(drawn, 0)

  def take(draw: Draw, shape: Sequence[int]) -> jax.Array:
    start = used[draw]
    used[draw] = start + math.prod(shape)
    return jax.lax.slice(drawn[draw], (start,), (used[draw],)).reshape(shape)

  with _taking(take):
    return make()


@contextlib.contextmanager
def drawn_apart() -> Iterator[None]:
  """In here, nothing is taken: where a model is applied, Flax asks initializers for shapes."""
  with _taking(None):
    yield
