"""Pointwise networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from jetfm.nn.dropout import Dropout
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
      x = nn.Dense(width, dtype=self.dtype, name=f"linear_{layer}")(x)
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
    for layer, width in enumerate(self.widths):
      x = LayerNorm(dtype=self.dtype, name=f"norm_{layer}")(x)
      x = nn.gelu(nn.Dense(width, dtype=self.dtype, name=f"linear_{layer}")(x))
    return x
