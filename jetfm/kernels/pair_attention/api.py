"""Attention with a bias: the contract, and the choice of implementation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.kernels.implementations import HALF, SINGLE, Implementation, by_name, by_platform
from jetfm.typing import Array

_HERE = "jetfm.kernels.pair_attention"
_TRITON, _TPU = f"{_HERE}.triton", f"{_HERE}.tpu"

HOPPER = ("H100", "H200", "H800", "H20", "GH200")
"""Only their warpgroups multiply from shared memory as 'mosaic_gpu' does."""

IMPLEMENTATIONS: dict[str, Implementation] = {
  "xla": Implementation(f"{_HERE}.reference", "pair_attention"),
  "xla_chunked": Implementation(f"{_HERE}.chunked", "pair_attention"),
  "triton": Implementation(_TRITON, "pair_attention", {}, "gpu", 512, SINGLE, 64),
  "mosaic_gpu": Implementation(
    f"{_HERE}.mosaic_gpu", "pair_attention", {}, "gpu", 512, HALF, 64, HOPPER
  ),
  "cudnn": Implementation(f"{_HERE}.cudnn", "pair_attention", {}, "gpu", None, HALF, 128),
  "tpu": Implementation(_TPU, "pair_attention", {}, "tpu", 256, SINGLE, 32),
  "interpret": Implementation(
    _TRITON, "pair_attention", {"interpret": True}, None, 512, (*SINGLE, "float64"), 64
  ),
}
"""'interpret' is 'triton' on any machine, slowly: for tests."""

KERNELS = {
  "cuda": (IMPLEMENTATIONS["mosaic_gpu"], IMPLEMENTATIONS["triton"]),
  "tpu": (IMPLEMENTATIONS["tpu"],),
}
"""What None chooses on a platform: the first that can; 'xla' elsewhere."""

IN_SHARD_MAP = {**KERNELS, "cuda": (IMPLEMENTATIONS["triton"],)}
"""Inside a shard_map that keeps track of what varies: Mosaic cannot change that in place."""

FEW_PARTICLES = 32
"""Up to so many particles XLA is as good, and compiles faster."""


def pair_attention(
  q: Array,
  k: Array,
  v: Array,
  bias: Array | None = None,
  mask: Array | None = None,
  *,
  lengths: Array | None = None,
  scale: float | None = None,
  share_bias: bool = False,
  implementation: str | None = None,
) -> Any:
  """Multi-head attention whose scores have a bias for every pair.

      o[b,n,h,:] = sum_m p[b,h,n,m] v[b,m,h,:]
      p[b,h,n,:] = softmax of (scale q[b,n,h,:].k[b,m,h,:] + bias[b,h,n,m]) over m with mask[b,m]

  The softmax is float32, or float64 where q is. Where mask is False, k, v and bias are ignored,
  whatever they hold. An event without any particle gives zeros and zero gradients. All arguments
  except mask and lengths have gradients.

  With `share_bias` the bias is also returned, for the next layer. The results are those of giving
  every layer the same bias, but its gradient is summed layer by layer in one array, where a kernel
  adds to it in place.

  Args:
    q: (B, N, H, K) queries.
    k, v: (B, M, H, K) keys and values.
    bias: (B, H, N, M), or None.
    mask: (B, M) bool, True where there is a particle; None where all slots are filled.
    lengths: (B,) int for attention of a set to itself (M = N): particles are among the first
      lengths[b] slots. The result is 0 where there is no particle, q and the bias are ignored there
      too, and kernels skip what lies beyond the lengths.
    scale: 1/sqrt(K) unless given.
    share_bias: return the pair (o, bias).
    implementation: None takes the kernel of the platform that the program is lowered for, where
      it can do the call and there are more than `FEW_PARTICLES`, else 'xla'; a name of
      `IMPLEMENTATIONS` asks for one.

  Returns: (B, N, H, K) in the dtype of v.
  Raises: ValueError for shapes that do not fit together, a mask that has particles beyond the
    lengths (where their values are known), or an unknown implementation; NotImplementedError if
    the one that was asked for cannot do the call.
  """
  _check_shapes(q, k, v, bias, mask, lengths)
  rows = None
  if lengths is not None:
    _check_lengths(mask, lengths, q.shape[1])
    inside = jnp.arange(q.shape[1]) < jnp.asarray(lengths)[:, None]
    mask = rows = inside if mask is None else mask & inside
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  arrays = (q, k, v, bias, mask, rows)
  particles = max(q.shape[1], k.shape[1])
  call = {
    "particles": particles,
    "dtypes": (jnp.result_type(q, k, v), *(() if bias is None else (bias.dtype,))),
    "width": q.shape[-1],
  }
  options = {"scale": scale, "share_bias": share_bias}
  if implementation is not None:
    chosen = by_name("pair_attention", implementation, IMPLEMENTATIONS, **call)
    return (chosen if q.size else IMPLEMENTATIONS["xla"])(*arrays, **options)
  kernels = KERNELS if particles > FEW_PARTICLES else {}
  if kernels and _varies(arrays):
    kernels = IN_SHARD_MAP
  return by_platform(IMPLEMENTATIONS["xla"], kernels, *arrays, call=call, options=options)


def _check_shapes(q, k, v, bias, mask, lengths) -> None:
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
  if lengths is not None:
    wanted["lengths"] = (lengths, (b,))
    wanted["k, beside lengths,"] = (k, q.shape)
  for name, (array, shape) in wanted.items():
    if array.shape != shape:
      raise ValueError(f"{name} has shape {array.shape}, expected {shape} beside q {q.shape}")


def _check_lengths(mask, lengths, n: int) -> None:
  """What can be checked: inside jit, values are not known."""
  if isinstance(lengths, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
    return
  lengths = np.asarray(lengths)
  for event in np.flatnonzero((lengths < 0) | (lengths > n))[:1]:
    raise ValueError(f"lengths[{event}] is {lengths[event]}, expected 0 to N = {n}")
  if mask is not None:
    beyond = np.asarray(mask) & (np.arange(n) >= lengths[:, None])
    for event, slot in np.argwhere(beyond)[:1]:
      raise ValueError(
        f"mask and lengths disagree: event {event} has length {lengths[event]}, but its mask has a "
        f"particle in slot {slot}"
      )


def _varies(arrays) -> bool:
  """Whether a shard_map around the call keeps track of the axes over which these vary."""
  leaves = jax.tree.leaves(arrays)
  return any(jax.typeof(x).manual_axis_type.varying for x in leaves)
