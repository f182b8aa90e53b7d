"""Masked-feature modelling: densities of hidden measurements from the rest of the event."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.models import MaskedFeatureHead, Reconstructed
from jetfm.objectives import HybridLikelihood, ratio, weighted_mean, weighted_sum
from jetfm.schema import Schema
from jetfm.tasks.base import Statistics, Views, view_key
from jetfm.tasks.heads import OneView, Predicted
from jetfm.tasks.hiding import hidden_measurements, hide_measurements
from jetfm.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class MaskedFeatures:
  """Negative log density of hidden measurements under the likelihoods of the schema, in nats.

  Only what was measured is a target. The loss is the mean over the hidden measurements of each
  feature in the global batch, averaged over the features that have any.

  Attributes:
    object_ratio: part of an event's objects that is hidden as a whole.
    group_ratio: probability that a measured detector group of another object is hidden; 0 for
      encoders other than 'clear'. See `jetfm.tasks.hiding`.
    components: of Gaussian mixtures.
    head_options: of `jetfm.models.MaskedFeatureHead`.

  Metrics, for each feature: `<feature>_nll`, and `<feature>_error`, the squared error of the
  expectation on the scale of the network's inputs, or the rate of wrong categories.
  Raises: ValueError for ratios outside [0, 1), or both 0.
  """

  schema: Schema
  name: str = "masked_features"
  object_ratio: float = 0.15
  group_ratio: float = 0.15
  components: int = 5
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    ratios = (self.object_ratio, self.group_ratio)
    if not all(0 <= x < 1 for x in ratios) or not any(ratios):
      raise ValueError(
        f"object_ratio and group_ratio are {ratios}, expected fractions below 1, not both 0"
      )
    _ = self.likelihood  # refuses features whose likelihood does not fit

  @property
  def likelihood(self) -> HybridLikelihood:
    return HybridLikelihood(self.schema, self.components)

  @property
  def view(self) -> str:
    return f"measurements_{self.object_ratio:g}_{self.group_ratio:g}"

  @property
  def head(self) -> nn.Module:
    inner = MaskedFeatureHead(self.schema, self.likelihood.parameters, **self.head_options)
    return OneView(inner, self.view)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    key = view_key(key, self.view)
    view = hide_measurements(key, batch, self.schema, self.object_ratio, self.group_ratio)
    return {self.view: view}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    found: Reconstructed = outputs.output
    target = hidden_measurements(views[self.view], batch, self.schema)
    values = self.schema.values(batch.p4, batch.features, batch.mask)
    values = jnp.where(target, values, 0)
    numbers = (found.raw, values, found.mean, found.std)
    nll, errors = self.likelihood.nll(*numbers), self.likelihood.errors(*numbers)
    return {
      "count": target.astype(nll.dtype).sum(axis=1),
      "nll": jnp.where(target, nll, 0).sum(axis=1),
      "error": jnp.where(target, errors, 0).sum(axis=1),
    }

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    of_feature = weighted_mean(statistics["nll"], statistics["count"], weight)
    some = (weighted_sum(statistics["count"], weight) > 0).astype(of_feature.dtype)
    names = [f"{feature.name}_nll" for feature in self.schema.features]
    return ratio(of_feature.sum(), some.sum()), dict(zip(names, of_feature, strict=True))

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    total = {name: weighted_sum(values, weight) for name, values in statistics.items()}
    return {
      f"{feature.name}_{name}": jnp.stack([total[name][index], total["count"][index]])
      for index, feature in enumerate(self.schema.features)
      for name in ("nll", "error")
    }
