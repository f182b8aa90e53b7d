"""What generation and super-resolution share: a predicted cloud against the true particles."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jetfm.lorentz import (
  jet_momentum,
  mass_squared,
  to_pt_eta_phi_e,
  transform_vectors,
  transverse_momentum,
)
from jetfm.models import (
  KINEMATICS,
  ParticleCloud,
  bounded_momenta,
  physical_momenta,
  standardise_kinematics,
)
from jetfm.objectives import (
  chamfer_distance,
  existence_cross_entropy,
  residual_sums,
  wasserstein_1d,
  weighted_mean,
  weighted_sum,
)
from jetfm.tasks.base import Statistics
from jetfm.tasks.masking import leading
from jetfm.typing import Array, Batch

ETA_SCALE = KINEMATICS[1].transforms[0].args[1]
"""Standardised eta over eta."""

JET_FLOOR = 10.0
"""GeV. Of jets below it, differences of pT and of squared mass count, and no longer ratios."""

SET_LOSSES = ("matched", "chamfer", "angular")


@dataclasses.dataclass(frozen=True)
class CloudLoss:
  """How a predicted cloud of S slots is compared with the S hardest true particles.

      L = <d>/4 + existence <BCE(logit, slot < n)> + jet_term <j>
      d = (pT - pT')^2 + (eta - eta')^2 + s^2 4 sin^2((phi - phi')/2) + (E - E')^2

  on the standardised scale of `jetfm.models.particles`; s gives phi the scale of eta there, so that
  errors of direction count alike around the jet's axis.

  matched: slot i is the particle of pT rank i; <d> is over all particles of the global batch.
  chamfer: the first n slots to their nearest true particles and back, halved: of the same scale,
  and blind to the order; <d> is over events.
  angular: pT and E of slot i are matched with those of rank i; directions are a set, whose halved
  Chamfer distance takes the place of the terms of eta and phi.
  Slots beyond the true multiplicity n count in the existence term only; jets of more than S
  particles lose their softest.

  Particles that are each as good as they can be are a poor jet together: the guess that is right on
  average is central in ln pT, so that their sum is too soft. The third term compares the sums of
  the first n slots and of the particles, above `JET_FLOOR` by
      j = ln(pT_jet / pT'_jet)^2 + ln(m_jet / m'_jet)^2.

  Raises: ValueError for an unknown distance, a negative weight or a scale that is not positive.
  """

  distance: str = "matched"
  existence: float = 1.0
  phi_scale: float = ETA_SCALE
  jet_term: float = 0.0

  def __post_init__(self):
    if self.distance not in SET_LOSSES:
      raise ValueError(f"set distance is '{self.distance}', expected one of {SET_LOSSES}")
    for name in ("existence", "jet_term"):
      if (weight := getattr(self, name)) < 0:
        raise ValueError(f"weight of {name} is {weight}, expected a number >= 0")
    if self.phi_scale <= 0:
      raise ValueError(f"phi_scale is {self.phi_scale}, expected a number > 0")

  def statistics(self, cloud: ParticleCloud, frame: Array, batch: Batch) -> Statistics:
    """Per-event values (B,), for loss and metrics; momenta of the cloud are in `frame`."""
    slots = cloud.existence.shape[-1]
    target = leading(batch, slots)
    exists = jnp.asarray(target.mask)
    p4 = transform_vectors(frame, jnp.where(exists[..., None], target.p4, 0))
    true = standardise_kinematics(p4)
    statistics = residual_sums(cloud.kinematics, true, exists)
    statistics["event"] = exists.any(axis=-1).astype(statistics["count"].dtype)
    statistics["existence"] = existence_cross_entropy(cloud.existence, exists).mean(axis=-1)
    if self.distance != "matched":
      # Of (pT, eta, phi, E).
      compared = jnp.asarray([0, 1, 1, 0] if self.distance == "angular" else [1] * 4, true.dtype)
      statistics["set_distance"] = 0.5 * chamfer_distance(
        compared * cloud.kinematics, compared * true, exists, exists, self.phi_scale
      )
    if self.jet_term:
      statistics |= _jet_statistics(cloud, p4, exists)
    return statistics | _metric_statistics(cloud, p4, exists, batch)

  def loss(self, statistics: Statistics, weight: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Statistics of the global batch and weight (B,) -> scalar and its named terms."""
    existence = weighted_mean(statistics["existence"], statistics["event"], weight)
    terms = {}
    if self.distance != "matched":
      terms[self.distance] = weighted_mean(statistics["set_distance"], statistics["event"], weight)
    if self.distance != "chamfer":
      ranked = {"pt": ("pt_square", 1.0), "energy": ("energy_square", 1.0)}
      if self.distance == "matched":
        ranked |= {"eta": ("eta_square", 1), "phi": ("phi_cosine", 2 * self.phi_scale**2)}
      for name, (of, factor) in ranked.items():
        terms[name] = factor * weighted_mean(statistics[of], statistics["count"], weight)
    loss = jnp.stack(list(terms.values())).sum() / 4 + self.existence * existence
    terms["existence"] = existence
    if self.jet_term:
      for name in ("jet_pt", "jet_mass"):
        terms[name] = weighted_mean(statistics[name], statistics["event"], weight)
        loss = loss + self.jet_term * terms[name]
    return loss, terms

  def metrics(self, statistics: Statistics, weight: Array) -> dict[str, jax.Array]:
    """Sums over events: name -> (numerator, denominator)."""
    events = weighted_sum(statistics["event"], weight)
    names = ("direction_chamfer", "pt_emd", "multiplicity_error", "existence")
    metrics = {n: jnp.stack([weighted_sum(statistics[n], weight), events]) for n in names}
    count = weighted_sum(statistics["count"], weight)
    for name in ("pt_square", "eta_square", "phi_cosine", "energy_square"):
      metrics[name.replace("_square", "_mse")] = jnp.stack(
        [weighted_sum(statistics[name], weight), count]
      )
    return metrics


def _jet_statistics(cloud: ParticleCloud, p4: Array, exists: Array) -> Statistics:
  """Squared log ratios of the jets' pT and masses, (B,), at the true multiplicity."""
  pred = bounded_momenta(cloud.kinematics)

  def logarithms(particles: Array) -> dict[str, jax.Array]:
    jet = jet_momentum(particles, exists)
    return {
      "jet_pt": jnp.log(transverse_momentum(jet) + JET_FLOOR),
      # Above the scale ln m, and up to a constant; smooth where a jet is one massless particle.
      "jet_mass": 0.5 * jnp.arcsinh(mass_squared(jet) / JET_FLOOR**2),
    }

  true = logarithms(p4)
  return {name: (value - true[name]) ** 2 for name, value in logarithms(pred).items()}


def _metric_statistics(cloud: ParticleCloud, p4: Array, exists: Array, batch: Batch) -> Statistics:
  """The cloud as a user gets it, cut at its own multiplicity, against all true slots."""
  kept = cloud.keep()
  pred = to_pt_eta_phi_e(physical_momenta(cloud.kinematics))
  true = to_pt_eta_phi_e(p4)
  direction = jnp.asarray([0, 1, 1, 0], pred.dtype)  # of (pT, eta, phi, E)
  multiplicity = batch.mask.sum(axis=-1)
  wrong = jnp.abs(kept.sum(axis=-1) - multiplicity) / jnp.maximum(multiplicity, 1)
  return {
    "direction_chamfer": chamfer_distance(pred * direction, true * direction, kept, exists),
    "pt_emd": wasserstein_1d(pred[..., 0], true[..., 0], kept, exists),
    "multiplicity_error": jnp.where(multiplicity > 0, wrong, 0),
  }
