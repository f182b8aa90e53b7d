"""The mass of the whole jet from its visible part: pretraining of the pooled embedding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.lorentz import constituent_mass
from jetfm.models import RegressionHead
from jetfm.objectives import regression_error, weighted_mean, weighted_sum
from jetfm.schema import Feature, Transform
from jetfm.tasks.base import Statistics, Views
from jetfm.tasks.heads import OneView, Predicted
from jetfm.tasks.hidden_view import OnHiddenView
from jetfm.typing import Array, Batch

MASS = Feature(
  "mass", "GeV", transforms=(Transform("log1p"), Transform("affine", (4.6, 2.0))), derived=True
)
"""ln(1 + m/GeV), around the mass of a W, in half units."""


@dataclasses.dataclass(frozen=True)
class MaskedJet(OnHiddenView):
  """Regresses the invariant mass of all particles of a jet, while some of them are hidden.

  Reconstructing hidden particles trains the tokens, each by its neighbours; what a jet as a whole
  is, no token needs to know. Its mass is a conserved quantity that needs no label, and that the
  visible part does not have: for it the pooled tokens must say how the jet's energy is spread.
  With the ratio and masking of `MaskedParticles` both read the same view, encoded once.

  Attributes:
    ratio, masking: as those of `MaskedParticles`.
    head_options: of `jetfm.models.RegressionHead`. Without others it has no class attention and no
      hidden layer: the mean of the tokens itself must tell the mass.

  Metrics: `mass_mse` and `mass_gain`, the part of the variance within each batch that is
  explained, of the mass on the scale of `MASS`.
  """

  name: str = "masked_jet"
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def head(self) -> nn.Module:
    options = {"layers": 0, "widths": (), **self.head_options}
    return OneView(RegressionHead((MASS,), **options), self.view)

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    p4 = jnp.where(batch.mask[..., None], batch.p4, 0)
    true = jnp.asarray(MASS.forward(constituent_mass(p4, batch.mask)))
    pred = outputs.output[:, 0]
    return {
      "error": regression_error(pred, true, "huber"),
      "square": (pred - true) ** 2,
      "true": true,
      "true_square": true**2,
    }

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    error = weighted_mean(statistics["error"], jnp.ones_like(statistics["error"]), weight)
    return error, {"mass": error}

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    total = {name: weighted_sum(values, weight) for name, values in statistics.items()}
    count = jnp.asarray(weight).sum()
    spread = total["true_square"] - total["true"] ** 2 / jnp.maximum(count, 1e-30)
    left = total["square"]
    return {"mass_mse": jnp.stack([left, count]), "mass_gain": jnp.stack([spread - left, spread])}
