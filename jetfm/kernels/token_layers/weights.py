"""What a residual block is given beside its tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax


class ResidualWeights(NamedTuple):
  """Of `residual_mlp`, for tokens of width D and a hidden layer of width F.

  Arrays, or what belongs to each.
  """

  out: Any
  """(D, D), and (D,)."""
  out_bias: Any
  norm_scale: Any
  """(D,) each: scale and shift of the norm after attention."""
  norm_shift: Any
  mlp_in: Any
  """(D, F), and (F,)."""
  mlp_in_bias: Any
  mlp_out: Any
  """(F, D), and (D,)."""
  mlp_out_bias: Any
  residual_scale: Any
  """(D,)."""


class BlockDropout(NamedTuple):
  """The dropouts of a residual block: after attention's norm, of the hidden layer, at the end.

  Whether an element is dropped is a function of its place in the batch and of two words.
  """

  rate: float
  words: jax.Array
  """(3, 2) uint32."""
