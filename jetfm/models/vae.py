"""Head that generates jets: a conditional variational autoencoder."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jetfm import lorentz
from jetfm.models.encoder import Encoded
from jetfm.models.particles import KinematicsOutput
from jetfm.models.super_resolution import ParticleCloud
from jetfm.nn import MLP, AttentionBlock, LayerNorm, Pooling
from jetfm.nn.initializers import normal
from jetfm.nn.linear import Dense

CONDITIONS = ("embedding", "jet")


@flax.struct.dataclass
class Generated:
  """What the VAE makes of a batch: the input of its loss."""

  cloud: ParticleCloud
  mean: jax.Array
  """(B, Z) of the posterior."""
  log_variance: jax.Array
  """(B, Z) of the posterior."""


def jet_condition(p4: jax.Array, mask: jax.Array, label: jax.Array, classes: int) -> jax.Array:
  """What may be chosen when a jet is generated: class, pT, |eta|, mass, multiplicity.

  Shapes: p4 (B, N, 4) in GeV in the laboratory, mask (B, N), label (B,) -> (B, classes + 4),
  the one-hot class and 4 ln(pT/500), |eta|, 2 ln(m/100 + 0.01), 2 (n/40 - 1), which vary by about
  one over a sample; a label of -1 is no class.
  """
  jet = lorentz.jet_momentum(p4, mask)
  log_pt = jnp.log(jnp.maximum(lorentz.transverse_momentum(jet), 1e-3) / 500)
  eta = jnp.abs(lorentz.pseudorapidity(jet))
  log_mass = jnp.log(lorentz.constituent_mass(p4, mask) / 100 + 0.01)
  count = mask.sum(axis=-1).astype(log_pt.dtype) / 40 - 1
  one_hot = jax.nn.one_hot(label, classes, dtype=log_pt.dtype)
  numbers = jnp.stack([4 * log_pt, eta, 2 * log_mass, 2 * count], axis=-1)
  return jnp.concatenate([one_hot, numbers], axis=-1)


class ConditionalVAE(nn.Module):
  """Jets from a latent vector and a condition.

      q(z | jet) = N(mean, exp(log_variance)) of the pooled tokens,   p(z) = N(0, 1)
      x_i = query_i + W [z | c];   cloud = Output(LN(blocks(x)))

  Slot i is the particle of pT rank i in the encoder's frame, with an existence logit.

  condition 'embedding', as published: c is the pooled embedding of a jet, itself a function of
  what is reconstructed; generating needs a real jet's. condition 'jet': c is `jet_condition`,
  chosen freely, and the embedding enters the posterior only.

  Raises: ValueError for another condition, or a 'jet' condition that is not given.

  Attributes:
    particles: slots.
    latent: Z.
    condition: one of `CONDITIONS`.
    width, layers, heads: of the decoder.
    classes: the one-hot part of a 'jet' condition.
  """

  particles: int = 128
  latent: int = 32
  condition: str = "embedding"
  classes: int = 0
  width: int = 128
  layers: int = 2
  heads: int = 8
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None

  def setup(self) -> None:
    if self.condition not in CONDITIONS:
      raise ValueError(f"condition is '{self.condition}', expected one of {CONDITIONS}")
    self.pooling = Pooling(0)
    self.posterior = MLP((self.width, 2 * self.latent), dtype=self.dtype, readout=True)
    self.prior_to_token = MLP((self.width, self.width), dtype=self.dtype)
    # As large as the token that all slots share: otherwise slots take long to differ.
    self.queries = self.param("queries", normal(1.0), (self.particles, self.width))
    self.block = [
      AttentionBlock(self.heads, self.mlp_ratio, self.dropout, self.dtype)
      for _ in range(self.layers)
    ]
    self.norm = LayerNorm(dtype=self.dtype)
    self.output = KinematicsOutput(physical=True)
    self.existence = Dense(1)

  def __call__(
    self,
    encoded: Encoded,
    condition: jax.Array | None = None,
    *,
    deterministic: bool = True,
  ) -> Generated:
    """Encode and decode a batch; z is drawn with the random stream 'sample', or is the mean when
    `deterministic`. `condition` (B, classes + 4) is needed for the kind 'jet' only."""
    mean, log_variance, chosen = self.encode(encoded, condition)
    z = mean
    if not deterministic:
      noise = jax.random.normal(self.make_rng("sample"), mean.shape, mean.dtype)
      z = mean + jnp.exp(0.5 * log_variance) * noise
    return Generated(self.decode(z, chosen, deterministic=deterministic), mean, log_variance)

  def encode(
    self, encoded: Encoded, condition: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean (B, Z) and log variance (B, Z) of the posterior, and the condition of the decoder."""
    embedding = self.pooling(encoded.tokens, encoded.mask)
    chosen = self._check(embedding if self.condition == "embedding" else condition)
    both = [embedding] if self.condition == "embedding" else [embedding, chosen]
    raw = self.posterior(jnp.concatenate(both, axis=-1))
    mean, log_variance = jnp.split(raw, 2, axis=-1)
    return mean, jnp.clip(log_variance, -12, 6), chosen

  def decode(
    self, z: jax.Array, condition: jax.Array, *, deterministic: bool = True
  ) -> ParticleCloud:
    """z (B, Z) and the decoder's condition (B, C) -> a cloud of `particles` slots."""
    condition = self._check(condition)
    token = self.prior_to_token(jnp.concatenate([z, condition.astype(z.dtype)], axis=-1))
    x = self.queries.astype(token.dtype) + token[:, None]
    for block in self.block:
      x = block(x, None, None, deterministic)
    x = self.norm(x)
    return ParticleCloud(self.output(x), self.existence(x)[..., 0])

  def sample(self, key: jax.Array, condition: jax.Array) -> ParticleCloud:
    """One jet for each condition (B, C), z drawn from the prior."""
    z = jax.random.normal(key, (condition.shape[0], self.latent), jnp.float32)
    return self.decode(z, condition)

  def _check(self, condition: jax.Array | None) -> jax.Array:
    if condition is None:
      raise ValueError("the VAE is conditioned on 'jet': pass jet_condition(...)")
    if self.condition == "jet" and condition.shape[-1] != self.classes + 4:
      raise ValueError(
        f"condition has shape {condition.shape}, expected (B, {self.classes + 4}) for "
        f"{self.classes} classes: pass jet_condition(...)"
      )
    return condition
