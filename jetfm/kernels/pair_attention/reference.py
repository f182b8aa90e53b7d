"""Attention with a bias in plain JAX: what every other implementation must equal."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pair_attention(q, k, v, bias, mask, scale: float) -> jax.Array:
  """See `jetfm.kernels.pair_attention.api.pair_attention`."""
  accumulator = jnp.promote_types(q.dtype, jnp.float32)
  scores = jnp.einsum("bnhk,bmhk->bhnm", q * scale, k, preferred_element_type=accumulator)
  if bias is not None:
    scores = scores + bias
  if mask is not None:
    # Finite, because the difference of two infinities is not a number.
    mask = mask[:, None, None, :]
    scores = jnp.where(mask, scores, jnp.finfo(accumulator).min)
  largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
  weights = jnp.exp(scores - largest)
  if mask is not None:
    weights = jnp.where(mask, weights, 0)
  total = weights.sum(axis=-1)  # (B, H, N)
  total = jnp.where(total > 0, total, 1).swapaxes(1, 2)[..., None]  # (B, N, H, 1)
  mixed = jnp.einsum(
    "bhnm,bmhk->bnhk", weights.astype(v.dtype), v, preferred_element_type=accumulator
  )
  return (mixed / total).astype(v.dtype)
