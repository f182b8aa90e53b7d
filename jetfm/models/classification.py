"""Head that tags jets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from jetfm.models.encoder import Encoded, event_vector
from jetfm.nn import MLP, Pooling


class ClassificationHead(nn.Module):
  """Logits of the classes from class attention and mean pooling.

  An encoder that embeds whole events by itself, such as CLEAR, needs no pooling: `layers` and
  `heads` then play no part, and without `widths` this is a linear probe.

  Shapes: Encoded of B events -> (B, classes) float32.

  Attributes:
    classes: how many.
    widths: hidden widths between the pooled vector and the logits.
    layers: class attention blocks; 0 leaves mean pooling alone, a linear probe.
  """

  classes: int
  widths: Sequence[int] = ()
  layers: int = 2
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
    widths = (*self.widths, self.classes)
    output = MLP(widths, self.dropout, self.dtype, readout=True, name="output")
    return output(x, deterministic=deterministic)
