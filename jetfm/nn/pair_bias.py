"""The parameters of the pair bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from jetfm.kernels import PAIR_KINDS, PairBiasWeights, pair_bias
from jetfm.nn.initializers import lecun_normal


class PairBias(nn.Module):
  """Attention bias of every pair of particles from their four-momenta, for all layers at once.

  A pointwise MLP F -> widths -> H on pair features, its activation 'gelu' or 'relu', with a norm in
  each hidden layer or none; see `jetfm.kernels.pair_bias` for the equation. Pairs with a hidden
  particle get a learned constant.

  Shapes: p4 (B, N, 4) in GeV, mask and hidden (B, N) -> (B, H, N, N).
  Raises: ValueError for an unknown kind, activation or implementation.
  """

  heads: int
  widths: Sequence[int] = (64, 64, 64)
  kind: str = "part"
  dtype: Any = None
  implementation: str | None = None
  activation: str = "gelu"
  norm: bool = True

  @nn.compact
  def __call__(self, p4: jax.Array, mask: jax.Array, hidden: jax.Array | None = None) -> jax.Array:
    if self.kind not in PAIR_KINDS:
      raise ValueError(f"no pair features '{self.kind}'; there are {list(PAIR_KINDS)}")
    sizes = (len(PAIR_KINDS[self.kind].mean), *self.widths, self.heads)
    init, zeros, ones = lecun_normal(), nn.initializers.zeros, nn.initializers.ones
    layers = range(len(sizes) - 1)
    weights = PairBiasWeights(
      kernels=tuple(self.param(f"kernel_{l}", init, (sizes[l], sizes[l + 1])) for l in layers),
      biases=tuple(self.param(f"bias_{l}", zeros, (sizes[l + 1],)) for l in layers),
      scales=tuple(
        self.param(f"scale_{l}", ones, (sizes[l + 1],)) for l in layers[:-1] if self.norm
      ),
      hidden=self.param("hidden", zeros, (self.heads,)),
    )
    return pair_bias(
      p4,
      weights,
      mask,
      hidden,
      kind=self.kind,
      activation=self.activation,
      dtype=self.dtype,
      implementation=self.implementation,
    )
