"""Choosing one of several implementations of an operation, by name or by platform."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jetfm.names import nearest

HALF = ("bfloat16", "float16")
SINGLE = (*HALF, "float32")


class Implementation(NamedTuple):
  """One way to compute an operation, and what it can do.

  Attributes:
    module: where its function is; imported when it is first asked for.
    function: its name there.
    options: further arguments of the function.
    platform: 'gpu' (NVIDIA) or 'tpu', or None for any.
    particles: most particles of an event, or None.
    dtypes: of its arguments, or None for any.
    width: greatest width of a head or a layer, or None.
    devices: what the name of a device of the platform contains, one of these, or None for any.
  """

  module: str
  function: str
  options: Mapping[str, Any] = {}
  platform: str | None = None
  particles: int | None = None
  dtypes: tuple[str, ...] | None = None
  width: int | None = None
  devices: tuple[str, ...] | None = None

  def __call__(self, *arrays: Any, **options: Any) -> Any:
    return self.load()(*arrays, **self.options, **options)

  def load(self) -> Callable[..., Any]:
    """Raises: ImportError where this version of JAX lacks what the implementation is made of."""
    return getattr(importlib.import_module(self.module), self.function)

  def refusal(self, particles: int, dtypes: Sequence[Any], width: int = 0) -> str | None:
    """Why it cannot do this, on any machine; None if it can."""
    if self.particles is not None and particles > self.particles:
      return f"takes up to {self.particles} particles, got {particles}"
    for name in (jnp.dtype(dtype).name for dtype in dtypes):
      if self.dtypes is not None and name not in self.dtypes:
        return f"takes {', '.join(self.dtypes)}, got {name}"
    if self.width is not None and width > self.width:
      return f"takes widths up to {self.width}, got {width}"
    return None

  def wrong_machine(self) -> str | None:
    """Why it cannot run on the device that the program is for; None if it can."""
    if self.platform is not None and self.platform != target_platform():
      return f"runs on {_MACHINES[self.platform]}, this program is for '{target_platform()}'"
    if self.devices is not None and self.platform is not None:
      kind = target_device_kind()
      if not any(name in kind for name in self.devices):
        return f"runs on {' '.join(self.devices)}, this program is for '{kind}'"
    if self.platform == "gpu" and (has := target_capability()) < AMPERE:
      return f"needs the compute capability {AMPERE}, this GPU has {has}"
    return None


Table = Mapping[str, Implementation]


def by_name(operation: str, name: str, table: Table, **call: Any) -> Implementation:
  """The implementation of that name, for a call described as in `Implementation.refusal`.

  Raises: ValueError for a name that is not in the table, NotImplementedError if it cannot do this.
  """
  if name not in table:
    near = nearest(name, table)
    raise ValueError(
      f"{operation} has no implementation '{name}'; the nearest is '{near}' of "
      f"{list(table)}, and None chooses by itself"
    )
  chosen = table[name]
  reason = chosen.refusal(**call) or chosen.wrong_machine()
  if reason is not None:
    raise NotImplementedError(
      f"{operation}: '{name}' {reason}. implementation=None chooses one that can, 'xla' can always"
    )
  return chosen


_MACHINES = {"gpu": "NVIDIA GPUs", "tpu": "TPUs"}
AMPERE = 8.0
"""Least compute capability of NVIDIA GPUs that XLA compiles Triton for."""


def target_platform() -> str:
  """'cpu', 'gpu' or 'tpu': of the abstract mesh that one lowers for, or JAX's default backend."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def target_device_kind() -> str:
  """What the device is called, such as 'NVIDIA H100 80GB HBM3'."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.devices()[0].device_kind if device is None else device.device_kind


def target_capability() -> float:
  """Compute capability of an NVIDIA GPU; infinite where it is not known, as of an abstract one."""
  device = jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]
  try:
    return float(getattr(device, "compute_capability", math.inf))
  except ValueError:  # AMD's have names
    return math.inf


def by_platform(
  default: Implementation,
  kernels: Mapping[str, Sequence[Implementation]],
  *arrays: Any,
  call: Mapping[str, Any],
  options: Mapping[str, Any],
) -> Any:
  """Runs what is best on the platform that the program is lowered for, and can do the call.

  Only a kernel of `target_platform` is traced: to lower for a machine that is not here, do so
  under an abstract mesh of its devices.
  arrays: without any number in the first one, the default does it.
  kernels: platform of `jax.lax.platform_dependent` ('cuda', 'tpu', 'cpu') -> implementations, the
    best first.
  """
  if not jax.tree.leaves(arrays)[0].size:  # no kernel has a grid of nothing
    return default(*arrays, **options)
  platform = {"gpu": "cuda"}.get(target_platform(), target_platform())
  able = (kernel for kernel in kernels.get(platform, ()) if can_run(kernel, call))
  kernel = next(able, default)
  if kernel.platform is None:
    return kernel(*arrays, **options)

  def of(implementation: Implementation) -> Callable[..., Any]:
    return lambda *arrays: implementation(*arrays, **options)

  return jax.lax.platform_dependent(*arrays, default=of(default), **{platform: of(kernel)})


def can_run(kernel: Implementation, call: Mapping[str, Any]) -> bool:
  """Whether it can do the call, described as in `Implementation.refusal`, on the target machine."""
  if kernel.refusal(**call) or kernel.wrong_machine():
    return False
  try:
    kernel.load()
  except ImportError:  # JAX will drop its Triton backend some day
    return False
  return True
