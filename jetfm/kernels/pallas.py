"""What all Pallas kernels need: tile sizes, products, calls. JAX versions differ only in here.

Pallas itself is imported where a kernel is called: `import jetfm` stays light.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LOG2E = 1.4426950408889634
"""exp(x) = exp2(x LOG2E): GPUs have an instruction for the second."""

SMALLEST_DOT = 16
"""Tensor cores multiply matrices whose sides are at least this long."""


def accumulator(dtype: Any) -> Any:
  """The dtype of sums: float32, or float64 for float64."""
  return jnp.promote_types(dtype, jnp.float32)


def padded(size: int) -> int:
  """The power of two, 16 at least, that holds `size`: the only lengths that a Triton tile has."""
  return max(SMALLEST_DOT, 1 << (size - 1).bit_length())


def tiles(size: int, tile: int) -> int:
  """How many tiles cover `size`."""
  return -(-size // tile)


def live_tiles(end: jax.Array, tile: int) -> jax.Array:
  """The same for an int32 that is known only when the kernel runs."""
  return jax.lax.div(end + jnp.int32(tile - 1), jnp.int32(tile))


def dot(a: jax.Array, b: jax.Array, contract: tuple[int, int] = (1, 0)) -> jax.Array:
  """Product of two matrices over one axis of each, summed in `accumulator` precision.

  Products of float32 stay float32: without a precision GPUs and TPUs take fewer bits.
  """
  precise = None if a.dtype.itemsize < 4 else jax.lax.Precision.HIGHEST
  dimensions = (((contract[0],), (contract[1],)), ((), ()))
  return jax.lax.dot_general(
    a, b, dimensions, precision=precise, preferred_element_type=accumulator(a.dtype)
  )


def result(shape: tuple[int, ...], dtype: Any, *inputs: Any) -> jax.ShapeDtypeStruct:
  """Shape of a kernel's result; inside shard_map it varies over the axes that its inputs do."""
  varying: frozenset = frozenset()
  for x in jax.tree.leaves(inputs):
    varying |= jax.typeof(x).manual_axis_type.varying
  kind = jax.sharding.ManualAxisType(varying=varying)
  return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=kind)


def triton_call(
  kernel: Callable[..., None],
  *,
  name: str,
  grid: tuple[int, ...],
  in_specs: Any,
  out_specs: Any,
  out_shape: Any,
  warps: int,
  stages: int = 1,
  aliases: dict[int, int] | None = None,
  interpret: bool = False,
) -> Callable[..., Any]:
  """pallas_call with the Triton backend, which JAX does not choose by itself in every version."""
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import triton

  return pl.pallas_call(
    kernel,
    name=name,
    grid=grid,
    in_specs=in_specs,
    out_specs=out_specs,
    out_shape=out_shape,
    input_output_aliases=aliases or {},
    compiler_params=triton.CompilerParams(num_warps=warps, num_stages=stages),
    interpret=interpret,
  )


def tpu_call(
  kernel: Callable[..., None],
  *,
  name: str,
  grid: tuple[int, ...],
  in_specs: Any,
  out_specs: Any,
  out_shape: Any,
  in_order: bool = False,
  aliases: dict[int, int] | None = None,
  interpret: bool = False,
) -> Callable[..., Any]:
  """pallas_call with the TPU backend; `in_order` when programs add to the same result."""
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import tpu

  semantics: Any = ("arbitrary" if in_order else "parallel",) * len(grid)
  return pl.pallas_call(
    kernel,
    name=name,
    grid=grid,
    in_specs=in_specs,
    out_specs=out_specs,
    out_shape=out_shape,
    input_output_aliases=aliases or {},
    compiler_params=tpu.CompilerParams(dimension_semantics=semantics),
    interpret=interpret,
  )
