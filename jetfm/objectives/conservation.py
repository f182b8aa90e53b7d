"""The conservation loss of masked-particle reconstruction, and its MSE baseline.

Per-event sums first (`residual_sums`), one function of their global totals after: a root mean
square or a bias of the global batch is not the mean of those of its parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.objectives.averages import absolute, at_least_float32, weighted_mean


@dataclasses.dataclass(frozen=True)
class Conservation:
  """Coefficients of the terms. Those of pT, eta, phi and E count relative to their sum.

  Raises: ValueError for a negative coefficient, or when the four are all zero.
  """

  pt: float = 1.0
  eta: float = 1.0
  phi: float = 1.0
  energy: float = 1.0
  gamma: float = 0.5
  """Weight of the bias penalty, not normalised."""
  epsilon: float = 1e-8
  """Added below the root: the gradient of RMSE stays finite at a perfect prediction."""

  def __post_init__(self):
    if min(dataclasses.astuple(self)) < 0 or self.epsilon == 0 or sum(self._raw) == 0:
      raise ValueError(f"{self}: coefficients must be >= 0, not all zero, and epsilon > 0")

  @property
  def _raw(self) -> tuple[float, float, float, float]:
    return self.pt, self.eta, self.phi, self.energy

  @property
  def normalised(self) -> tuple[float, float, float, float]:
    """Coefficients of (pT, eta, phi, E), which sum to one."""
    pt, eta, phi, energy = (c / sum(self._raw) for c in self._raw)
    return pt, eta, phi, energy


RESIDUALS = (
  "pt_error",
  "pt_square",
  "eta_absolute",
  "eta_square",
  "phi_cosine",
  "energy_error",
  "energy_square",
)
"""Names of the sums that `residual_sums` makes, beside `count`."""


def residual_sums(pred: ArrayLike, true: ArrayLike, selected: ArrayLike) -> dict[str, jax.Array]:
  """Sums over the selected particles of each event, from which both losses are made.

  Shapes: pred and true (B, N, 4), standardised (pT, eta, E) and phi in radians, in the order
  (pT, eta, phi, E); selected (B, N) bool -> `count` and sums (B,). Slots that are not selected may
  hold anything, NaN included.
  Names: <x>_error = sum (pred - true), <x>_square = sum (pred - true)^2,
  eta_absolute = sum |pred - true|, phi_cosine = sum (1 - cos(pred - true)).
  """
  selected = jnp.asarray(selected)
  residual = jnp.where(selected[..., None], at_least_float32(pred) - jnp.asarray(true), 0)
  pt, eta, phi, energy = jnp.moveaxis(residual, -1, 0)
  # 1 - cos(x) = 2 sin^2(x / 2), without the cancellation near zero.
  phi_cosine = 2 * jnp.sin(phi / 2) ** 2
  values = (pt, pt**2, absolute(eta), eta**2, phi_cosine, energy, energy**2)
  sums = {name: value.sum(axis=-1) for name, value in zip(RESIDUALS, values, strict=True)}
  return {"count": selected.sum(axis=-1).astype(residual.dtype), **sums}


def conservation_loss(
  sums: Mapping[str, ArrayLike], weight: ArrayLike, coef: Conservation = Conservation()
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss over all selected particles of the global batch, and its named terms.

      L = c_pT RMSE(pT) + gamma |<pT_pred - pT>| + c_eta <|eta_pred - eta|>
        + c_phi <1 - cos(phi_pred - phi)> + c_E RMSE(E) + gamma |<E_pred - E>|,

      RMSE(x) = sqrt(<(x_pred - x)^2> + epsilon),   c_pT + c_eta + c_phi + c_E = 1.

  Shapes: sums of `residual_sums` (B,), beside which there may be others, and weight (B,) -> scalar
  and scalars, the terms without their coefficients. A perfect prediction gives
  (c_pT + c_E) sqrt(epsilon).
  """
  mean = _means(sums, weight)
  c_pt, c_eta, c_phi, c_energy = coef.normalised
  terms = {
    "pt": jnp.sqrt(mean["pt_square"] + coef.epsilon),
    "eta": mean["eta_absolute"],
    "phi": mean["phi_cosine"],
    "energy": jnp.sqrt(mean["energy_square"] + coef.epsilon),
    "pt_bias": absolute(mean["pt_error"]),
    "energy_bias": absolute(mean["energy_error"]),
  }
  loss = (
    c_pt * terms["pt"]
    + c_eta * terms["eta"]
    + c_phi * terms["phi"]
    + c_energy * terms["energy"]
    + coef.gamma * (terms["pt_bias"] + terms["energy_bias"])
  )
  return loss, terms


def mse_cosine_loss(
  sums: Mapping[str, ArrayLike], weight: ArrayLike, coef: Conservation = Conservation()
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The baseline: mean squared errors of pT, eta, E and <1 - cos> of phi; `gamma` plays no part.

  Shapes as in `conservation_loss`. A perfect prediction gives 0.
  """
  mean = _means(sums, weight)
  terms = {
    "pt": mean["pt_square"],
    "eta": mean["eta_square"],
    "phi": mean["phi_cosine"],
    "energy": mean["energy_square"],
  }
  c_pt, c_eta, c_phi, c_energy = coef.normalised
  loss = (
    c_pt * terms["pt"] + c_eta * terms["eta"] + c_phi * terms["phi"] + c_energy * terms["energy"]
  )
  return loss, terms


def _means(sums: Mapping[str, ArrayLike], weight: ArrayLike) -> dict[str, jax.Array]:
  return {name: weighted_mean(sums[name], sums["count"], weight) for name in RESIDUALS}
