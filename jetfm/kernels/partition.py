"""Kernels on several devices: each takes its own events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


def varying_as(tree: Any, *others: Any) -> Any:
  """The arrays of a tree, inside a shard_map made to vary over the axes that others vary over.

  So that a backward pass may give every device's own gradient of weights that all have alike: JAX
  adds them up where it takes this back.
  """

  def axes(x):
    return jax.typeof(x).manual_axis_type.varying

  wanted = frozenset().union(*(axes(x) for x in jax.tree.leaves(others)))

  def vary(x):
    missing = tuple(sorted(wanted - axes(x)))
    return jax.lax.pcast(x, missing, to="varying") if missing else x

  return jax.tree.map(vary, tree)


def split_over_events(
  function: Callable[..., Any], *arrays: Any, whole: tuple[int, ...] = (), summed: bool = False
) -> Any:
  """function(*arrays), split over devices as the compiler has split the events.

  The compiler cannot look into a kernel: left alone, it would bring all events to every device.

  Args:
    arrays: trees; axis 0 of every array counts events, but for those numbered in `whole`.
    whole: numbers of the arguments that every device has whole.
    summed: the results are sums over events (to be added over devices); else axis 0 counts events.
  """
  leaves: list[Any]
  tree: Any
  leaves, tree = jax.tree.flatten(arrays)
  of_events = [
    number not in whole for number, array in enumerate(arrays) for _ in jax.tree.leaves(array)
  ]
  results_tree: Any
  results, results_tree = jax.tree.flatten(jax.eval_shape(function, *arrays))

  def run(*leaves):
    return tuple(jax.tree.leaves(function(*jax.tree.unflatten(tree, leaves))))

  def partition(mesh, shapes, result_shapes):
    del result_shapes
    axes = next(
      (x.sharding.spec[:1] for x, flag in zip(shapes, of_events, strict=True) if flag), ()
    )
    axes = tuple(axes) or (None,)

    def on_a_device(*leaves):
      values = run(*leaves)
      return jax.lax.psum(values, axes[0]) if summed and axes[0] is not None else values

    def sharding(split):
      return NamedSharding(mesh, PartitionSpec(*axes) if split else PartitionSpec())

    ours = [sharding(not summed) for _ in results]
    return mesh, on_a_device, tuple(ours), tuple(sharding(flag) for flag in of_events)

  def rule(flags, arrays, prefix):
    """'b p0_1 p0_2, ...': axes with one name are split alike, others not at all."""
    terms = []
    for number, (flag, x) in enumerate(zip(flags, arrays, strict=True)):
      names = [f"{prefix}{number}_{axis}" for axis in range(x.ndim)]
      terms.append(" ".join(["b", *names[1:]] if flag and names else names))
    return ", ".join(terms)

  split = custom_partitioning(run)
  split.def_partition(
    partition=partition,
    sharding_rule=(
      f"{rule(of_events, leaves, 'x')} -> {rule([not summed] * len(results), results, 'y')}"
    ),
  )
  batched = custom_vmap(split)

  @batched.def_vmap
  def vmapped(axis_size, in_batched, *leaves):
    if all(of_events) and not summed:  # more events, for the same kernel
      leaves = tuple(
        jax.lax.collapse(x if flag else jnp.broadcast_to(x, (axis_size, *x.shape)), 0, 2)
        for x, flag in zip(leaves, in_batched, strict=True)
      )
      values = batched(*leaves)
      values = tuple(x.reshape(axis_size, x.shape[0] // axis_size, *x.shape[1:]) for x in values)
      return values, tuple(True for _ in values)
    axes = [0 if flag else None for flag in in_batched]
    return jax.vmap(run, in_axes=axes)(*leaves), tuple(True for _ in results)

  return jax.tree.unflatten(results_tree, batched(*leaves))
