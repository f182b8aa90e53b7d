"""Properties of jets, such as masses, from the schema's targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jetfm.models import Encoded, RegressionHead
from jetfm.names import nearest
from jetfm.objectives import (
  REGRESSION_ERRORS,
  regression_error,
  weighted_mean,
  weighted_sum,
)
from jetfm.schema import Feature, Schema
from jetfm.tasks.base import PLAIN, Statistics, Views
from jetfm.tasks.heads import OneView, Predicted
from jetfm.typing import Array, Batch


@flax.struct.dataclass
class Estimate:
  """Predictions on both scales, and true values on the scale of the loss."""

  standardised: jax.Array
  """(B, T) predictions on the scale of the loss."""
  physical: jax.Array
  """(B, T) predictions in the targets' units."""
  true: jax.Array
  """(B, T) true values on the scale of the loss, by the numbers that the head was trained with."""


class _MeasuringHead(OneView):
  """Also standardises the true values: the numbers for it are constants of the head."""

  schema: Schema

  def read(self, encoded: Encoded, view: Batch, deterministic: bool) -> Estimate:
    prediction = self.inner(encoded, deterministic=deterministic)
    true = self.inner.standardise(true_values(self.schema, self.inner.targets, view))
    return Estimate(prediction, self.inner.physical(prediction), true)


def true_values(schema: Schema, targets: tuple[Feature, ...], batch: Batch) -> jax.Array:
  """Targets of the batch in their units, (B, T); derived ones are computed from its momenta."""
  names = [t.name for t in schema.targets]
  values = jnp.asarray(schema.target_values(batch.p4, batch.targets, batch.mask))
  return values[..., jnp.asarray([names.index(t.name) for t in targets])]


@dataclasses.dataclass(frozen=True)
class Regression:
  """Error of standardised targets, averaged over events and then over targets.

  `mass` is the invariant mass of the jet's particles, `gen_mass` that of the particle-level jet,
  `seed_mass` the published quantity of that name. An event does not count for a target that it
  does not have (`Feature.known`), as a jet without one at particle level.

  Attributes:
    targets: names in `schema.targets`.
    error: one of `jetfm.objectives.REGRESSION_ERRORS`; delta: of the Huber loss.
    head_options: of `jetfm.models.RegressionHead`.

  Metrics, for each target: `mse` and `mae` on the standardised scale, `mse_physical` and
  `mae_physical` in its units; `mean` and `mean_square` of the standardised target, with which
  R2 = 1 - mse / (mean_square - mean^2) over a whole evaluation.
  Raises: ValueError for a target that is unknown or there twice, an unknown error, or a delta that
    is not positive.
  """

  schema: Schema
  name: str = "regression"
  targets: tuple[str, ...] = ("mass",)
  error: str = "mse"
  delta: float = 1.0
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    known = [t.name for t in self.schema.targets]
    for target in self.targets:
      if target not in known:
        near = nearest(target, known)
        raise ValueError(f"no target '{target}' in schema '{self.schema.name}'; nearest: '{near}'")
    if len(set(self.targets)) < len(self.targets):
      raise ValueError(f"targets are {list(self.targets)}, expected each once")
    if self.delta <= 0:
      raise ValueError(f"delta is {self.delta}, expected a number > 0")
    if not self.targets:
      raise ValueError(f"task '{self.name}' has no targets; expected some of {known}")
    if self.error not in REGRESSION_ERRORS:
      raise ValueError(f"no regression loss '{self.error}'; expected one of {REGRESSION_ERRORS}")

  @property
  def head(self) -> nn.Module:
    features = {t.name: t for t in self.schema.targets}
    inner = RegressionHead(tuple(features[t] for t in self.targets), **self.head_options)
    return _MeasuringHead(inner, PLAIN, schema=self.schema)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    return {PLAIN: batch}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    estimate: Estimate = outputs.output
    targets = tuple(t for name in self.targets for t in self.schema.targets if t.name == name)
    physical = true_values(self.schema, targets, batch)
    there = [target.known(physical[:, i]) for i, target in enumerate(targets)]
    known = jnp.isfinite(estimate.true) & jnp.stack(there, axis=-1)

    def of_known(x):
      return jnp.where(known, x, 0)

    pred, true = of_known(estimate.standardised), of_known(estimate.true)
    residual = of_known(estimate.physical) - of_known(physical)
    return {
      "known": known.astype(pred.dtype),
      "error": regression_error(pred, true, self.error, self.delta),
      "mse": (pred - true) ** 2,
      "mae": jnp.abs(pred - true),
      "mse_physical": residual**2,
      "mae_physical": jnp.abs(residual),
      "mean": true,
      "mean_square": true**2,
    }

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    errors = weighted_mean(statistics["error"], statistics["known"], weight)
    return errors.mean(), dict(zip(self.targets, errors, strict=True))

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    known = weighted_sum(statistics["known"], weight)
    sums = {
      name: weighted_sum(values, weight)
      for name, values in statistics.items()
      if name not in ("known", "error")
    }
    return {
      f"{target}/{name}": jnp.stack([total[index], known[index]])
      for index, target in enumerate(self.targets)
      for name, total in sums.items()
    }
