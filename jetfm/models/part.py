"""Particle Transformer: the trunk of LorentzParT on standardised features alone."""

from __future__ import annotations

import flax.linen as nn

from jetfm.models.encoder import Encoded, Encoder, encoded, enter
from jetfm.nn import Embed, StandardiseInputs
from jetfm.typing import Batch


class ParT(Encoder):
  """Standardised features -> Embed -> L blocks with pair bias -> LayerNorm; no multivectors.

  The ablation of `LorentzParT`: same trunk, same options, equal parameter count within 3 %.
  Shapes: Batch of N particles -> Encoded with tokens (B, N, D).
  Source: arXiv:2202.03772; its batch normalisations are fixed numbers and pointwise norms here.
  """

  @nn.compact
  def __call__(self, batch: Batch, *, deterministic: bool = True) -> Encoded:
    visible = enter(batch, self.frame)
    inputs = StandardiseInputs(self.schema, name="standardise")(
      visible.lab, visible.features, visible.present, visible.seen
    )
    tokens = Embed((*self.embed_widths, self.width), self.dtype, name="embed")(inputs)
    return encoded(self.transform(tokens, visible, deterministic), visible)
