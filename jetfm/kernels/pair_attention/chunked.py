"""Attention a few events at a time: their scores stay in a CPU's cache, or take little memory.

The backward pass recomputes the scores of a chunk instead of keeping those of the whole batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jetfm.kernels.pair_attention import reference

SCORES = 2**19
"""Scores at a time: 2 MB in float32."""


def pair_attention(q, k, v, bias, mask, rows, scale: float, share_bias: bool = False):
  """See `jetfm.kernels.pair_attention.api.pair_attention`."""
  events, n, heads, _ = q.shape
  chunk = max(SCORES // (heads * n * k.shape[1]), 1)
  arrays = (q, k, v, bias, mask, rows)
  whole = events - events % chunk

  @jax.checkpoint
  def attend(arrays):
    q, k, v, bias, mask, rows = arrays
    return reference.pair_attention(q, k, v, bias, mask, rows, scale)

  parts = []
  if whole:
    stacked = jax.tree.map(lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), arrays)
    out = jax.lax.map(attend, stacked)
    parts.append(out.reshape(whole, *out.shape[2:]))
  if whole < events:
    parts.append(attend(jax.tree.map(lambda x: x[whole:], arrays)))
  out = jnp.concatenate(parts)
  return (out, bias) if share_bias else out
