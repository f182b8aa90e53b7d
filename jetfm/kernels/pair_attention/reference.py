"""Attention with a bias in plain JAX: what every other implementation must equal."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pair_attention(q, k, v, bias, mask, rows, scale: float, share_bias: bool = False):
  """See `jetfm.kernels.pair_attention.api.pair_attention`; rows (B, N) are the wanted queries."""
  shared = bias
  accumulator = jnp.promote_types(q.dtype, jnp.float32)
  if rows is not None:
    q = jnp.where(rows[:, :, None, None], q, 0)
  if mask is not None:
    # A weight of 0 removes what padding holds, unless that is not a number.
    k, v = (jnp.where(mask[:, :, None, None], x, 0) for x in (k, v))
    mask = mask[:, None, None, :]
    if rows is not None:
      mask = mask & rows[:, None, :, None]
  scores = jnp.einsum("bnhk,bmhk->bhnm", q * scale, k, preferred_element_type=accumulator)
  if bias is not None:
    scores = scores + bias
  if mask is not None:
    # Finite, because the difference of two infinities is not a number.
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
  out = (mixed / total).astype(v.dtype)
  return (out, shared) if share_bias else out
