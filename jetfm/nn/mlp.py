"""Pointwise networks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from jetfm.nn.dropout import Dropout
from jetfm.nn.linear import Linear
from jetfm.nn.norms import LayerNorm


class MLP(nn.Module):
  """Linear layers with GELU between them: widths[:-1] are hidden, the last is linear.

  Shapes: (..., F) -> (..., widths[-1]).

  Attributes:
    readout: the last layer computes in the type of the parameters whatever `dtype` is: rounded to
      bfloat16, predictions would come in steps of half a percent.
  """

  widths: Sequence[int]
  dropout: float = 0.0
  dtype: Any = None
  readout: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
    for layer, width in enumerate(self.widths):
      last = layer == len(self.widths) - 1
      dtype = None if last and self.readout else self.dtype
      x = Linear(width, dtype, name=f"linear_{layer}")(x)
      if not last:
        x = Dropout(self.dropout)(nn.gelu(x), deterministic=deterministic)
    return x


class Embed(nn.Module):
  """Features -> tokens as in ParT: LayerNorm, linear, GELU, once for each width.

  Shapes: (..., F) -> (..., widths[-1]).
  Source: arXiv:2202.03772.
  """

  widths: Sequence[int]
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    before = None
    for layer, width in enumerate(self.widths):
      norm = LayerNorm(dtype=self.dtype, in_parts=True, name=f"norm_{layer}")
      x, bias = Linear(width, self.dtype, apart=True, name=f"linear_{layer}")(
        norm(x, before=before)
      )
      before = functools.partial(_activated, bias)
    return x if before is None else before(x)


def _activated(bias: jax.Array, x: jax.Array) -> jax.Array:
  return nn.gelu(x + bias)
