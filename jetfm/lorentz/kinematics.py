"""Kinematics of four-momenta (E, px, py, pz) in GeV, metric (+,-,-,-), angles in radians.

Every function is pure jnp, acts on the last axis, keeps the dtype, and has finite values and
gradients at zero four-momenta, which is what padding holds.

Differences of large numbers are taken in light-cone variables: E - pz of two floats within a
factor of two is exact, while E^2 - pz^2 is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.names import nearest

LOG_FLOOR = 1e-8
"""Arguments of logarithms are clamped here, as in ParT (arXiv:2202.03772)."""

_TINY = 1e-18  # its square is still a normal float32


def _sqrt(x: jax.Array) -> jax.Array:
  """Square root, 0 with zero gradient where x <= 0."""
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _log(x: jax.Array) -> jax.Array:
  return jnp.log(jnp.maximum(x, LOG_FLOOR))


def _arcsinh_ratio(pz: jax.Array, transverse: jax.Array) -> jax.Array:
  """asinh(pz / transverse): large where only pz is left, 0 with zero gradient where nothing is."""
  nothing = (pz == 0) & (transverse <= _TINY)
  divisor = jnp.where(nothing, 1, jnp.maximum(transverse, _TINY))
  return jnp.arcsinh(jnp.where(nothing, 0, pz) / divisor)


def _light_cone(p4: jax.Array) -> tuple[jax.Array, jax.Array]:
  """E + pz and E - pz."""
  return p4[..., 0] + p4[..., 3], p4[..., 0] - p4[..., 3]


def transverse_momentum(p4: ArrayLike) -> jax.Array:
  """pT in GeV, (..., 4) -> (...)."""
  p4 = jnp.asarray(p4)
  return _sqrt(p4[..., 1] ** 2 + p4[..., 2] ** 2)


def azimuth(p4: ArrayLike) -> jax.Array:
  """phi in (-pi, pi], (..., 4) -> (...); 0 for a vector along the beam."""
  p4 = jnp.asarray(p4)
  px, py = p4[..., 1], p4[..., 2]
  transverse = (px != 0) | (py != 0)
  return jnp.arctan2(jnp.where(transverse, py, 0), jnp.where(transverse, px, 1))


def pseudorapidity(p4: ArrayLike) -> jax.Array:
  """eta = asinh(pz / pT), (..., 4) -> (...).

  0 for the zero vector; large, finite and of the right sign for one along the beam.
  """
  p4 = jnp.asarray(p4)
  return _arcsinh_ratio(p4[..., 3], transverse_momentum(p4))


def rapidity(p4: ArrayLike) -> jax.Array:
  """y = asinh(pz / mT), mT^2 = (E + pz)(E - pz), (..., 4) -> (...).

  The same as ln((E + pz)/(E - pz))/2, without its loss of digits near y = 0 and its division by
  zero; 0 for the zero vector, large and finite where E <= |pz|.
  """
  p4 = jnp.asarray(p4)
  plus, minus = _light_cone(p4)
  return _arcsinh_ratio(p4[..., 3], _sqrt(plus * minus))


def mass_squared(p4: ArrayLike) -> jax.Array:
  """m^2 = (E + pz)(E - pz) - pT^2 in GeV^2, (..., 4) -> (...); may be negative by rounding."""
  p4 = jnp.asarray(p4)
  plus, minus = _light_cone(p4)
  return plus * minus - (p4[..., 1] ** 2 + p4[..., 2] ** 2)


def mass(p4: ArrayLike) -> jax.Array:
  """Invariant mass in GeV, (..., 4) -> (...); 0 with zero gradient where m^2 <= 0."""
  return _sqrt(mass_squared(p4))


def wrap_angle(angle: ArrayLike) -> jax.Array:
  """Any angle -> the equivalent one in (-pi, pi]."""
  angle = jnp.asarray(angle)
  return angle - 2 * math.pi * jnp.ceil((angle - math.pi) / (2 * math.pi))


def to_pt_eta_phi_e(p4: ArrayLike) -> jax.Array:
  """(E, px, py, pz) -> (pT, eta, phi, E), (..., 4) -> (..., 4)."""
  p4 = jnp.asarray(p4)
  return jnp.stack([transverse_momentum(p4), pseudorapidity(p4), azimuth(p4), p4[..., 0]], axis=-1)


def from_pt_eta_phi_e(coordinates: ArrayLike) -> jax.Array:
  """(pT, eta, phi, E) -> (E, px, py, pz), (..., 4) -> (..., 4)."""
  pt, eta, phi, energy = jnp.moveaxis(jnp.asarray(coordinates), -1, 0)
  return jnp.stack([energy, pt * jnp.cos(phi), pt * jnp.sin(phi), pt * jnp.sinh(eta)], axis=-1)


def _zero_padding(p4: ArrayLike, mask: ArrayLike) -> jax.Array:
  return jnp.where(jnp.asarray(mask)[..., None], jnp.asarray(p4), 0)


def jet_momentum(p4: ArrayLike, mask: ArrayLike) -> jax.Array:
  """Sum of the particles, p4 (..., N, 4) and mask (..., N) -> (..., 4)."""
  return _zero_padding(p4, mask).sum(axis=-2)


def constituent_mass(p4: ArrayLike, mask: ArrayLike) -> jax.Array:
  """Invariant mass of a jet's particles in GeV, p4 (..., N, 4) and mask (..., N) -> (...).

  E + pz and E - pz are summed separately: in float32 the sum loses fewer digits than its parts.
  """
  p4 = _zero_padding(p4, mask)
  plus, minus = (x.sum(axis=-1) for x in _light_cone(p4))
  px, py = p4[..., 1].sum(axis=-1), p4[..., 2].sum(axis=-1)
  return _sqrt(plus * minus - (px**2 + py**2))


def eta_sign(jet: ArrayLike) -> jax.Array:
  """Sign of the jet's eta as +1 or -1 (+1 at eta = 0), (..., 4) -> (...)."""
  jet = jnp.asarray(jet)
  return jnp.where(jet[..., 3] >= 0, 1, -1).astype(jet.dtype)


class _Jet(NamedTuple):
  """What a per-particle feature may read: particles (..., N, 4), their jet (..., 1, 4)."""

  p4: jax.Array
  jet: jax.Array


def _deta(x: _Jet) -> jax.Array:
  return eta_sign(x.jet) * (pseudorapidity(x.p4) - pseudorapidity(x.jet))


def _dphi(x: _Jet) -> jax.Array:
  return wrap_angle(azimuth(x.p4) - azimuth(x.jet))


PARTICLE_FEATURES: Mapping[str, Callable[[_Jet], jax.Array]] = MappingProxyType(
  {
    "pt": lambda x: transverse_momentum(x.p4),
    "eta": lambda x: pseudorapidity(x.p4),
    "phi": lambda x: azimuth(x.p4),
    "energy": lambda x: x.p4[..., 0],
    "deta": _deta,
    "dphi": _dphi,
    "log_pt": lambda x: _log(transverse_momentum(x.p4)),
    "log_e": lambda x: _log(x.p4[..., 0]),
    "log_pt_rel": lambda x: _log(transverse_momentum(x.p4)) - _log(transverse_momentum(x.jet)),
    "log_e_rel": lambda x: _log(x.p4[..., 0]) - _log(x.jet[..., 0]),
    "dr": lambda x: _sqrt(_deta(x) ** 2 + _dphi(x) ** 2),
  }
)
"""Names of the features that `particle_features` computes.

pt, energy in GeV; phi, dphi in radians; deta = sign(jet eta)(eta - jet eta), the reflection of
JetClass; dphi in (-pi, pi]; log_pt_rel = ln(pT/jet pT); log_e_rel = ln(E/jet E);
dr = sqrt(deta^2 + dphi^2).
"""


def particle_features(
  names: Sequence[str], p4: ArrayLike, mask: ArrayLike, *, jet: ArrayLike | None = None
) -> jax.Array:
  """Features of particles that are functions of the momenta, for F names.

  Shapes: p4 (..., N, 4) in GeV, mask (..., N) -> (..., N, F); padded slots are exactly 0, whatever
  p4 holds there. `jet` (..., 4) replaces the sum of the particles as the jet.
  Raises: ValueError for a name that is not in `PARTICLE_FEATURES`.
  """
  for name in names:
    if name not in PARTICLE_FEATURES:
      near = nearest(name, PARTICLE_FEATURES)
      raise ValueError(
        f"no particle feature '{name}'; the nearest is '{near}' of {list(PARTICLE_FEATURES)}"
      )
  mask = jnp.asarray(mask)
  p4 = _zero_padding(p4, mask)
  jet = jet_momentum(p4, mask) if jet is None else jnp.asarray(jet, p4.dtype)
  inputs = _Jet(p4, jet[..., None, :])
  if not names:
    return jnp.zeros((*mask.shape, 0), p4.dtype)
  columns = [PARTICLE_FEATURES[name](inputs) for name in names]
  return jnp.where(mask[..., None], jnp.stack(columns, axis=-1), 0)


def seed_mass(p4: ArrayLike, mask: ArrayLike) -> jax.Array:
  """The "jet mass" of the 2026 seed in GeV, p4 (..., N, 4) and mask (..., N) -> (...).

      m^2 = (sum E)^2 - |sum pT (cos dphi, sin dphi, sinh deta)|^2

  with E in the laboratory but pz relative to the jet axis: not an invariant mass (it follows the
  jet's |pz|). It exists to reproduce published regression numbers, and for nothing else.
  """
  mask = jnp.asarray(mask)
  p4 = _zero_padding(p4, mask)
  pt, deta, dphi = jnp.moveaxis(particle_features(("pt", "deta", "dphi"), p4, mask), -1, 0)
  shifted = jnp.stack(
    [p4[..., 0], pt * jnp.cos(dphi), pt * jnp.sin(dphi), pt * jnp.sinh(deta)], axis=-1
  )
  return mass(shifted.sum(axis=-2))
