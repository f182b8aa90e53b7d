"""Head that says where hidden particles are: a density over directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jetfm.lorentz import (
  azimuth,
  jet_momentum,
  pseudorapidity,
  transverse_momentum,
  wrap_angle,
)
from jetfm.models.encoder import Encoded
from jetfm.nn.initializers import lecun_normal
from jetfm.nn.linear import Dense

SMALLEST_WIDTH = 1e-3
"""Of a Gaussian, in (eta, phi): finer than the cells of calorimeters."""
_NOBODY = -1e9  # logit of what is not visible: finite, for events of which nothing is


@flax.struct.dataclass
class Directions:
  """Densities over (eta, phi) in the encoder's frame, one for each of N particles.

      p_i(x) = sum_k w_ik sum_j a_ikj N_2(x; x_j, s_ik^2) + w_i0 N_2(x; x_0, s_i0^2)

  over K kernels and visible particles j; x_0 is the axis of the visible particles' sum. Distances
  in phi are the shorter way round: of Gaussians so wide that they reach beyond pi the rest is lost,
  and a density integrates to less than 1.
  """

  axis: jax.Array
  """(B, 2) x_0, in the jet frame 0."""
  centres: jax.Array
  """(B, N, 2) directions x_j of visible particles."""
  log_share: jax.Array
  """(B, K, N, N) ln a_ikj."""
  log_weight: jax.Array
  """(B, N, K + 1) ln w, that of the axis last."""
  log_width: jax.Array
  """(B, N, K + 1) ln s."""

  def nll(self, direction: jax.Array) -> jax.Array:
    """Negative log density in nats at one direction for each particle, (B, N, 2) -> (B, N)."""
    log_width = jnp.moveaxis(self.log_width, -1, 1)
    half = 0.5 * jnp.exp(-2 * log_width)
    squares = _squared_distance(direction[:, :, None], self.centres[:, None])[:, None]
    of_kernels = jax.nn.logsumexp(self.log_share - half[:, :-1, :, None] * squares, axis=-1)
    of_axis = -half[:, -1:] * _squared_distance(direction, self.axis[:, None])[:, None]
    log_density = jnp.concatenate([of_kernels, of_axis], axis=1)
    log_norm = 2 * log_width + math.log(2 * math.pi)
    return -jax.nn.logsumexp(jnp.moveaxis(self.log_weight, -1, 1) + log_density - log_norm, axis=1)


def direction_of(p4: jax.Array) -> jax.Array:
  """(eta, phi), (..., 4) -> (..., 2); 0 of no momentum."""
  return jnp.stack([pseudorapidity(p4), azimuth(p4)], axis=-1)


def _squared_distance(a: jax.Array, b: jax.Array) -> jax.Array:
  eta, phi = jnp.moveaxis(a - b, -1, 0)
  return eta**2 + wrap_angle(phi) ** 2


class MaskedDirectionHead(nn.Module):
  """Where hidden particles are, told by which of the visible ones they are near.

  The direction of a hidden particle has as many likely values as the jet has prongs, and their mean
  is nobody's: a single value that is right on average is the jet's axis. Attention from hidden to
  visible tokens says here how a density is shared among the visible directions. An untrained head
  is near Gaussians of all `widths` and that of the axis in equal parts, around visible particles by
  their share of the pT.

  Shapes: Encoded of N particles -> Directions in float32, meaningful where `encoded.hidden`.

  Attributes:
    widths: of the K kernels, in (eta, phi), where training starts; axis_width: of the axis.
    features: of a key and a query of each kernel.
    dtype: in which these are computed; the rest is in the parameters' type.
  """

  widths: Sequence[float] = (0.02, 0.06, 0.15)
  axis_width: float = 0.4
  features: int = 16
  dtype: Any = None

  @nn.compact
  def __call__(self, encoded: Encoded, *, deterministic: bool = True) -> Directions:
    del deterministic
    x, kernels = encoded.tokens, len(self.widths)

    def read(features: int, name: str, scale: float, dtype: Any = None) -> jax.Array:
      return Dense(features, dtype=dtype, kernel_init=lecun_normal(scale), name=name)(x)

    shape = (*x.shape[:2], kernels, self.features)
    query = read(kernels * self.features, "query", 0.1, self.dtype).reshape(shape)
    key = read(kernels * self.features, "key", 1.0, self.dtype).reshape(shape)
    mixture = read(2 * (kernels + 1), "mixture", 0.01)
    log_weight, log_width = jnp.split(mixture, 2, axis=-1)
    start = jnp.log(jnp.asarray([*self.widths, self.axis_width], mixture.dtype))
    smallest = math.log(SMALLEST_WIDTH)
    seen = encoded.mask & ~encoded.hidden
    p4 = jnp.where(seen[..., None], encoded.p4, 0)
    log_pt = jnp.log(jnp.where(seen, transverse_momentum(p4), 1))
    logits = jnp.einsum("bikf,bjkf->bkij", query, key, preferred_element_type=mixture.dtype)
    logits = logits / math.sqrt(self.features)
    logits = jnp.where(seen[:, None, None], logits + log_pt[:, None, None], _NOBODY)
    return Directions(
      axis=direction_of(jet_momentum(p4, seen)),
      centres=direction_of(p4),
      log_share=jax.nn.log_softmax(logits, axis=-1),
      log_weight=jax.nn.log_softmax(log_weight, axis=-1),
      log_width=smallest + jax.nn.softplus(log_width + start - smallest),
    )
