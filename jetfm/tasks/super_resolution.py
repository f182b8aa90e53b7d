"""Super-resolution: the whole jet from its leading particles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jetfm.models import SuperResolutionHead
from jetfm.schema import Schema
from jetfm.tasks.base import Statistics, Views
from jetfm.tasks.clouds import ETA_SCALE, CloudLoss
from jetfm.tasks.heads import OneView, Predicted
from jetfm.tasks.masking import leading
from jetfm.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class SuperResolution:
  """Predicts all particles, up to `particles`, from the `given` ones of largest pT.

  The view is cut to `given` slots, so that the encoder costs no more than they do, and so are its
  frame and everything relative to the jet. Slots of the prediction are pT ranks, the given ones
  included; multiplicity is predicted by existence logits.

  Attributes:
    given: particles that the encoder sees; particles: slots that are predicted.
    distance, existence, phi_scale, jet_term: see `jetfm.tasks.clouds.CloudLoss`.
    head_options: of `jetfm.models.SuperResolutionHead`.

  Metrics, of the predicted slots kept at the predicted multiplicity: `direction_chamfer`, squared
  distances in (eta, phi), both ways added; `pt_emd`, the earth mover's distance of pT in GeV;
  `multiplicity_error`, |n_pred - n| / n; and `existence`, `<x>_mse`, `phi_cosine` of the loss.
  Raises: ValueError unless 0 < given <= particles.
  """

  schema: Schema
  name: str = "super_resolution"
  given: int = 30
  particles: int = 128
  distance: str = "matched"
  existence: float = 1.0
  phi_scale: float = ETA_SCALE
  jet_term: float = 0.0
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not 0 < self.given <= self.particles:
      raise ValueError(
        f"cannot make {self.particles} particles of {self.given}: expected 0 < given <= particles"
      )
    _ = self.cloud_loss  # refuses impossible options

  @property
  def cloud_loss(self) -> CloudLoss:
    return CloudLoss(self.distance, self.existence, self.phi_scale, self.jet_term)

  @property
  def view(self) -> str:
    return f"leading_{self.given}"

  @property
  def head(self) -> nn.Module:
    return OneView(SuperResolutionHead(self.particles, self.given, **self.head_options), self.view)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    return {self.view: leading(batch, self.given)}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    return self.cloud_loss.statistics(outputs.output, outputs.frame, batch)

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    return self.cloud_loss.loss(statistics, weight)

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    return self.cloud_loss.metrics(statistics, weight)
