"""Masked-particle modelling: the momenta of hidden particles from the rest of the jet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.lorentz import jet_momentum, transform_vectors
from jetfm.models import MaskedParticleHead, bounded_momenta, standardise_kinematics
from jetfm.objectives import (
  JET_SCALE,
  PARTICLE_SCALE,
  Conservation,
  conservation_loss,
  invariant_mass_loss,
  mass_residual_sums,
  mse_cosine_loss,
  residual_sums,
  weighted_sum,
)
from jetfm.tasks.base import Statistics, Views
from jetfm.tasks.heads import OneView, Predicted
from jetfm.tasks.hidden_view import OnHiddenView
from jetfm.tasks.masking import hidden_particles
from jetfm.typing import Array, Batch

LOSSES = {"conservation": conservation_loss, "mse_cosine": mse_cosine_loss}


@dataclasses.dataclass(frozen=True)
class MaskedParticles(OnHiddenView):
  """Reconstructs every hidden particle: the pretraining that needs no labels.

  A hidden particle is told to the encoder by its pT rank only. Its target is (pT, eta, phi, E) in
  the encoder's frame, by default that of the jet's visible rest, standardised as in
  `jetfm.models.particles`: what is predicted can be brought back to the laboratory with what is
  known of the jet.

  Attributes:
    ratio, masking: how many and which particles are hidden, see `jetfm.tasks.masking`.
    objective: 'conservation', or the baseline 'mse_cosine'.
    coefficients: of its terms, fields of `jetfm.objectives.Conservation` by name.
    mass_term: weight of the Lorentz-invariant term on E^2 - p^2 of each hidden particle and of the
      completed jet; 0 leaves it out.
    mass_scales: GeV, of particles and of jets, see `jetfm.objectives.invariant_mass`.
    head_options: of `jetfm.models.MaskedParticleHead`.

  Metrics: `<x>_mse` of pt, eta, energy on the standardised scale and `phi_cosine`, the mean of
  1 - cos; `<x>_gain`, the part of the variance within each batch that is explained: 0 for
  predicting the batch's mean, 1 for the truth.
  """

  name: str = "masked_particles"
  objective: str = "conservation"
  coefficients: Mapping[str, float] = dataclasses.field(default_factory=dict)
  mass_term: float = 0.0
  mass_scales: tuple[float, float] = (PARTICLE_SCALE, JET_SCALE)
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    if self.objective not in LOSSES:
      raise ValueError(f"objective is '{self.objective}', expected one of {list(LOSSES)}")
    if self.mass_term < 0:
      raise ValueError(f"mass_term is {self.mass_term}, expected a weight >= 0")
    _ = self._coefficients  # refuses impossible ones

  @property
  def _coefficients(self) -> Conservation:
    return Conservation(**self.coefficients)

  @property
  def head(self) -> nn.Module:
    return OneView(MaskedParticleHead(**self.head_options), self.view)

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    hidden = hidden_particles(views[self.view], batch)
    p4 = jnp.where(batch.mask[..., None], batch.p4, 0)
    p4 = transform_vectors(outputs.frame, p4)
    true = standardise_kinematics(p4)
    statistics = residual_sums(outputs.output, true, hidden) | _truth_sums(true, hidden)
    if self.mass_term:
      pred = bounded_momenta(outputs.output)
      visible = jet_momentum(p4, batch.mask & ~hidden)
      statistics |= mass_residual_sums(pred, p4, hidden, visible, self.mass_scales)
    return statistics

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    loss, terms = LOSSES[self.objective](statistics, weight, self._coefficients)
    if self.mass_term:
      mass, mass_terms = invariant_mass_loss(statistics, weight)
      loss, terms = loss + self.mass_term * mass, terms | mass_terms
    return loss, terms

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    total = {name: weighted_sum(values, weight) for name, values in statistics.items()}
    count = total["count"]
    some = jnp.maximum(count, 1e-30)
    metrics = {"phi_cosine": jnp.stack([total["phi_cosine"], count])}
    variance = {
      "phi": count - jnp.hypot(total["phi_cos_true"], total["phi_sin_true"]),
    }
    for name in ("pt", "eta", "energy"):
      metrics[f"{name}_mse"] = jnp.stack([total[f"{name}_square"], count])
      variance[name] = total[f"{name}_true_square"] - total[f"{name}_true"] ** 2 / some
    for name, spread in variance.items():
      left = total["phi_cosine" if name == "phi" else f"{name}_square"]
      metrics[f"{name}_gain"] = jnp.stack([spread - left, spread])
    return metrics


def _truth_sums(true: Array, hidden: Array) -> Statistics:
  """Sums of the true values of each event, (B,), from which their variance is made."""
  pt, eta, phi, energy = jnp.moveaxis(true, -1, 0)
  values = {
    "pt_true": pt,
    "eta_true": eta,
    "energy_true": energy,
    "pt_true_square": pt**2,
    "eta_true_square": eta**2,
    "energy_true_square": energy**2,
    "phi_cos_true": jnp.cos(phi),
    "phi_sin_true": jnp.sin(phi),
  }
  return {name: jnp.where(hidden, x, 0).sum(axis=-1) for name, x in values.items()}
