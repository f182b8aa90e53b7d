"""LorentzParT: a Particle Transformer between two Lorentz-equivariant linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm import lorentz
from jetfm.models.encoder import Encoded, Encoder, Visible, check_option, encoded, enter
from jetfm.nn import (
  Embed,
  EquiLinear,
  StandardiseInputs,
  grade_invariants,
  reference_vectors,
  signed_log,
)
from jetfm.nn.linear import Dense
from jetfm.typing import Batch


class LorentzParT(Encoder):
  """Four-momenta -> EquiLinear -> trunk with pair bias -> tokens, and multivectors.

      x_n = [p_n | references],   X, s' = EquiLinear(x, s)
      t_n = Embed(asinh X_n | asinh <X_n X_n>_g | s'_n)            (scalars 'schema')
      t_n = Embed(asinh <X_n X_n>_g | s'_n)                        (scalars 'invariant')
      tokens = LN(block_{L-1}(... block_0(t)))

  The multivectors, mv_out 'equivariant': weights computed from the tokens, which are as invariant
  as those, times vectors; a weighted sum over the jet lets a hidden particle point anywhere.

      V_n = [p_n | sum_m u(tokens_m) p_m | references],   Y_n = EquiLinear(w(tokens_n) V_n)

  mv_out 'projected' is the published variant, Y_n = EquiLinear(W tokens_n + b): not equivariant.

  With scalars='invariant', frame='lab', pair='invariant' (or None) and `references` transformed
  together with the momenta (or references=()), tokens are invariant and multivectors equivariant
  exactly: under boosts and rotations, and with subgroup=False under reflections too.

  Shapes: Batch of N particles -> Encoded: tokens (B, N, D), multivectors (B, N, C, 16).
  Source: the layer is that of arXiv:2405.14806, the trunk that of arXiv:2202.03772.

  Attributes, beside those of `Encoder`:
    scalars: 'schema' feeds the standardised features, 'invariant' only inner products.
    references: names in `jetfm.nn.REFERENCES`; vectors of the encoder's frame. () for none.
    mv_out: 'equivariant', 'projected', or None for no multivectors.
    channels: multivector channels inside; mv_channels: C, those handed over.
    pooled: weighted sums over the jet among the vectors.
    subgroup: ten maps instead of five in both layers.
    momentum_scale: GeV; multivectors are momenta over this.
  """

  scalars: str = "schema"
  references: Sequence[str] = ("time", "beam")
  mv_out: str | None = "equivariant"
  channels: int = 8
  mv_channels: int = 4
  pooled: int = 4
  subgroup: bool = True
  momentum_scale: float = 10.0

  def __post_init__(self) -> None:
    check_option("scalars", self.scalars, ("schema", "invariant"))
    check_option("mv_out", self.mv_out, ("equivariant", "projected", None))
    reference_vectors(self.references)  # raises for unknown ones
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    batch: Batch,
    *,
    references: jax.Array | None = None,
    deterministic: bool = True,
  ) -> Encoded:
    """references (R, 4) or (B, R, 4) replaces the reference vectors, in the encoder's frame."""
    visible = enter(batch, self.frame)
    p4 = visible.p4 / self.momentum_scale
    vectors = self._reference_vectors(references, p4)  # (B, R, 4)
    inputs = jnp.concatenate([p4[..., None, :], _per_particle(vectors, p4)], axis=-2)
    x, scalars = EquiLinear(self.channels, self.width // 4, self.subgroup, name="equi_in")(
      lorentz.embed_vector(inputs), self._scalars(visible, p4, vectors)
    )

    readable = [signed_log(grade_invariants(x))]
    if scalars is not None:
      readable.append(scalars)
    if self.scalars == "schema":
      readable.append(signed_log(x))
    flat = jnp.concatenate([y.reshape(*p4.shape[:2], -1) for y in readable], axis=-1)
    tokens = Embed((*self.embed_widths, self.width), self.dtype, name="embed")(flat)
    tokens = self.transform(tokens, visible, deterministic)
    return encoded(tokens, visible, self._multivectors(tokens, inputs, visible))

  def _reference_vectors(self, given: jax.Array | None, p4: jax.Array) -> jax.Array:
    vectors = reference_vectors(self.references) if given is None else given
    vectors = jnp.asarray(vectors, p4.dtype)
    if vectors.shape[-2:] != (len(self.references), 4):
      raise ValueError(
        f"references have shape {vectors.shape}, expected (..., {len(self.references)}, 4) for "
        f"{tuple(self.references)}"
      )
    return jnp.broadcast_to(vectors, (p4.shape[0], len(self.references), 4))

  def _scalars(self, visible: Visible, p4: jax.Array, references: jax.Array) -> jax.Array:
    """Scalar channels of the first layer, (B, N, S)."""
    if self.scalars == "schema":
      return StandardiseInputs(self.schema, name="standardise")(
        visible.lab, visible.features, visible.present, visible.seen
      )
    # Products of the particle with itself, its jet and the references, and of the jet with those.
    jet = p4.sum(axis=-2, keepdims=True)  # (B, 1, 4)
    others = jnp.concatenate([jet, references], axis=-2)  # (B, R+1, 4)
    metric = jnp.asarray(lorentz.METRIC, p4.dtype)
    own = lorentz.mass_squared(p4)[..., None]
    mixed = jnp.einsum("bnx,bmx->bnm", p4 * metric, others, precision="highest")
    common = jnp.einsum("bx,bmx->bm", jet[:, 0] * metric, others, precision="highest")
    common = jnp.broadcast_to(common[:, None], mixed.shape)
    scalars = signed_log(jnp.concatenate([own, mixed, common], axis=-1))
    return jnp.where(visible.seen[..., None], scalars, 0)

  def _multivectors(self, tokens, inputs, visible: Visible) -> jax.Array | None:
    """(B, N, C, 16); inputs (B, N, 1+R, 4) are the particle and the references."""
    if self.mv_out is None:
      return None
    layer = EquiLinear(self.mv_channels, subgroup=self.subgroup, name="equi_out")

    def weights(count: int, name: str) -> jax.Array:
      """Numbers for each particle from its token; wide, as they multiply momenta."""
      return Dense(count, dtype=inputs.dtype, name=name)(tokens.astype(inputs.dtype))

    if self.mv_out == "projected":
      projected = weights(16 * self.mv_channels, "projection")
      y, _ = layer(projected.reshape(*tokens.shape[:2], self.mv_channels, 16))
    else:
      own, references = inputs[..., :1, :], inputs[..., 1:, :]
      sums = jnp.einsum(
        "bnc,bnx->bcx", weights(self.pooled, "pool_weights"), own[..., 0, :], precision="highest"
      )
      vectors = jnp.concatenate([own, _per_particle(sums, own[..., 0, :]), references], axis=-2)
      mixing = weights(vectors.shape[-2], "vector_weights")
      y, _ = layer(lorentz.embed_vector(mixing[..., None] * vectors))
    return jnp.where(visible.mask[..., None, None], y, 0)


def _per_particle(vectors: jax.Array, p4: jax.Array) -> jax.Array:
  """(B, C, 4) of a jet -> (B, N, C, 4), the same for each of its particles."""
  return jnp.broadcast_to(vectors[:, None], (*p4.shape[:2], *vectors.shape[1:]))
