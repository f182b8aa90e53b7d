"""Data parallelism: batches are split over all devices, everything else is copied to each."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from jetfm.typing import Array, Batch, PyTree

DATA = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with one axis over all devices. Auto axes: the compiler places the collectives."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """The same values on every device. Every process must come with the same ones."""
  return jax.tree.map(lambda x: place(x, replicated(mesh)), tree)


def place(x: Array, sharding: Sharding) -> jax.Array:
  """An array, which each process has whole, on the devices of a sharding."""
  if sharding.is_fully_addressable:
    return jax.device_put(x, sharding)
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    data = place(jax.random.key_data(x), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  whole = np.asarray(x)
  return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


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
