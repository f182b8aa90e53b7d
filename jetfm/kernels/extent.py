"""How far a kernel has to look."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def particle_extent(mask: jax.Array) -> jax.Array:
  """(B, N) bool -> (B,) int32: index of the last particle plus one, 0 for an empty event.

  The number of particles where these come first, as they do in a `Batch`.
  """
  if not mask.shape[1]:
    return jnp.zeros(mask.shape[0], jnp.int32)
  # Without an initial value, which would be an operation of its own after the reduction.
  places = jnp.arange(1, mask.shape[1] + 1, dtype=jnp.int32)
  return jnp.max(jnp.where(mask, places, 0), axis=1)
