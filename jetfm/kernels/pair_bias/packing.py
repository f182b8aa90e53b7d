"""Inputs of the pair bias in the form that a kernel wants: plain arrays without odd sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jetfm.kernels.pair_bias.features import PAIR_KINDS
from jetfm.kernels.pair_bias.reference import fold_standardisation
from jetfm.kernels.pallas import accumulator
from jetfm.lorentz import PairMomenta, pair_momenta

FIELDS = len(PairMomenta._fields) + 1
"""Numbers of a particle: its `PairMomenta`, and 1 if it is hidden."""


def pack_particles(p4, hidden, kind: str, dtype: Any) -> jax.Array:
  """p4 (B, N, 4), hidden (B, N) or None -> (B, FIELDS, N) in the accumulator's precision."""
  momenta = pair_momenta(p4, PAIR_KINDS[kind].source)
  flags = jnp.zeros(p4.shape[:2], p4.dtype) if hidden is None else hidden.astype(p4.dtype)
  return jnp.stack([*momenta, flags], axis=1).astype(accumulator(dtype))


def pack_weights(weights, kind: str, dtype: Any, padded: Callable[[int], int]):
  """Weights that act on raw features, every width rounded up by `padded` with zeros.

  A padded channel is 0 before and after its activation. Kernels have `dtype`, the rest is in the
  accumulator's precision. Differentiable: a kernel needs the gradients of packed weights only.
  """
  weights = fold_standardisation(weights, kind)

  def grow(x, dtype):
    x = jnp.asarray(x)
    return jnp.pad(x, [(0, padded(size) - size) for size in x.shape]).astype(dtype)

  precise = accumulator(dtype)
  return weights._replace(
    kernels=tuple(grow(kernel, dtype) for kernel in weights.kernels),
    biases=tuple(grow(bias, precise) for bias in weights.biases),
    scales=tuple(grow(scale, precise) for scale in weights.scales),
    hidden=grow(weights.hidden, precise),
  )
