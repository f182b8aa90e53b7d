"""What lies between two attentions as two kernels: the contract, and their names.

A norm and the linear layer after it, and all that a block does after its attention. Between two
kernels a token is in memory once, where XLA's programs bring it there and back at every norm, and
the hidden layer, four times as wide, never. For one event or a few, a GPU needs longer to start a
kernel than to run it, and these are few.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jetfm.kernels.implementations import (
  HALF,
  SINGLE,
  Implementation,
  by_name,
  by_platform,
  can_run,
)
from jetfm.kernels.token_layers import reference
from jetfm.kernels.token_layers.weights import BlockDropout, ResidualWeights
from jetfm.typing import Array

_TRITON = "jetfm.kernels.token_layers.triton"
WIDEST, WIDEST_RESIDUAL = 512, 128
"""Numbers of a token in a kernel: they are in registers, in `residual_mlp` also a matrix (D, D) in
shared memory."""


def _table(function: str, width: int) -> dict[str, Implementation]:
  return {
    "xla": Implementation(reference.__name__, function),
    "triton": Implementation(_TRITON, function, {}, "gpu", None, SINGLE, width),
    "interpret": Implementation(
      _TRITON, function, {"interpret": True}, None, None, (*SINGLE, "float64"), width
    ),
  }


LINEAR, RESIDUAL = _table("linear", WIDEST), _table("residual", WIDEST_RESIDUAL)
"""'interpret' is 'triton' on any machine, slowly: for tests."""

FEW_TOKENS = 2048
"""Of a call: so few do not fill the multiprocessors of a GPU with tiles of many tokens."""


def normalised_linear(
  x: Array,
  kernel: Array,
  bias: Array,
  *,
  parts: int = 1,
  gelu: bool = False,
  dtype: Any = None,
  implementation: str | None = "xla",
) -> tuple[jax.Array, ...]:
  """y = norm(x) W + b, where norm(x) = (x - mean) / sqrt(var + 1e-5) over the last axis.

  A norm's own scale and shift are to be part of W and b (`jetfm.nn.linear.folded`).

  Args:
    x: (..., D).
    kernel, bias: (D, parts K) and (parts K,).
    parts: of equal width K, each an array of its own.
    gelu: GELU(y) in its tanh form instead of y.
    dtype: of the products and the results, that of x if None; sums and norm are float32 at least.
    implementation: a name of `LINEAR`; None takes the kernel of the platform that the program is
      lowered for, where it can do the call.

  Returns: `parts` arrays (..., K).
  Raises: ValueError for shapes that do not fit, or an unknown implementation; NotImplementedError
    if that cannot do the call.
  """
  width = x.shape[-1]
  if kernel.shape[:1] != (width,) or kernel.shape[1:] != bias.shape or bias.shape[0] % parts:
    raise ValueError(
      f"kernel {kernel.shape} and bias {bias.shape} do not fit x {x.shape} and {parts} parts"
    )
  dtype = jnp.dtype(x.dtype if dtype is None else dtype)
  call = {"particles": 0, "dtypes": (dtype,), "width": width}
  options = {"parts": parts, "gelu": gelu, "dtype": dtype}
  return _run("normalised_linear", implementation, LINEAR, x, kernel, bias, call=call, **options)


def residual_mlp(
  x: Array,
  mixed: Array,
  weights: ResidualWeights,
  *,
  dropout: BlockDropout | None = None,
  implementation: str | None = "xla",
) -> jax.Array:
  """What a block does after its attention, x before it and the heads' mixed values given.

      x = x + drop(norm(mixed W_o + b_o) s + t)
      x = w x + drop(norm(drop(GELU(norm(x) W_1 + b_1))) W_2 + b_2)

  The norms are those of `normalised_linear`; s, t and w are `norm_scale`, `norm_shift` and
  `residual_scale`, and other scales and shifts are part of the weights.

  Args:
    x, mixed: (..., D).
    dropout: of the three `drop`; None for none.
    implementation: a name of `RESIDUAL`, or None as in `normalised_linear`.

  Returns: (..., D) in the dtype of x.
  Raises: as `normalised_linear`.
  """
  width, hidden = x.shape[-1], weights.mlp_in.shape[-1]
  one, other = (width,), (hidden,)
  shapes = (one * 2, one, one, one, one + other, other, other + one, one, one)
  if mixed.shape != x.shape:
    raise ValueError(f"mixed has shape {mixed.shape}, expected {x.shape}")
  for name, array, shape in zip(weights._fields, weights, shapes, strict=True):
    if array.shape != shape:
      raise ValueError(f"{name} has shape {array.shape}, expected {shape} beside x {x.shape}")
  call = {"particles": 0, "dtypes": (x.dtype,), "width": width}
  rate, words = (0.0, None) if dropout is None else dropout
  arrays = (x, mixed.astype(x.dtype), weights, words)
  return _run("residual_mlp", implementation, RESIDUAL, *arrays, call=call, rate=rate)


def has_kernels(implementation: str | None, width: int, dtype: Any) -> bool:
  """Whether a block of that width and dtype, with that implementation, is to be made of these.

  For None, where there is a kernel; with the layers of `jetfm.nn` XLA does better than with the
  reference. Kernels are for half precision then: products of float32 have no tensor cores.
  """
  if implementation is not None:
    return implementation != "xla"
  call = {"particles": 0, "dtypes": (dtype,), "width": width}
  return can_run(RESIDUAL["triton"]._replace(dtypes=HALF), call)


def _run(
  name: str,
  implementation: str | None,
  table: dict[str, Implementation],
  *arrays: Any,
  call: dict[str, Any],
  **options: Any,
) -> Any:
  if implementation is not None:
    chosen = by_name(name, implementation, table, **call)
    return (chosen if arrays[0].size else table["xla"])(*arrays, **options)
  kernels = {"cuda": (table["triton"]._replace(dtypes=HALF),)}
  return by_platform(table["xla"], kernels, *arrays, call=call, options=options)
