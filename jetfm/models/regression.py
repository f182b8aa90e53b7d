"""Head that predicts properties of jets, such as masses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.lorentz import constituent_mass
from jetfm.models.encoder import Encoded, event_vector
from jetfm.nn import MLP, Pooling, StandardiseTargets
from jetfm.schema import Feature

MEASURED_BY_MASS = ("gen_mass",)
"""Targets of which the mass of the particles is a first estimate."""


class RegressionHead(nn.Module):
  """Standardised targets of the schema from class attention and mean pooling.

  What the particles' mass estimates is predicted as a correction to it: no network has to learn an
  invariant mass, a difference of large numbers, before it learns what the detector did to it.

  `standardise` and `physical` are the way between GeV and the scale of the predictions, with the
  numbers of the training split, which belong to the head (collection `constants`).

  Shapes: Encoded of B events -> (B, T) float32, standardised.

  Attributes:
    targets: `Schema.targets`, all of them or a part.
    widths: hidden widths between the pooled vector and the predictions.
    layers: class attention blocks.
  """

  targets: tuple[Feature, ...]
  widths: Sequence[int] = (128,)
  layers: int = 2
  heads: int = 8
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None

  def setup(self) -> None:
    self.target_scale = StandardiseTargets(self.targets)
    self.pooling = Pooling(self.layers, self.heads, self.mlp_ratio, self.dropout, self.dtype)
    self.output = MLP((*self.widths, len(self.targets)), self.dropout, self.dtype, readout=True)

  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> jax.Array:
    x = event_vector(encoded, self.pooling, deterministic=deterministic)
    mass = constituent_mass(encoded.p4, encoded.mask & ~encoded.hidden)
    first = self.target_scale(jnp.stack([mass] * len(self.targets), axis=-1))
    measured = jnp.asarray([t.name in MEASURED_BY_MASS for t in self.targets])
    return self.output(x, deterministic=deterministic) + jnp.where(measured, first, 0)

  def standardise(self, values: jax.Array) -> jax.Array:
    """Targets in physical units (B, T) -> the scale of the predictions."""
    return self.target_scale(values)

  def physical(self, predictions: jax.Array) -> jax.Array:
    """Predictions (B, T) -> physical units."""
    return self.target_scale.inverse(predictions)
