"""Particles as heads predict them: standardised kinematics in the encoder's frame.

Four numbers for each particle, in the order of `KINEMATICS`: log pT, 4 eta, phi, log E, with ParT's
fixed numbers for the logarithms (arXiv:2202.03772) and phi in radians. eta is the pseudorapidity.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm import lorentz
from jetfm.nn.initializers import lecun_normal
from jetfm.nn.linear import Dense
from jetfm.schema import Feature, Transform

_LOG_PT = Transform("affine", (1.7, 0.7))
_LOG_E = Transform("affine", (2.0, 0.7))

KINEMATICS = (
  Feature("pt", "GeV", transforms=(Transform("log"), _LOG_PT), derived=True),
  Feature("eta", "", transforms=(Transform("affine", (0.0, 4.0)),), derived=True),
  Feature(
    "phi", "rad", transforms=(Transform("periodic", (2 * math.pi,)),), likelihood="cosine",
    derived=True,
  ),
  Feature("energy", "GeV", transforms=(Transform("log"), _LOG_E), derived=True),
)  # fmt: skip
"""What is predicted of a particle, from physical units to the scale of the losses."""

_FARTHEST = (10.0, 40.0, 10.0, 10.0)
"""Standardised (pT, eta, phi, E): pT of 10^7 GeV, |eta| of 10."""


def standardise_kinematics(p4: jax.Array) -> jax.Array:
  """Momenta in GeV, in the frame of the prediction, -> standardised, (..., 4) -> (..., 4)."""
  coordinates = lorentz.to_pt_eta_phi_e(p4)
  return _each("forward", coordinates)


def physical_momenta(kinematics: jax.Array) -> jax.Array:
  """The inverse of `standardise_kinematics`: (..., 4) -> four-momenta (E, px, py, pz) in GeV."""
  return lorentz.from_pt_eta_phi_e(_each("inverse", kinematics))


def bounded_momenta(kinematics: jax.Array) -> jax.Array:
  """`physical_momenta` of predictions that may be anything: sums of them can be squared in float32.

  Beyond 10^7 GeV in pT or E, or |eta| = 10, a prediction counts as there, without a gradient.
  """
  farthest = jnp.asarray(_FARTHEST, kinematics.dtype)
  return physical_momenta(jnp.clip(kinematics, -farthest, farthest))


def _each(direction: str, x: jax.Array) -> jax.Array:
  columns = [getattr(f, direction)(x[..., i]) for i, f in enumerate(KINEMATICS)]
  return jnp.stack(columns, axis=-1)


class KinematicsOutput(nn.Module):
  """Features -> standardised kinematics.

  phi is the angle of a predicted vector, so that it has no edge at pi. With `physical=True` the
  energy is at least the momentum, ln E = ln(pT cosh eta) + softplus(r) with r starting at -4:
  generated particles then have real masses. Without, ln E is free.

  Shapes: x (..., D), base (..., 4) or None, added to log pT, eta, phi and, where it is free, ln E
  -> (..., 4) float32.
  """

  physical: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, base: jax.Array | None = None) -> jax.Array:
    # An untrained head is near its base, or near the jet's axis.
    # In the parameters' type, also of tokens in half precision.
    raw = Dense(5, kernel_init=lecun_normal(0.01), name="kinematics")(x)
    log_pt, eta, cos, sin, log_e = jnp.moveaxis(raw, -1, 0)
    phi = jnp.arctan2(sin, 1 + cos)  # zero weights mean phi = 0, where the angle is defined
    if base is not None:
      log_pt, eta = log_pt + base[..., 0], eta + base[..., 1]
      phi = lorentz.wrap_angle(phi + base[..., 2])
    if self.physical:
      # In natural logarithms: ln(cosh x) = |x| + ln(1 + e^{-2|x|}) - ln 2 does not overflow.
      natural_pt = KINEMATICS[0].transforms[1]
      rapidity = jnp.abs(KINEMATICS[1].inverse(eta))
      log_p = log_pt / natural_pt.args[1] + natural_pt.args[0]
      log_p = log_p + rapidity + jnp.log1p(jnp.exp(-2 * rapidity)) - math.log(2)
      shift, scale = _LOG_E.args
      log_e = (log_p + nn.softplus(log_e - 4) - shift) * scale
    elif base is not None:
      log_e = log_e + base[..., 3]
    return jnp.stack([log_pt, eta, phi, log_e], axis=-1)
