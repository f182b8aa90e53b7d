"""Features of pairs of particles: the input of the pairwise attention bias.

What belongs to one particle is computed once per particle (`pair_momenta`), what belongs to a pair
by a few operations on broadcast arrays (`pairwise_features`): a kernel evaluates the second on a
tile of pairs. Every argument of a logarithm is clamped at 1e-8, as in weaver-core.

Beyond it, m2 and dR are never below what momenta in float32 tell: of two massless particles of one
direction, and of each with itself, m2 is nothing but rounding, and its logarithm moves by several
units when the momenta move by their last digit. Gradients are finite also for collinear and zero
momenta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.lorentz.kinematics import (
  LOG_FLOOR,
  azimuth,
  pseudorapidity,
  rapidity,
  transverse_momentum,
  wrap_angle,
)
from jetfm.names import nearest

PAIR_FEATURES: dict[str, tuple[str, ...]] = {
  "part": ("ln_kt", "ln_z", "ln_dr", "ln_m2"),
  "lorentz_part": ("d_eta", "d_phi", "dr", "ln_ptpt"),
  "invariant": ("ln_m2",),
  "event": ("cos_angle", "ln_pp", "m", "ln_m2"),
}
"""Names of the features of each kind, in order."""

M2_RESOLUTION = 2.0**-19
"""The least m2 of a pair, of its momentum squared: 16 epsilons of float32, whatever the type."""

DR_RESOLUTION = 1e-5
"""The least dR of a pair: of that order is the error of rapidities up to 3 in float32."""


class PairMomenta(NamedTuple):
  """What the pair features need of each particle; all fields have one shape.

  `longitudinal` is the pseudorapidity for kind 'lorentz_part' and the rapidity for the others.
  """

  pt: jax.Array
  longitudinal: jax.Array
  phi: jax.Array
  energy: jax.Array
  px: jax.Array
  py: jax.Array
  pz: jax.Array


def _check_kind(kind: str) -> None:
  if kind not in PAIR_FEATURES:
    near = nearest(kind, PAIR_FEATURES)
    raise ValueError(f"no pair features '{kind}'; the nearest is '{near}' of {list(PAIR_FEATURES)}")


def pair_momenta(p4: ArrayLike, kind: str = "part") -> PairMomenta:
  """Per-particle part of the pair features, (..., N, 4) in GeV -> fields (..., N).

  Raises: ValueError for an unknown kind.
  """
  _check_kind(kind)
  p4 = jnp.asarray(p4)
  longitudinal = pseudorapidity(p4) if kind == "lorentz_part" else rapidity(p4)
  energy, px, py, pz = jnp.moveaxis(p4, -1, 0)
  return PairMomenta(transverse_momentum(p4), longitudinal, azimuth(p4), energy, px, py, pz)


def pairwise_features(
  i: PairMomenta,
  j: PairMomenta,
  kind: str = "part",
  log: Callable[[jax.Array], jax.Array] = jnp.log,
) -> tuple[jax.Array, ...]:
  """The features of all pairs of two sets whose shapes broadcast, such as (N, 1) and (1, M).

  part (arXiv:2202.03772, in weaver-core's order; dR from rapidity and phi):
      ln kT = ln(min(pT_i, pT_j) dR),   ln z = ln(min(pT_i, pT_j)/(pT_i + pT_j)),
      ln dR,   ln m2 = ln((p_i + p_j)^2),   with dR and m2 not below `DR_RESOLUTION` and
      `M2_RESOLUTION` |p_i + p_j|^2
  lorentz_part (dR from pseudorapidity and phi):
      d_eta = eta_i - eta_j,   d_phi = phi_i - phi_j in (-pi, pi],   dR,   ln(pT_i pT_j)
  invariant (under the whole Lorentz group where m2 is resolved, as no other of these is):
      ln m2
  event (of e+e- collisions, where no direction is special; m = sqrt(m2) shows resonances):
      cos_angle = p_i . p_j / (|p_i| |p_j|), 0 for a momentum of 0;   ln(|p_i| |p_j|),   m,   ln m2

  A kernel may give another natural logarithm, such as a faster one with fewer digits.
  Raises: ValueError for an unknown kind.
  """
  _check_kind(kind)
  if kind == "invariant":
    return (log(_mass_squared(i, j)),)
  if kind == "event":
    squares = (i.pt**2 + i.pz**2) * (j.pt**2 + j.pz**2)
    moving = squares > LOG_FLOOR**4
    dot = i.px * j.px + i.py * j.py + i.pz * j.pz
    cos = jnp.where(moving, dot * jax.lax.rsqrt(jnp.where(moving, squares, 1)), 0)
    ln_pp = 0.5 * log(jnp.maximum(squares, LOG_FLOOR**2))
    m2 = _mass_squared(i, j)
    heavy = m2 > LOG_FLOOR
    m = jnp.where(heavy, jnp.sqrt(jnp.where(heavy, m2, 1)), 0)
    return jnp.clip(cos, -1, 1), ln_pp, m, log(m2)
  d_long = i.longitudinal - j.longitudinal
  d_phi = wrap_angle(i.phi - j.phi)
  dr2 = d_long**2 + d_phi**2
  if kind == "lorentz_part":
    apart = dr2 > 0
    dr = jnp.where(apart, jnp.sqrt(jnp.where(apart, dr2, 1)), 0)
    return d_long, d_phi, dr, log(jnp.maximum(i.pt * j.pt, LOG_FLOOR))
  pt_min = jnp.minimum(i.pt, j.pt)
  dr2 = jnp.maximum(dr2, DR_RESOLUTION**2)
  ln_kt = 0.5 * log(jnp.maximum(pt_min**2 * dr2, LOG_FLOOR**2))
  ln_dr = 0.5 * log(dr2)
  ln_z = log(jnp.maximum(pt_min / jnp.maximum(i.pt + j.pt, LOG_FLOOR), LOG_FLOOR))
  return ln_kt, ln_z, ln_dr, log(_mass_squared(i, j))


def _mass_squared(i: PairMomenta, j: PairMomenta) -> jax.Array:
  """(p_i + p_j)^2, not below what is resolved of it, nor below 1e-8."""
  energy, px, py, pz = i.energy + j.energy, i.px + j.px, i.py + j.py, i.pz + j.pz
  pt2 = px**2 + py**2
  m2 = (energy + pz) * (energy - pz) - pt2
  return jnp.maximum(jnp.maximum(m2, M2_RESOLUTION * (pt2 + pz**2)), LOG_FLOOR)


def pair_features(p4: ArrayLike, kind: str = "part") -> jax.Array:
  """All pairs of a jet's particles, (..., N, 4) in GeV -> (..., N, M, F) with M = N.

  The F features come last, in the order of `PAIR_FEATURES[kind]`; see `pairwise_features`. Padded
  (zero) particles give finite values without meaning: attention masks them.
  Raises: ValueError for an unknown kind.
  """
  momenta = pair_momenta(p4, kind)
  i = PairMomenta(*(x[..., :, None] for x in momenta))
  j = PairMomenta(*(x[..., None, :] for x in momenta))
  return jnp.stack(pairwise_features(i, j, kind), axis=-1)
