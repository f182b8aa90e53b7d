"""Head that reconstructs hidden measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jetfm.models.encoder import Encoded
from jetfm.nn import Embed, StandardiseInputs
from jetfm.nn.initializers import normal
from jetfm.nn.linear import Dense
from jetfm.schema import Schema


@flax.struct.dataclass
class Reconstructed:
  """Densities of all features of all objects, and the numbers that standardise them."""

  raw: jax.Array
  """(B, N, P) float32, as `jetfm.objectives.HybridLikelihood` reads them."""
  mean: jax.Array
  """(F,) constants of the z-scores."""
  std: jax.Array
  """(F,)."""


class MaskedFeatureHead(nn.Module):
  """Raw numbers of a hybrid likelihood from each object's token.

  Shapes: Encoded of N objects -> Reconstructed with raw (B, N, parameters).

  Attributes:
    schema: its standardisation becomes constants of this head.
    parameters: P.
    widths: hidden widths.
  """

  schema: Schema
  parameters: int
  widths: Sequence[int] = (128,)
  dtype: Any = None

  def setup(self) -> None:
    self.standardise = StandardiseInputs(self.schema)
    self.embed = Embed(self.widths, self.dtype)
    # Components of a mixture that are all equal would stay so: their means differ by the biases.
    # Its products are in the parameters' type, also of tokens in half precision.
    self.output = Dense(self.parameters, bias_init=normal(0.5))

  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> Reconstructed:
    del deterministic
    raw = self.output(self.embed(encoded.tokens))
    if self.is_initializing():
      self._fill()
    return Reconstructed(raw, self.standardise.mean.value, self.standardise.std.value)

  def _fill(self) -> None:
    """Linen sets up what is called: without this, no constants."""
    self.standardise(
      jnp.zeros((1, 1, 4)),
      jnp.zeros((1, 1, len(self.schema.stored))),
      jnp.zeros((1, 1, len(self.schema.groups)), bool),
      jnp.zeros((1, 1), bool),
    )
