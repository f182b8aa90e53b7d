"""A Lorentz-invariant term: the masses of reconstructed particles and of the completed jet.

Predicted pT, eta and E are independent numbers, so nothing in them keeps E^2 = p^2 + m^2. Squared
masses reach from a pion's 0.02 GeV^2 to 10^4 GeV^2, and those of wrong predictions have both
signs: residuals are taken of asinh(m^2 / scale^2), linear below the scale and logarithmic above.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.lorentz import mass_squared
from jetfm.objectives.averages import absolute, at_least_float32, weighted_mean

PARTICLE_SCALE = 3.0
"""GeV. A particle of 30 GeV whose E is wrong by half a percent has m^2 = scale^2."""
JET_SCALE = 100.0
"""GeV. A jet of 600 GeV whose E is wrong by 8 GeV has its m^2 wrong by scale^2."""


def mass_residual_sums(
  pred: ArrayLike,
  true: ArrayLike,
  selected: ArrayLike,
  visible: ArrayLike,
  scales: tuple[float, float] = (PARTICLE_SCALE, JET_SCALE),
) -> dict[str, jax.Array]:
  """Sums over the selected particles of each event, and over its jets (one or none).

  Shapes: pred and true (B, N, 4) four-momenta (E, px, py, pz) in GeV, of any common frame;
  selected (B, N) bool; visible (B, 4), the sum of the particles that are not selected -> (B,):
  `particles` and `jets` count; `particle_mass` adds |asinh(m^2_pred/s^2) - asinh(m^2_true/s^2)| of
  each selected particle, `jet_mass` the same of the visible momentum plus all selected ones, with
  `scales` in GeV for s of particles and of jets.
  Slots that are not selected may hold anything, NaN included.
  """
  chosen = jnp.asarray(selected)[..., None]
  pred = jnp.where(chosen, at_least_float32(pred), 0)
  true = jnp.where(chosen, at_least_float32(true), 0)

  def residual(p, q, scale):
    return absolute(
      jnp.arcsinh(mass_squared(p) / scale**2) - jnp.arcsinh(mass_squared(q) / scale**2)
    )

  jets = chosen.any(axis=(-2, -1))
  visible = jnp.where(jets[..., None], jnp.asarray(visible), 0)
  return {
    "particles": chosen.sum(axis=(-2, -1)).astype(pred.dtype),
    "particle_mass": residual(pred, true, scales[0]).sum(axis=-1),
    "jets": jets.astype(pred.dtype),
    "jet_mass": residual(visible + pred.sum(axis=-2), visible + true.sum(axis=-2), scales[1]),
  }


def invariant_mass_loss(
  sums: Mapping[str, ArrayLike], weight: ArrayLike
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """<|asinh m^2_pred - asinh m^2|> over particles plus the same over jets, and the two terms.

  Shapes: sums of `mass_residual_sums` (B,), weight (B,) -> scalar and scalars. No unit: 1 means a
  mass squared wrong by about scale^2, or, far above the scale, by a factor e. A perfect prediction
  gives 0. The value does not change when all four-momenta are boosted or rotated together.
  """
  terms = {
    "particle_mass": weighted_mean(sums["particle_mass"], sums["particles"], weight),
    "jet_mass": weighted_mean(sums["jet_mass"], sums["jets"], weight),
  }
  return terms["particle_mass"] + terms["jet_mass"], terms
