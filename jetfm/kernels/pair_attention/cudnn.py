"""Attention with a pair bias by NVIDIA's cuDNN, through jax.nn: half precision only."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pair_attention(q, k, v, bias, mask, rows, scale: float, share_bias: bool = False):
  """See `jetfm.kernels.pair_attention.api.pair_attention`."""
  n, width = q.shape[1], q.shape[-1]
  if width % 8:
    raise NotImplementedError(
      f"pair_attention: 'cudnn' takes head widths that are multiples of 8, got {width}"
    )
  shared = bias
  wanted = jnp.ones(q.shape[:2], bool) if rows is None else rows
  if mask is None:
    mask = jnp.ones(k.shape[:2], bool)
  else:
    wanted = wanted & mask.any(axis=1, keepdims=True)  # cuDNN averages over nobody
  pairs = (wanted[:, :, None] & mask[:, None, :])[:, None]  # (B, 1, N, M)
  q = _even(jnp.where(wanted[:, :, None, None], q, 0), 1)
  k, v = (_even(jnp.where(mask[:, :, None, None], x, 0), 1) for x in (k, v))
  if bias is not None:
    bias = _even(jnp.where(pairs, bias, 0).astype(q.dtype), 2, 3)
  out = jax.nn.dot_product_attention(
    q, k, v, bias, _even(pairs, 2, 3), scale=scale, implementation="cudnn"
  )[:, :n]
  out = jnp.where(wanted[:, :, None, None], out, 0)
  return (out, shared) if share_bias else out


def _even(x: jax.Array, *axes: int) -> jax.Array:
  """cuDNN's gradient of a bias wants even sizes."""
  return jnp.pad(x, [(0, size % 2 if axis in axes else 0) for axis, size in enumerate(x.shape)])
