"""What lies between two attentions as two kernels: the contract, and their names.

They are for one event or a few, where a GPU needs longer to start a kernel than to run it: a norm
and the linear layer after it, and all that a block does after its attention. They have no
gradients; `jetfm.nn` has the layers to train with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jetfm.kernels.implementations import SINGLE, Implementation, by_name
from jetfm.kernels.token_layers import reference
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


class ResidualWeights(NamedTuple):
  """Of `residual_mlp`, for tokens of width D and a hidden layer of width F."""

  out: Array
  """(D, D), and (D,)."""
  out_bias: Array
  norm_scale: Array
  """(D,) each: scale and shift of the norm after attention."""
  norm_shift: Array
  mlp_in: Array
  """(D, F), and (F,)."""
  mlp_in_bias: Array
  mlp_out: Array
  """(F, D), and (D,)."""
  mlp_out_bias: Array
  residual_scale: Array
  """(D,)."""


def normalised_linear(
  x: Array,
  kernel: Array,
  bias: Array,
  *,
  parts: int = 1,
  gelu: bool = False,
  dtype: Any = None,
  implementation: str = "xla",
) -> tuple[jax.Array, ...]:
  """y = norm(x) W + b, where norm(x) = (x - mean) / sqrt(var + 1e-5) over the last axis.

  A norm's own scale and shift are to be part of W and b (`jetfm.nn.linear.folded`).

  Args:
    x: (..., D).
    kernel, bias: (D, parts K) and (parts K,).
    parts: of equal width K, each an array of its own.
    gelu: GELU(y) in its tanh form instead of y.
    dtype: of the products and the results, that of x if None; sums and norm are float32 at least.
    implementation: a name of `LINEAR`.

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
  chosen = by_name("normalised_linear", implementation, LINEAR, **call)
  return tuple(chosen(x, kernel, bias, parts=parts, gelu=gelu, dtype=dtype))


def residual_mlp(
  x: Array, mixed: Array, weights: ResidualWeights, *, implementation: str = "xla"
) -> jax.Array:
  """What a block does after its attention, x before it and the heads' mixed values given.

      x = x + norm(mixed W_o + b_o) s + t
      x = w x + norm(GELU(norm(x) W_1 + b_1)) W_2 + b_2

  The norms are those of `normalised_linear`; s, t and w are `norm_scale`, `norm_shift` and
  `residual_scale`, and other scales and shifts are part of the weights.

  Args:
    x, mixed: (..., D).
    implementation: a name of `RESIDUAL`.

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
  chosen = by_name("residual_mlp", implementation, RESIDUAL, **call)
  return chosen(x, mixed.astype(x.dtype), weights)
