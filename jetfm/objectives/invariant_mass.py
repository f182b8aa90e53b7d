"""A Lorentz-invariant term: the masses of reconstructed particles and of the completed jet.

Predicted pT, eta and E are independent numbers, so nothing in them keeps E^2 = p^2 + m^2. Squared
masses reach from a pion's 0.02 GeV^2 to 10^4 GeV^2, and those of wrong predictions have both
signs: residuals are taken of asinh(m^2 / scale^2), linear below the scale and logarithmic above.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.lorentz import mass_squared
from jetfm.objectives.averages import absolute, at_least_float32, weighted_mean

MASS_SCALE = 3.0
"""GeV. A particle of 30 GeV whose E is wrong by 15 % has |m^2| = scale^2."""


def mass_residual_sums(
  pred: ArrayLike,
  true: ArrayLike,
  selected: ArrayLike,
  visible: ArrayLike,
  scale: float = MASS_SCALE,
) -> dict[str, jax.Array]:
  """Sums over the selected particles of each event, and over its jets (one or none).

  Shapes: pred and true (B, N, 4) four-momenta (E, px, py, pz) in GeV, of any common frame;
  selected (B, N) bool; visible (B, 4), the sum of the particles that are not selected -> (B,):
  `particles` and `jets` count; `particle_mass` adds |asinh(m^2_pred/s^2) - asinh(m^2_true/s^2)| of
  each selected particle, `jet_mass` the same of the visible momentum plus all selected ones.
  Slots that are not selected may hold anything, NaN included.
  """
  chosen = jnp.asarray(selected)[..., None]
  pred = jnp.where(chosen, at_least_float32(pred), 0)
  true = jnp.where(chosen, at_least_float32(true), 0)

  def residual(p, q):
    return absolute(_compress(mass_squared(p), scale) - _compress(mass_squared(q), scale))

  jets = chosen.any(axis=(-2, -1))
  visible = jnp.where(jets[..., None], jnp.asarray(visible), 0)
  return {
    "particles": chosen.sum(axis=(-2, -1)).astype(pred.dtype),
    "particle_mass": residual(pred, true).sum(axis=-1),
    "jets": jets.astype(pred.dtype),
    "jet_mass": residual(visible + pred.sum(axis=-2), visible + true.sum(axis=-2)),
  }


def _compress(m2: jax.Array, scale: float) -> jax.Array:
  return jnp.arcsinh(m2 / scale**2)


def invariant_mass_loss(
  sums: dict[str, jax.Array], weight: ArrayLike
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
