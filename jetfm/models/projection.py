"""Head whose output contrastive losses compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from jetfm.models.encoder import Encoded, event_vector
from jetfm.nn import MLP, Pooling


class ProjectionHead(nn.Module):
  """One vector of length one for each event, from its embedding.

  The embedding below it keeps what the loss throws away (arXiv:2002.05709, section 4.2): probes
  read that, never this.

  Shapes: Encoded of B events -> (B, widths[-1]) float32.

  Attributes:
    widths: of the MLP.
    layers: class-attention blocks for encoders that do not embed events by themselves.
  """

  widths: Sequence[int] = (128, 64)
  layers: int = 0
  heads: int = 8
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> jax.Array:
    pooling = Pooling(
      self.layers, self.heads, self.mlp_ratio, self.dropout, self.dtype, name="pooling"
    )
    x = event_vector(encoded, pooling, deterministic=deterministic)
    output = MLP(self.widths, self.dropout, self.dtype, readout=True, name="output")
    x = output(x, deterministic=deterministic)
    # The epsilon keeps the gradient finite for a vector of zeros.
    return x * jax.lax.rsqrt((x * x).sum(axis=-1, keepdims=True) + 1e-12)
