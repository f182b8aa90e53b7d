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
from jetfm.nn.initializers import normal
from jetfm.nn.linear import Dense

_CERTAIN = 20.0
"""Logit of what is known: 1 - 2e-9, with a finite cross entropy."""


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

  def draw_count(self, uniform: jax.Array) -> jax.Array:
    """A multiplicity of each jet, from numbers in [0, 1): (B,) -> (B,) int, at least one.

    Slot i exists in jets of more than i particles: its probability is that of n > i, and the
    multiplicity is drawn by inverting this distribution. Expected numbers alone would be too much
    alike: the largest and the smallest jets would be missing.
    """
    beyond = jax.nn.sigmoid(self.existence) > uniform[..., None]
    return jnp.maximum(beyond.sum(axis=-1), 1)


class SuperResolutionHead(nn.Module):
  """From the tokens of the leading particles to a jet of `particles` slots.

  Learned queries, one for each pT rank, attend to the tokens. What is known is not predicted: given
  slots hold the given particles and exist, and a jet of fewer than `given` particles is complete.
  Soft particles lie around hard ones: each other slot has a given particle as its parent, in turn
  from the hardest, starts from its token, and predicts an offset from its direction and a factor on
  the pT of the softest given one. An untrained head therefore copies the input, all of it as soft
  as its last. Unchanged by permutations of the given particles.

  Shapes: Encoded of N visible particles -> ParticleCloud of `particles` slots, float32.
  """

  particles: int = 128
  given: int = 30
  layers: int = 2
  heads: int = 8
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> ParticleCloud:
    width = encoded.tokens.shape[-1]
    queries = self.param("queries", normal(0.02), (self.particles, width))
    tokens, p4, given = self._by_rank(encoded)
    x = tokens + queries.astype(tokens.dtype)
    for layer in range(self.layers):
      x = CrossAttentionBlock(
        self.heads, self.mlp_ratio, self.dropout, dtype=self.dtype, name=f"block_{layer}"
      )(x, encoded.tokens, encoded.mask, deterministic)
    x = LayerNorm(dtype=self.dtype, name="norm")(x)
    known = standardise_kinematics(p4)
    softest = jnp.maximum(given.sum(axis=-1) - 1, 0)[:, None, None]
    softest = jnp.take_along_axis(known, softest, axis=1)
    # Of (pT, eta, phi, E): as soft as the last of the given ones, in the direction of the parent.
    base = jnp.where(jnp.asarray([False, True, True, False]), known, softest)
    kinematics = KinematicsOutput(physical=True, name="output")(x, base)
    existence = Dense(1, name="existence")(x)[..., 0]
    complete = given.sum(axis=-1, keepdims=True) < self.given
    existence = jnp.where(complete, -_CERTAIN, existence)
    return ParticleCloud(
      jnp.where(given[..., None], known, kinematics),
      jnp.where(given, _CERTAIN, existence),
    )

  def _by_rank(self, encoded: Encoded) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens (B, S, D) and momenta (B, S, 4) in order of falling pT, and which are given (B, S).

    Slots beyond the given particles hold those of their parents.
    """
    known = encoded.mask & ~encoded.hidden
    pt = jnp.where(known, transverse_momentum(encoded.p4), -1)
    order = jnp.argsort(-pt, axis=-1, stable=True)
    slot, count = jnp.arange(self.particles), known.sum(axis=-1, keepdims=True)
    order = jnp.take_along_axis(order, slot % jnp.maximum(count, 1), axis=1)

    def sort(x: jax.Array) -> jax.Array:
      return jnp.take_along_axis(x, order[..., None], axis=1)

    p4 = jnp.where(known[..., None], encoded.p4, 0)
    return sort(encoded.tokens), sort(p4), slot < count
