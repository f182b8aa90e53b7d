"""Head that reconstructs hidden particles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.models.encoder import Encoded
from jetfm.models.particles import KinematicsOutput
from jetfm.nn import Embed, grade_invariants, signed_log


class MaskedParticleHead(nn.Module):
  """Kinematics of every particle from its token and its multivectors.

  The target is `jetfm.models.standardise_kinematics` of the true momenta in the encoder's frame,
  `jetfm.lorentz.transform_vectors(encoded.frame, batch.p4)`: standardised log pT and eta, phi in
  radians, standardised log E. Multivectors enter as asinh of components and of invariants.

  Shapes: Encoded of N particles -> (B, N, 4) float32; meaningful where `encoded.hidden`.

  Attributes:
    widths: hidden widths.
    physical: force E >= |p|; the published head does not.
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
    return KinematicsOutput(self.physical, name="output")(x)
