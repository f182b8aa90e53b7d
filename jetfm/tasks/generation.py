"""Generation: a conditional variational autoencoder of jets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.models import ConditionalVAE, Encoded, Generated, jet_condition
from jetfm.models.vae import CONDITIONS
from jetfm.objectives import (
  gaussian_kl,
  ratio,
  warm_up,
  weighted_mean,
  weighted_sum,
  with_free_bits,
)
from jetfm.schema import Schema
from jetfm.tasks.base import PLAIN, Statistics, Views
from jetfm.tasks.clouds import ETA_SCALE, CloudLoss
from jetfm.tasks.heads import OneView, Predicted
from jetfm.typing import Array, Batch


class _ConditionedHead(OneView):
  """Tells an autoencoder with condition 'jet' which jet it shall make."""

  def read(self, encoded: Encoded, view: Batch, deterministic: bool) -> Generated:
    condition = None
    if self.inner.condition == "jet":
      p4, mask, label = map(jnp.asarray, (view.p4, view.mask, view.label))
      condition = jet_condition(p4, mask, label, self.inner.classes)
    return self.inner(encoded, condition, deterministic=deterministic)


@dataclasses.dataclass(frozen=True)
class Generation:
  """The negative evidence bound of a VAE whose decoder makes particles in the jet's frame.

      L = cloud + beta min(step / warm_up_steps, 1) KL / (4 <n>)

  The distance in `cloud` (`jetfm.tasks.clouds.CloudLoss`) is a mean over single numbers of
  particles, so the KL term is in nats per number too: 4 <n> of them in the average jet of the
  global batch. A Gaussian likelihood of width sigma on the standardised scale has beta = 2 sigma^2.

  Attributes:
    particles: slots; latent: dimensions of z.
    condition: 'embedding' as published, or 'jet': class, pT, |eta|, mass and multiplicity.
    distance, existence, phi_scale, jet_term: see `CloudLoss`.
    beta, warm_up_steps: of the KL term; it rises linearly from 0.
    free_bits: nats of each latent dimension, on average over the batch, that cost nothing.
    head_options: of `jetfm.models.ConditionalVAE`.

  Metrics: `kl` in nats per jet, and those of `jetfm.tasks.SuperResolution`, for reconstruction from
  the posterior's mean. Generated samples are judged by `jetfm.evals`.
  Raises: ValueError for an unknown condition or distance, or an impossible number.
  """

  schema: Schema
  name: str = "generation"
  particles: int = 128
  latent: int = 32
  condition: str = "embedding"
  distance: str = "matched"
  existence: float = 1.0
  phi_scale: float = ETA_SCALE
  jet_term: float = 0.0
  beta: float = 1.0
  warm_up_steps: int = 1000
  free_bits: float = 0.0
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.particles < 1 or self.latent < 1:
      raise ValueError(
        f"particles {self.particles}, latent {self.latent}: expected at least 1 each"
      )
    if self.condition not in CONDITIONS:
      raise ValueError(f"condition is '{self.condition}', expected one of {CONDITIONS}")
    if self.beta < 0 or self.free_bits < 0:
      raise ValueError(f"beta {self.beta} and free_bits {self.free_bits} must not be negative")
    _ = self.cloud_loss  # refuses impossible options

  @property
  def cloud_loss(self) -> CloudLoss:
    return CloudLoss(self.distance, self.existence, self.phi_scale, self.jet_term)

  @property
  def head(self) -> nn.Module:
    classes = len(self.schema.classes) if self.condition == "jet" else 0
    inner = ConditionalVAE(
      self.particles, self.latent, self.condition, classes, **self.head_options
    )
    return _ConditionedHead(inner, PLAIN)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    return {PLAIN: batch}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    made: Generated = outputs.output
    statistics = self.cloud_loss.statistics(made.cloud, outputs.frame, batch)
    return statistics | {"kl": gaussian_kl(made.mean, made.log_variance)}

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    cloud, terms = self.cloud_loss.loss(statistics, weight)
    # weighted_mean divides by events: (B, Z) -> (Z,), the average of each dimension.
    each = weighted_mean(statistics["kl"], statistics["event"], weight)
    numbers = 4 * ratio(
      weighted_sum(statistics["count"], weight), weighted_sum(statistics["event"], weight)
    )
    beta = self.beta * warm_up(step, self.warm_up_steps)
    penalty = beta * ratio(with_free_bits(each, self.free_bits), numbers)
    return cloud + penalty, terms | {"cloud": cloud, "kl": each.sum(), "beta": beta}

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    kl = weighted_sum(statistics["kl"].sum(axis=-1), weight)
    events = weighted_sum(statistics["event"], weight)
    return self.cloud_loss.metrics(statistics, weight) | {"kl": jnp.stack([kl, events])}
