"""Attention with a bias: the contract, and the choice of implementation."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jetfm.kernels.implementations import select
from jetfm.kernels.pair_attention import reference
from jetfm.typing import Array

IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {"xla": reference.pair_attention}


def pair_attention(
  q: Array,
  k: Array,
  v: Array,
  bias: Array | None = None,
  mask: Array | None = None,
  *,
  scale: float | None = None,
  implementation: str | None = None,
) -> jax.Array:
  """Multi-head attention whose scores have a bias for every pair.

      o[b,n,h,:] = sum_m p[b,h,n,m] v[b,m,h,:]
      p[b,h,n,:] = softmax of (scale q[b,n,h,:].k[b,m,h,:] + bias[b,h,n,m]) over m with mask[b,m]

  The softmax is float32, or float64 where q is. Where mask is False, k, v and bias are ignored as
  long as they are finite. An event without any particle gives zeros and zero gradients. All
  arguments except the mask have gradients.

  Args:
    q: (B, N, H, K) queries.
    k, v: (B, M, H, K) keys and values.
    bias: (B, H, N, M), or None.
    mask: (B, M) bool, True where there is a particle; None where all slots are filled.
    scale: 1/sqrt(K) unless given.
    implementation: None chooses; 'xla' is the reference.

  Returns: (B, N, H, K) in the dtype of v.
  Raises: ValueError for shapes that do not fit together or an unknown implementation.
  """
  _check_shapes(q, k, v, bias, mask)
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  return select("pair_attention", implementation or "xla", IMPLEMENTATIONS)(
    q, k, v, bias, mask, scale
  )


def _check_shapes(q, k, v, bias, mask) -> None:
  if q.ndim != 4 or k.ndim != 4:
    raise ValueError(f"q {q.shape} and k {k.shape}: expected (B, N, H, K) and (B, M, H, K)")
  (b, n, h, width), m = q.shape, k.shape[1]
  wanted: dict[str, tuple[Array, tuple[int, ...]]] = {
    "k": (k, (b, m, h, width)),
    "v": (v, (b, m, h, width)),
  }
  if bias is not None:
    wanted["bias"] = (bias, (b, h, n, m))
  if mask is not None:
    wanted["mask"] = (mask, (b, m))
  for name, (array, shape) in wanted.items():
    if array.shape != shape:
      raise ValueError(f"{name} has shape {array.shape}, expected {shape} beside q {q.shape}")
