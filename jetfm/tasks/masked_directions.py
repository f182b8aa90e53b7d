"""Where hidden particles are: pretraining by a density over their directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.lorentz import transform_vectors
from jetfm.models import MaskedDirectionHead, direction_of
from jetfm.objectives import weighted_mean, weighted_sum
from jetfm.tasks.base import Statistics, Views
from jetfm.tasks.heads import OneView, Predicted
from jetfm.tasks.hidden_view import OnHiddenView
from jetfm.tasks.masking import hidden_particles
from jetfm.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class MaskedDirections(OnHiddenView):
  """Maximises the density of the true direction of every hidden particle.

  `MaskedParticles` predicts one value of (eta, phi), which is best at the jet's axis whatever the
  jet is: its tokens learn spectra and no substructure. This task asks where in the jet a particle
  of that pT rank is missing. With the ratio and masking of `MaskedParticles` both read the same
  view, encoded once.

  Attributes:
    ratio, masking: as those of `MaskedParticles`.
    head_options: of `jetfm.models.MaskedDirectionHead`.

  Metrics: `nll`, the mean negative log density in nats, per unit of eta and of phi in radians.
  """

  name: str = "masked_directions"
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def head(self) -> nn.Module:
    return OneView(MaskedDirectionHead(**self.head_options), self.view)

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    hidden = hidden_particles(views[self.view], batch)
    p4 = transform_vectors(outputs.frame, jnp.where(batch.mask[..., None], batch.p4, 0))
    nll = outputs.output.nll(direction_of(p4))
    count = hidden.sum(axis=-1).astype(nll.dtype)
    return {"nll": jnp.where(hidden, nll, 0).sum(axis=-1), "count": count}

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    return weighted_mean(statistics["nll"], statistics["count"], weight), {}

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    sums = [weighted_sum(statistics[name], weight) for name in ("nll", "count")]
    return {"nll": jnp.stack(sums)}
