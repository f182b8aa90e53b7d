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
  """

  widths: Sequence[int]
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
    for layer, width in enumerate(self.widths):
      x = Linear(width, self.dtype, name=f"linear_{layer}")(x)
      if layer < len(self.widths) - 1:
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
