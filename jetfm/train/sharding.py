"""Data parallelism: batches are split over all devices, everything else is copied to each."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jetfm.typing import Batch, PyTree

DATA = "data"


def initialize_distributed() -> None:
  """Joins the processes of one run when the environment asks for it.

  It does so with JAX_COORDINATOR_ADDRESS set, or in a Slurm step (srun) of several tasks. Must come
  before anything else that touches devices.
  """
  several_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
  if "JAX_COORDINATOR_ADDRESS" in os.environ or several_tasks:
    jax.distributed.initialize()


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with one axis over all devices. Auto axes: the compiler places the collectives."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """The same values on every device."""
  return jax.device_put(tree, replicated(mesh))


def shard_batches(batches: tuple[Batch, ...], mesh: Mesh, axis: int = 0) -> tuple[Batch, ...]:
  """This process's part of each length group -> global arrays, split over events.

  Args:
    axis: where events are; 1 when several global batches are stacked for accumulation.
  Raises: ValueError when a group cannot be split evenly.
  """
  spec = NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))
  local_devices = mesh.local_mesh.size
  for batch in batches:
    events = batch.mask.shape[axis]
    if events % local_devices:
      raise ValueError(
        f"the length group of {batch.mask.shape[-1]} particles has {events} events for "
        f"{local_devices} devices; choose a batch size whose groups divide evenly"
      )
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(spec, np.asarray(x)), batches
  )
