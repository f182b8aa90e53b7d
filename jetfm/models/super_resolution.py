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


class SuperResolutionHead(nn.Module):
  """From the tokens of the leading particles to a jet of `particles` slots.

  Learned queries, one for each pT rank, attend to the tokens; the query of a rank that is given
  also starts from that particle's token. Soft particles lie around hard ones: a slot's direction is
  an offset from the mean direction of the given particles that it points to,

      w_ij = softmax_j(q_i k_j / sqrt(D)),   eta_i = sum_j w_ij eta_j + offset,   phi_i likewise,

  which for phi is the mean of unit vectors. What is known is not predicted: given slots hold the given
  particles and exist, and a jet of fewer than `given` particles is complete. Unchanged by
  permutations of the given particles.

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
    queries = self.param("queries", nn.initializers.normal(0.02), (self.particles, width))
    tokens, p4, given = self._by_rank(encoded)
    x = jnp.where(given[..., None], tokens, 0) + queries.astype(tokens.dtype)
    for layer in range(self.layers):
      x = CrossAttentionBlock(
        self.heads, self.mlp_ratio, self.dropout, dtype=self.dtype, name=f"block_{layer}"
      )(x, encoded.tokens, encoded.mask, deterministic)
    x = LayerNorm(dtype=self.dtype, name="norm")(x)
    base = self._point(x, encoded, standardise_kinematics(encoded.p4))
    kinematics = KinematicsOutput(physical=True, dtype=self.dtype, name="output")(x, base)
    existence = nn.Dense(1, dtype=self.dtype, name="existence")(x)[..., 0].astype(kinematics.dtype)
    complete = given.sum(axis=-1, keepdims=True) < self.given
    existence = jnp.where(complete, -_CERTAIN, existence)
    return ParticleCloud(
      jnp.where(given[..., None], standardise_kinematics(p4), kinematics),
      jnp.where(given, _CERTAIN, existence),
    )

  def _point(self, x: jax.Array, encoded: Encoded, kinematics: jax.Array) -> jax.Array:
    """(B, S, 4): where each slot points to, standardised; 0 for log pT and log E."""
    width = x.shape[-1]
    q = nn.Dense(width, dtype=self.dtype, name="pointer_query")(x)
    k = nn.Dense(width, dtype=self.dtype, name="pointer_key")(encoded.tokens)
    known = encoded.mask & ~encoded.hidden
    logits = jnp.einsum("bsd,bnd->bsn", q, k).astype(kinematics.dtype) / width**0.5
    logits = jnp.where(known[:, None], logits, -jnp.inf)
    # A jet without given particles points to the axis.
    some = known.any(axis=-1)[:, None, None]
    weight = jnp.where(some, jax.nn.softmax(jnp.where(some, logits, 0), axis=-1), 0)
    eta, phi = kinematics[..., 1], kinematics[..., 2]
    eta = jnp.einsum("bsn,bn->bs", weight, jnp.where(known, eta, 0))
    cos = jnp.einsum("bsn,bn->bs", weight, jnp.where(known, jnp.cos(phi), 1))
    sin = jnp.einsum("bsn,bn->bs", weight, jnp.where(known, jnp.sin(phi), 0))
    # An exact 0, 0 has no angle, and no gradient.
    lost = cos**2 + sin**2 < 1e-12
    phi = jnp.where(lost, 0, jnp.arctan2(jnp.where(lost, 0, sin), jnp.where(lost, 1, cos)))
    zero = jnp.zeros_like(eta)
    return jnp.stack([zero, eta, phi, zero], axis=-1)

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
