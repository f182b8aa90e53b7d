"""Head that makes a full jet of its leading particles."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jetfm.lorentz import transverse_momentum
from jetfm.models.encoder import Encoded
from jetfm.models.particles import KinematicsOutput, standardise_kinematics
from jetfm.nn import CrossAttentionBlock, LayerNorm


@flax.struct.dataclass
class ParticleCloud:
  """Predicted particles, slot i for the particle of pT rank i, in the encoder's frame."""

  kinematics: jax.Array
  """(B, N, 4) as in `jetfm.models.particles.KINEMATICS`."""
  existence: jax.Array
  """(B, N) logits of there being such a particle."""

  def keep(self, count: jax.Array | None = None) -> jax.Array:
    """(B, N) bool: the `count` (B,) most probable slots.

    The multiplicity is predicted, not thresholded: without a count it is the expected number of
    particles, the rounded sum of the probabilities, and at least one.
    """
    if count is None:
      count = jnp.maximum(jnp.round(jax.nn.sigmoid(self.existence).sum(axis=-1)), 1)
    order = jnp.argsort(-self.existence, axis=-1, stable=True)
    place = jnp.argsort(order, axis=-1)
    return place < count[..., None]


class SuperResolutionHead(nn.Module):
  """From the tokens of the leading particles to a jet of `particles` slots.

  Learned queries, one for each pT rank, attend to the tokens; the query of rank i also starts
  from the token and the kinematics of the given particle of that rank, so that an untrained head
  is near the copied input. Unchanged by permutations of the given particles.

  Shapes: Encoded of N visible particles -> ParticleCloud of `particles` slots, float32.
  """

  particles: int = 128
  layers: int = 2
  heads: int = 8
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> ParticleCloud:
    width = encoded.tokens.shape[-1]
    queries = self.param("queries", nn.initializers.normal(0.02), (self.particles, width))
    tokens, p4, given = self._by_rank(encoded)
    x = jnp.where(given[..., None], tokens, 0) + queries.astype(tokens.dtype)
    for layer in range(self.layers):
      x = CrossAttentionBlock(
        self.heads, self.mlp_ratio, self.dropout, dtype=self.dtype, name=f"block_{layer}"
      )(x, encoded.tokens, encoded.mask, deterministic)
    x = LayerNorm(dtype=self.dtype, name="norm")(x)
    base = jnp.where(given[..., None], standardise_kinematics(p4), 0)
    kinematics = KinematicsOutput(physical=True, dtype=self.dtype, name="output")(x, base)
    existence = nn.Dense(1, dtype=self.dtype, name="existence")(x)[..., 0]
    return ParticleCloud(kinematics, existence.astype(kinematics.dtype))

  def _by_rank(self, encoded: Encoded) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens (B, S, D), momenta (B, S, 4) and existence (B, S) in order of falling pT."""
    known = encoded.mask & ~encoded.hidden
    pt = jnp.where(known, transverse_momentum(encoded.p4), -1)
    order = jnp.argsort(-pt, axis=-1, stable=True)[:, : self.particles]
    missing = [(0, 0), (0, max(0, self.particles - order.shape[1]))]

    def sort(x: jax.Array) -> jax.Array:
      x = jnp.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), axis=1)
      return jnp.pad(x, missing + [(0, 0)] * (x.ndim - 2))

    return sort(encoded.tokens), sort(encoded.p4), sort(known)
