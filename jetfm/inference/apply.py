"""Groups of events through a compiled step, and the results back in the order of the events."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

import jax
import numpy as np

from jetfm.inference.groups import Group
from jetfm.typing import Batch

_AHEAD = 4  # groups that the device may work on before the oldest result is fetched
PER_EVENT = ("frame",)
"""Results that have no particle axis, among those of steps that give particles."""

Result = tuple[np.ndarray, dict[str, np.ndarray]]
"""Places of events, and named arrays of one row for each."""


def apply_to_groups(
  step: Callable[[Batch], dict[str, jax.Array]],
  groups: Iterable[Group],
  nothing: Batch,
  per_particle: Callable[[], int] | None = None,
) -> dict[str, np.ndarray]:
  """Results of all events, one row for each in the order in which they came.

  Args:
    step: of one group, whose results have a row for each of the group's.
    nothing: a group of filler, which tells the shapes when there are no events.
    per_particle: asked at the end for the padded length of results whose second axis is the
      group's length; None when there are none.
  """
  results: list[Result] = []
  running: collections.deque[tuple[np.ndarray, dict[str, jax.Array]]] = collections.deque()

  def fetch() -> None:
    places, made = running.popleft()
    results.append((places, {k: np.asarray(x)[: len(places)] for k, x in made.items()}))

  for places, batch in groups:
    running.append((places, step(jax.device_put(batch))))
    if len(running) > _AHEAD:
      fetch()
  while running:
    fetch()
  if not results:
    shapes = jax.eval_shape(step, nothing)
    empty = {k: np.zeros((0, *x.shape[1:]), x.dtype) for k, x in shapes.items()}
    results.append((np.zeros(0, int), empty))
  length = None if per_particle is None else per_particle()
  return {name: _in_order(results, name, length) for name in results[0][1]}


def _in_order(results: list[Result], name: str, length: int | None) -> np.ndarray:
  like = results[0][1][name]
  shape = list(like.shape[1:])
  padded = length is not None and name not in PER_EVENT
  if padded:
    shape[0] = length
  out = np.zeros((sum(len(places) for places, _ in results), *shape), like.dtype)
  for places, made in results:
    values = made[name]
    if padded:
      values = values[:, :length]
      out[places, : values.shape[1]] = values
    else:
      out[places] = values
  return out
