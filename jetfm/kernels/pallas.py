"""What all Pallas kernels need: tile sizes, products, calls. JAX versions differ only in here.

Pallas itself is imported where a kernel is called: `import jetfm` stays light.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

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


def elements(ref: Any, *index: Any) -> Any:
  """Elements of a reference, one for each position of indices that broadcast together."""
  index = tuple(jnp.asarray(i, jnp.int32) for i in index)
  shape = jnp.broadcast_shapes(*(i.shape for i in index))
  return ref.at[tuple(jnp.broadcast_to(i, shape) for i in index)]


def whole(x: Any) -> Any:
  """The block of a kernel all of whose programs see the whole array."""
  from jax.experimental import pallas as pl

  return pl.BlockSpec(x.shape, lambda *_: (0,) * len(x.shape))


def approximate_log(x: jax.Array) -> jax.Array:
  """log of float32 by NVIDIA's instruction: off by 2^-22 of the greatest logarithm near 1."""
  return _instruction("lg2.approx.f32 $0, $1;", x) * (1 / LOG2E)


def fused_multiply_add(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
  """a b + c of float32 in one instruction, which XLA does not let Triton choose by itself."""
  return _instruction("fma.rn.f32 $0, $1, $2, $3;", a, b, c)


def _instruction(assembly: str, *arrays: jax.Array) -> jax.Array:
  from jax.experimental.pallas import triton

  return triton.elementwise_inline_asm(
    assembly,
    args=arrays,
    constraints=",".join(["=f", *["f"] * len(arrays)]),
    pack=1,
    result_shape_dtypes=[jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)],
  )[0]


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


def mosaic_gpu_call(
  kernel: Callable[..., None],
  *,
  name: str,
  grid: dict[str, int],
  out_shape: tuple[Any, ...],
  scratch: dict[str, Any],
  aliases: dict[int, int] | None = None,
  interpret: bool = False,
) -> Callable[..., Any]:
  """A kernel for Hopper GPUs by Mosaic, whose interface in JAX still moves.

  The kernel is kernel(*inputs, *results, **scratch) on references to global memory, run by one
  warpgroup (128 threads) for every point of the grid, whose axes `jax.lax.axis_index` knows by
  name. A result may be the `aliases` of an input: it has its contents at first, and the kernel
  gets None for that input. With aliases, shard_map needs check_vma=False.
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import mosaic_gpu

  aliases = aliases or {}
  fresh = [number for number in range(len(out_shape)) if number not in aliases.values()]

  def call(*inputs):
    leaves, tree = jax.tree.flatten(inputs)
    kept = [number for number in range(len(leaves)) if number not in aliases]
    changed = tuple(aliases.values())

    def body(*refs):
      of_changed, of_inputs = refs[: len(changed)], refs[len(changed) : -len(fresh)]
      given = dict(zip(kept, of_inputs, strict=True))
      results = dict(zip((*changed, *fresh), (*of_changed, *refs[-len(fresh) :]), strict=True))
      arguments = jax.tree.unflatten(tree, [given.get(number) for number in range(len(leaves))])
      arguments += tuple(results[number] for number in range(len(results)))
      pl.run_scoped(functools.partial(kernel, *arguments), **scratch)

    launch = pl.kernel(
      body,
      out_type=tuple(out_shape[number] for number in fresh),
      mesh=mosaic_gpu.Mesh(grid=tuple(grid.values()), grid_names=tuple(grid)),
      compiler_params=mosaic_gpu.CompilerParams(
        approx_math=True,
        # JAX 0.11 changed the default. With all layouts written out, this is in every version.
        lowering_semantics=mosaic_gpu.LoweringSemantics.Lane,
      ),
      interpret=_mosaic_gpu_interpreter() if interpret else False,
      name=name,
    )
    unchanged = [leaves[number] for number in kept]
    if not changed:
      return launch(*unchanged)
    start = [leaves[number] for number in aliases]
    in_place = _interpreted_in_place if interpret else _in_place
    values = in_place(lambda *refs: launch(*refs, *unchanged), start, [out_shape[n] for n in fresh])
    results = dict(zip((*changed, *fresh), values, strict=True))
    return tuple(results[number] for number in range(len(results)))

  return call


def _in_place(launch: Callable[..., Any], start: list, fresh: list) -> tuple[jax.Array, ...]:
  """The values of references that begin at `start` after launch(*references), and its results.

  Since JAX 0.11 Mosaic takes no pallas_call, and what it takes has references for aliases. With
  those of `jax.new_ref` no program for several devices can be made (`jetfm.kernels.partition`).
  """
  from jax.experimental import pallas as pl

  def run(refs):
    results = launch(*refs[: len(start)])
    for ref, value in zip(refs[len(start) :], results, strict=True):
      ref[...] = value

  # Nothing of the zeros is left in the compiled program.
  return pl.run_state(run)((*start, *(jnp.zeros(x.shape, x.dtype) for x in fresh)))


def _interpreted_in_place(
  launch: Callable[..., Any], start: list, fresh: list
) -> tuple[jax.Array, ...]:
  """`_in_place` for the interpreter of JAX 0.10, which wants to know where references are."""
  from jax.experimental.pallas import mosaic_gpu

  del fresh
  refs = [jax.new_ref(x, memory_space=mosaic_gpu.GMEM) for x in start]
  results = launch(*refs)
  return (*(jax.freeze(ref) for ref in refs), *results)


def _mosaic_gpu_interpreter() -> Any:
  # JAX 0.10 has no public name for it.
  from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

  return InterpretGPUParams()


class Warpgroup(NamedTuple):
  """What the threads of a Mosaic GPU kernel do together.

  The interpreter of JAX 0.10 knows no layouts and no transposed references, that of 0.11 no
  products with registers: with `interpret` there are plain arrays instead.
  """

  interpret: bool = False

  def load(self, ref: Any, layout: Any, *, optimized: bool = True) -> jax.Array:
    """An array in registers; `optimized` has to hold for shared memory only."""
    from jax.experimental.pallas import mosaic_gpu

    if self.interpret:
      return ref[...]
    index = ((),) if jax.__version_info__ < (0, 11) else ()
    return mosaic_gpu.load(ref, *index, layout=layout, optimized=optimized)

  def full(self, shape: tuple[int, ...], value: float, layout: Any) -> jax.Array:
    """A float32 constant in registers."""
    from jax.experimental.pallas import mosaic_gpu

    constant = jnp.full(shape, value, jnp.float32)
    return constant if self.interpret else mosaic_gpu.layout_cast(constant, layout)

  def product(self, a: Any, b: Any, *, turn_a: bool = False, turn_b: bool = False) -> jax.Array:
    """Float32 product of matrices, `turn`ed first; a may be in registers, b is in shared memory.

    What was stored to shared memory has to be committed before.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu

    if self.interpret:
      a, b = (x if isinstance(x, jax.Array) else x[...] for x in (a, b))
      a, b = (x.T if turn else x for x, turn in ((a, turn_a), (b, turn_b)))
      return jnp.dot(a, b, preferred_element_type=jnp.float32)
    a, b = (_transposed(x) if turn else x for x, turn in ((a, turn_a), (b, turn_b)))

    def run(total):
      mosaic_gpu.wgmma(total, a, b)
      return total[...]

    return pl.run_scoped(run, mosaic_gpu.ACC((a.shape[0], b.shape[1]), jnp.float32))


def _transposed(ref: Any) -> Any:
  from jax.experimental.pallas import mosaic_gpu

  if jax.__version_info__ < (0, 11):
    return mosaic_gpu.transpose_ref(ref, (1, 0))
  return ref.transpose((1, 0))
