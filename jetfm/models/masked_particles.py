"""Head that reconstructs hidden particles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.lorentz import transverse_momentum
from jetfm.models.encoder import Encoded
from jetfm.models.particles import KinematicsOutput, standardise_kinematics
from jetfm.nn import Embed, grade_invariants, signed_log


class MaskedParticleHead(nn.Module):
  """Kinematics of every particle from its token and its multivectors.

  The target is `jetfm.models.standardise_kinematics` of the true momenta in the encoder's frame,
  `jetfm.lorentz.transform_vectors(encoded.frame, batch.p4)`: standardised log pT and eta, phi in
  radians, standardised log E. Predicted is a correction to `between_ranks`, near which an untrained
  head is: what a rank and its neighbours say needs no network. The published head predicts it all.
  Multivectors enter as asinh of components and of invariants.

  Shapes: Encoded of N particles -> (B, N, 4) float32; meaningful where `encoded.hidden`.

  Attributes:
    widths: hidden widths.
    physical: force E >= |p|, as the published head does not; E then starts from pT and eta.
  """

  widths: Sequence[int] = (128,)
  physical: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> jax.Array:
    del deterministic
    x = encoded.tokens
    if encoded.multivectors is not None:
      mv = encoded.multivectors
      readable = [signed_log(mv), signed_log(grade_invariants(mv))]
      parts = [y.reshape(*x.shape[:2], -1).astype(x.dtype) for y in readable]
      x = jnp.concatenate([x, *parts], axis=-1)
    x = Embed(self.widths, self.dtype, name="embed")(x)
    return KinematicsOutput(self.physical, name="output")(x, between_ranks(encoded))


def between_ranks(encoded: Encoded) -> jax.Array:
  """What the visible particles of the next ranks say of each hidden one -> (B, N, 4).

  Standardised log pT and log E, interpolated linearly in the pT rank between the visible particles
  before and after it, constant beyond the first and the last; 0, in the jet's frame its axis, for
  eta and phi. Meaningful where `encoded.hidden`.
  """
  seen = encoded.mask & ~encoded.hidden
  slots = jnp.arange(encoded.mask.shape[1])
  p4 = jnp.where(seen[..., None], encoded.p4, 0)
  hardest = jnp.argsort(jnp.where(seen, -transverse_momentum(p4), jnp.inf), axis=-1)
  values = jnp.take_along_axis(standardise_kinematics(p4)[..., 0::3], hardest[..., None], axis=1)
  # Ranks that nobody hidden has are those of the visible particles, in the order of their pT.
  taken = ((encoded.rank[:, None] == slots[:, None]) & encoded.hidden[:, None]).any(axis=-1)
  free = jnp.argsort(taken, axis=-1, stable=True)
  before_it = encoded.rank - jnp.take_along_axis(
    jnp.cumsum(taken, axis=-1) - taken, encoded.rank, axis=-1
  )
  last = jnp.maximum(seen.sum(axis=-1, keepdims=True) - 1, 0)
  before, after = jnp.clip(before_it - 1, 0, last), jnp.clip(before_it, 0, last)
  ranks = [jnp.take_along_axis(free, x, axis=-1) for x in (before, after)]
  gap = jnp.maximum(ranks[1] - ranks[0], 1)
  share = jnp.clip((encoded.rank - ranks[0]) / gap, 0, 1).astype(values.dtype)[..., None]
  ends = [jnp.take_along_axis(values, x[..., None], axis=1) for x in (before, after)]
  log_pt, log_e = jnp.moveaxis(ends[0] + share * (ends[1] - ends[0]), -1, 0)
  zero = jnp.zeros_like(log_pt)
  return jnp.stack([log_pt, zero, zero, log_e], axis=-1)
