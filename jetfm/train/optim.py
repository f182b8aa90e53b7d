"""AdamW with warm-up and cosine decay, one learning-rate factor per group of parameters."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jetfm.train.finetune import path_name
from jetfm.typing import PyTree

NO_DECAY = r"(^|/)(bias|scale|[^/]*(token|query|queries|code|missing)[^/]*)$"
"""Last names of parameters that weight decay leaves alone, beside everything one-dimensional."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """AdamW and its schedule.

  Attributes:
    rate: highest learning rate.
    warmup: steps of linear warm-up.
    final: learning rate at the end, as a fraction of `rate`.
    restarts: how often the cosine starts again at `rate`; 0 is one plain cosine.
    weight_decay: decoupled; not applied to biases, norms and learned tokens.
    clip: largest global norm of the trained gradients; 0 turns clipping off.
    b1, b2, eps: of Adam.
  Raises: ValueError for a value that cannot train.
  """

  rate: float = 1e-3
  warmup: int = 0
  final: float = 0.01
  restarts: int = 0
  weight_decay: float = 0.01
  clip: float = 1.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not value >= 0:
        raise ValueError(f"optimizer: {field.name} is {value}, expected a number >= 0")


def schedule(options: Optimizer, steps: int) -> optax.Schedule:
  """Learning rate by step: linear warm-up, then `restarts + 1` cosines of equal length.

  Raises: ValueError when the warm-up leaves no step for the cosines.
  """
  cycles = options.restarts + 1
  if steps - options.warmup < cycles:
    raise ValueError(
      f"optimizer: {options.warmup} steps of warm-up and {cycles} cosine cycles do not fit into "
      f"{steps} steps; lower optimizer.warmup or raise steps"
    )
  # The first step already moves: its rate is one part of the warm-up, not zero.
  parts = [
    optax.linear_schedule(options.rate / (options.warmup + 1), options.rate, max(options.warmup, 1))
  ]
  edges = [options.warmup + (steps - options.warmup) * i // cycles for i in range(cycles + 1)]
  for begin, end in itertools.pairwise(edges):
    parts.append(optax.cosine_decay_schedule(options.rate, end - begin, options.final))
  return optax.join_schedules(parts, edges[:-1])


def decayed(params: PyTree) -> PyTree:
  """True for each parameter that weight decay acts on."""
  return jax.tree_util.tree_map_with_path(
    lambda path, p: p.ndim >= 2 and not re.search(NO_DECAY, path_name(path)), params
  )


def make_optimizer(
  options: Optimizer, steps: int, labels: PyTree, rates: Mapping[str, float]
) -> optax.GradientTransformation:
  """The optimizer of the trained parameters.

  Args:
    labels: the group of each trained parameter, None where frozen.
    rates: learning-rate factor of each group.
  """
  groups = {
    group: optax.adamw(
      _scaled(schedule(options, steps), factor),
      b1=options.b1,
      b2=options.b2,
      eps=options.eps,
      weight_decay=options.weight_decay,
      mask=decayed,
    )
    for group, factor in rates.items()
  }
  clip = clip_by_norm(options.clip) if options.clip else optax.identity()
  return optax.chain(clip, optax.multi_transform(groups, labels))


def updates_made(opt_state: PyTree) -> jax.Array:
  """How many updates an optimizer of `make_optimizer` has made: where its schedule stands."""
  return optax.tree_utils.tree_get_all_with_path(opt_state, "count")[0][1]


def global_norm(tree: PyTree) -> jax.Array:
  """The Euclidean norm of all elements, as `optax.tree.norm`.

  Of the leaves put together: one reduction, where one for each of some hundred parameters would
  keep a GPU busy with starting them.
  """
  elements = [x.ravel() for x in jax.tree.leaves(tree)] or [jnp.zeros(0)]
  return jnp.sqrt(jnp.sum(jnp.square(jnp.concatenate(elements))))


def clip_by_norm(largest: float) -> optax.GradientTransformation:
  """Scales updates down to a norm of `largest`, as `optax.clip_by_global_norm`."""

  def update(updates, state, params=None):
    del params
    norm = global_norm(updates)
    clipped = jax.tree.map(lambda x: jnp.where(norm < largest, x, x / norm * largest), updates)
    return clipped, state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scaled(rate: optax.Schedule, factor: float) -> optax.Schedule:
  return lambda count: factor * rate(count)
