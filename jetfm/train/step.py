"""One training step and one evaluation step, pure and compiled, over a tuple of length groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jetfm.models.foundation import FoundationModel, Variables, named_key
from jetfm.tasks.base import Statistics, Task
from jetfm.train.balance import balanced_gradient
from jetfm.train.finetune import FROZEN, frozen, merge, trainable
from jetfm.train.optim import global_norm, updates_made
from jetfm.train.sharding import replicated
from jetfm.train.state import TrainState
from jetfm.typing import Array, Batch, PyTree

WeightedTasks = Sequence[tuple[Task, float]]
Augmentation = Callable[[jax.Array, Batch], Batch]
Logs = dict[str, Array]

AFTER_WARMUP = 2**30
"""The step that evaluation gives to losses: warm-ups are over, so that its results compare."""


def group_statistics(
  model: FoundationModel,
  tasks: WeightedTasks,
  variables: Variables,
  batch: Batch,
  key: jax.Array,
  noise: jax.Array,
  *,
  train: bool,
  encoder_train: bool,
  augment: Augmentation | None = None,
) -> dict[str, Statistics]:
  """Statistics of every task for one length group; the encoder runs once per distinct view.

  Augmentations and views draw from `key` and the events' numbers: they do not depend on where an
  event is. Dropout and samples draw from `noise`, which is another for each group.
  """
  if augment is not None:
    batch = augment(named_key(key, "augment"), batch)
  own = {task.name: task.views(named_key(key, "views"), batch, train) for task, _ in tasks}
  views = {name: view for mine in own.values() for name, view in mine.items()}
  encoded = {
    name: model.encode(
      variables, view, deterministic=not encoder_train, key=named_key(noise, f"encoder/{name}")
    )
    for name, view in views.items()
  }
  statistics = {}
  for task, _ in tasks:
    mine = {name: views[name] for name in own[task.name]}
    outputs = model.head(
      task.name,
      variables,
      {name: encoded[name] for name in mine},
      mine,
      deterministic=not train,
      key=named_key(noise, f"heads/{task.name}"),
    )
    statistics[task.name] = task.statistics(outputs, mine, batch)
  return statistics


def global_statistics(
  model: FoundationModel,
  tasks: WeightedTasks,
  variables: Variables,
  groups: tuple[Batch, ...],
  key: jax.Array,
  noise: jax.Array,
  *,
  remat: bool = False,
  **options: Any,
) -> tuple[dict[str, Statistics], Array]:
  """Statistics and weights (B,) of the global batch: all groups, one after the other.

  With `remat` the backward pass computes each group's activations anew, so that only one group's
  are in memory at a time. The result is the same also for losses that do not add over events.
  """

  def of_group(variables, batch, key, noise):
    return group_statistics(model, tasks, variables, batch, key, noise, **options)

  if remat:
    of_group = jax.checkpoint(of_group)
  parts = [
    of_group(variables, batch, key, jax.random.fold_in(noise, i)) for i, batch in enumerate(groups)
  ]
  statistics = jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
  return statistics, jnp.concatenate([batch.weight for batch in groups])


def make_train_step(
  model: FoundationModel,
  tasks: WeightedTasks,
  optimizer: optax.GradientTransformation,
  labels: PyTree,
  *,
  augment: Augmentation | None = None,
  accumulate: int = 1,
  remat: bool = False,
  mesh: Mesh | None = None,
  rate: optax.Schedule | None = None,
  balance: str = "fixed",
) -> Callable[[TrainState, tuple[Batch, ...]], tuple[TrainState, Logs]]:
  """step(state, groups) -> (state, logs), compiled; the given state's memory is reused.

  The loss is the weighted sum of the tasks' losses, each on the global batch. With `accumulate` =
  k > 1 every leaf of `groups` has a leading axis of k successive global batches, whose gradients
  are averaged: exactly the k times larger batch for losses that are means over events of equal
  total weight, and close to it for others. Gradients are computed for trained parameters only; an
  encoder without any runs without dropout. A step whose loss or gradient is not finite changes
  neither parameters nor optimizer, and counts in `state.nonfinite` until a finite one. `rate`, the
  schedule of the learning rate, is only logged. `balance` says how the tasks' gradients are put
  together, see `jetfm.train.balance`; the logged `loss` is the weighted sum with all of them.
  Raises: ValueError for another balance.
  """
  encoder_train = any(group != FROZEN for group in jax.tree.leaves(labels["encoder"]))

  def losses_of(trained, state: TrainState, groups, key):
    variables = {
      "params": merge(trained, frozen(state.params, labels)),
      "constants": state.constants,
    }
    statistics, weight = global_statistics(
      model,
      tasks,
      variables,
      groups,
      key,
      named_key(key, "noise"),
      remat=remat,
      train=True,
      encoder_train=encoder_train,
      augment=augment,
    )
    _, logs = weighted_loss(tasks, statistics, weight, state.step)
    return {task.name: logs[f"{task.name}/loss"] for task, _ in tasks}, logs

  factors = {task.name: factor for task, factor in tasks}
  gradient = balanced_gradient(losses_of, factors, balance)

  def step(state: TrainState, groups: tuple[Batch, ...]) -> tuple[TrainState, Logs]:
    trained = trainable(state.params, labels)
    key = jax.random.fold_in(state.key, state.step)

    def micro(i, batch):
      return gradient(trained, state, batch, jax.random.fold_in(key, i))

    if accumulate == 1:
      grads, logs = micro(0, groups)
    else:
      # The sum is carried: one gradient tree in memory, whatever the number of batches.
      def add(total, x):
        return jax.tree.map(jnp.add, total, micro(*x)), None

      first = jax.eval_shape(lambda: micro(0, jax.tree.map(lambda x: x[0], groups)))
      zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
      total, _ = jax.lax.scan(add, zeros, (jnp.arange(accumulate), groups))
      grads, logs = jax.tree.map(lambda x: x / accumulate, total)
    norm = global_norm(grads)
    finite = jnp.isfinite(norm) & jnp.isfinite(logs["loss"])
    if rate is not None:
      logs |= {"rate": rate(updates_made(state.opt_state))}
    updates, opt_state = optimizer.update(grads, state.opt_state, trained)
    trained, opt_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old),
      (optax.apply_updates(trained, updates), opt_state),
      (trained, state.opt_state),
    )
    nonfinite = jnp.where(finite, 0, state.nonfinite + 1)
    state = dataclasses.replace(
      state,
      step=state.step + 1,
      params=merge(trained, frozen(state.params, labels)),
      opt_state=opt_state,
      nonfinite=nonfinite,
    )
    logs |= {"grad_norm": norm, "nonfinite": nonfinite}
    return state, logs

  shardings: dict[str, Any] = {} if mesh is None else {"out_shardings": replicated(mesh)}
  return jax.jit(step, donate_argnums=0, **shardings)


def make_eval_step(
  model: FoundationModel, tasks: WeightedTasks, *, mesh: Mesh | None = None
) -> Callable[[Variables, tuple[Batch, ...], jax.Array, Array], Logs]:
  """step(variables, groups, key, i) -> sums over global batch i, name -> (numerator, denominator).

  Random views draw from `key` and the events' numbers, samples also from i. Names are `loss`,
  `<task>/<term of its loss>` and `<task>/<metric>`. Sums add over batches; their quotients are the
  results (`quotients`). A loss counts as many times as its batch has events: where a task has
  something to say about few of them, its metrics are exact and its loss is not quite their mean.
  """

  def step(variables: Variables, groups: tuple[Batch, ...], key: jax.Array, i: Array) -> Logs:
    noise = jax.random.fold_in(named_key(key, "noise"), i)
    statistics, weight = global_statistics(
      model, tasks, variables, groups, key, noise, train=False, encoder_train=False
    )
    _, terms = weighted_loss(tasks, statistics, weight, jnp.asarray(AFTER_WARMUP, jnp.int32))
    total = weight.sum()
    sums: dict[str, Any] = {
      name: jnp.stack([value * total, total]) for name, value in terms.items()
    }
    for task, _ in tasks:
      for name, pair in task.metrics(statistics[task.name], weight).items():
        sums[f"{task.name}/{name}"] = pair
    return sums

  shardings: dict[str, Any] = {} if mesh is None else {"out_shardings": replicated(mesh)}
  return jax.jit(step, **shardings)


def weighted_loss(
  tasks: WeightedTasks, statistics: Mapping[str, Statistics], weight: Array, step: Array
) -> tuple[Array, Logs]:
  """Sum of the tasks' losses times their weights, and all named terms, `loss` included."""
  total: Array = jnp.zeros(())
  logs: Logs = {}
  for task, factor in tasks:
    value, terms = task.loss(statistics[task.name], weight, step)
    if factor:  # 0 times what is not finite would not be 0
      total = total + factor * value
    logs[f"{task.name}/loss"] = value
    logs |= {f"{task.name}/{name}": term for name, term in terms.items()}
  return total, {"loss": total} | logs


def quotients(sums: Mapping[str, Array]) -> dict[str, float]:
  """Sums over an evaluation -> values; a metric without a single event is not a number."""
  pairs = {name: (float(pair[0]), float(pair[1])) for name, pair in sums.items()}
  return {name: a / b if b else float("nan") for name, (a, b) in pairs.items()}
