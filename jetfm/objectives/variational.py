"""The Kullback-Leibler term of a variational autoencoder, and its warm-up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.objectives.averages import at_least_float32


def gaussian_kl(mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
  """KL(N(mean, variance) || N(0, 1)) of each latent dimension in nats, (..., Z) -> (..., Z).

      (mean^2 + variance - 1 - log variance) / 2,   zero only at the prior

  Source: arXiv:1312.6114, appendix B.
  """
  mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
  # expm1: variance - 1 cancels near the prior.
  return 0.5 * (mean**2 + jnp.expm1(log_variance) - log_variance)


def with_free_bits(kl: ArrayLike, free: float) -> jax.Array:
  """Sum over latent dimensions of max(kl, free), (..., Z) -> (...).

  `kl` is averaged over the global batch by the caller, before: a dimension whose average is below
  `free` nats costs a constant and is not pushed to the prior. `free=0` is the plain sum.
  Source: arXiv:1606.04934, section 4 and appendix C.8.
  Raises: ValueError if free is negative.
  """
  if free < 0:
    raise ValueError(f"free bits are {free} nats per dimension, expected a number >= 0")
  return jnp.maximum(jnp.asarray(kl), free).sum(axis=-1)


def warm_up(step: ArrayLike, steps: int) -> jax.Array:
  """min(step / steps, 1): the factor of beta, linear from 0; 1 at once when steps is 0."""
  if steps <= 0:
    return jnp.ones_like(jnp.asarray(step), dtype=float)
  return jnp.clip(jnp.asarray(step, dtype=float) / steps, 0.0, 1.0)
