"""Several processes of one run: how they find each other, and who decides.

Only the first process touches the run's folder. What it reads or decides there the others are told,
so that all take the same way, and folders need not look the same from everywhere at every moment.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

_SHUTDOWN_SECONDS = 30  # a process that fails alone waits so long for the others; then all end


def initialize_distributed() -> None:
  """Joins the processes of one run when the environment asks for it (`distributed_options`).

  Must come before anything else that touches devices.
  Raises: ValueError when the variables are incomplete or not numbers.
  """
  options = distributed_options(os.environ)
  if options is not None:
    jax.distributed.initialize(**options, shutdown_timeout_seconds=_SHUTDOWN_SECONDS)


def distributed_options(environment: Mapping[str, str]) -> dict[str, Any] | None:
  """What `jax.distributed.initialize` is told; None for a process on its own.

  Processes join when JAX_COORDINATOR_ADDRESS (host:port of the first one), JAX_NUM_PROCESSES and
  JAX_PROCESS_ID are set, and in a Slurm step (srun) of several tasks also without. A process uses
  the GPUs of JAX_LOCAL_DEVICE_IDS. Without it: all that it sees, except in a Slurm step with
  several tasks on a node that see the same GPUs, where it is the one of its rank on the node.

  Raises: ValueError when the variables are incomplete or not numbers.
  """
  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  given = [name for name in names if environment.get(name)]
  slurm = int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1
  if not given and not slurm:
    return None
  if missing := [name for name in names if name not in given and not slurm]:
    raise ValueError(f"{' and '.join(given)} set without {' and '.join(missing)}")
  options: dict[str, Any] = {}
  for name, key in zip(names[1:], ("num_processes", "process_id"), strict=True):
    if name in given:
      if not environment[name].isdecimal():
        raise ValueError(f"{name} is '{environment[name]}', expected a number")
      options[key] = int(environment[name])
  if slurm and not environment.get("JAX_LOCAL_DEVICE_IDS"):
    # JAX's own rule is the GPU of the rank on the node. It is not what is meant where Slurm has
    # bound each task to one GPU, and where one task has a node with all its GPUs.
    visible = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    alone = environment["SLURM_STEP_NUM_TASKS"] == environment.get("SLURM_STEP_NUM_NODES")
    if visible and (alone or len(visible) == 1):
      options["local_device_ids"] = list(range(len(visible)))
  return options


def is_first() -> bool:
  """Whether this process writes files and messages: exactly one of a run does."""
  return jax.process_index() == 0


def from_first(function: Callable[[], T]) -> T:
  """What the function returns or raises in the first process, in all of them.

  It is called in the first process only; all must come here together. Its result is pickled: no
  arrays on devices.
  """
  if jax.process_count() == 1:
    return function()
  payload = b""
  if is_first():
    try:
      payload = pickle.dumps((function(), None))
    except Exception as error:  # the others wait, and must hear of it
      payload = _pickled(error)
  value, failure = pickle.loads(_broadcast(payload))
  if failure is not None:
    raise failure
  return value


def any_process(flag: bool) -> jax.Array:
  """() whether the flag is set in any process: computed on the devices, and not waited for."""
  return _any()(_flags(flag))


@functools.cache
def _all_devices() -> Mesh:
  return jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))


@functools.cache
def _any() -> Callable[[jax.Array], jax.Array]:
  return jax.jit(jnp.any, out_shardings=NamedSharding(_all_devices(), PartitionSpec()))


@functools.cache
def _flags(flag: bool) -> jax.Array:
  """(devices,) this process's part holds the flag."""
  mesh = _all_devices()
  sharding = NamedSharding(mesh, PartitionSpec("all"))
  return jax.make_array_from_process_local_data(sharding, np.full(mesh.local_mesh.size, flag))


def _pickled(error: Exception) -> bytes:
  try:
    return pickle.dumps((None, error))
  except Exception:
    return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))


def _broadcast(payload: bytes) -> bytes:
  """The first process's payload; the others' is not looked at."""
  head = np.frombuffer(len(payload).to_bytes(8, "little"), np.uint8)
  size = int.from_bytes(multihost_utils.broadcast_one_to_all(head).tobytes(), "little")
  # Few sizes, few compilations.
  padded = np.zeros(1 << max(10, (size - 1).bit_length()), np.uint8)
  padded[: len(payload)] = np.frombuffer(payload, np.uint8)
  return multihost_utils.broadcast_one_to_all(padded)[:size].tobytes()
