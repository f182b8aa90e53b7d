"""What the attention kernels share: their inputs, and how forward and backward make a gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jetfm.kernels.extent import particle_extent
from jetfm.kernels.partition import split_over_events


class Inputs(NamedTuple):
  """Arrays of one call, or what belongs to each, such as its blocks or its gradient.

  q, k and v have one dtype.
  """

  q: Any
  """(B, N, H, K)."""
  k: Any
  """(B, M, H, K)."""
  v: Any
  """(B, M, H, K)."""
  bias: Any
  """(B, H, N, M), or None."""
  query_mask: Any
  """(B, N) int32: 1 where a result is wanted; it is 0 elsewhere."""
  key_mask: Any
  """(B, M) int32: 1 where there is a key."""
  query_end: Any
  """(B,) int32: from here on, nothing is wanted."""
  key_end: Any
  """(B,) int32: from here on, there are no keys."""


class Options(NamedTuple):
  scale: float
  share_bias: bool = False
  """Also return the bias: its cotangent, the sum over later layers, comes back in `running`."""
  interpret: bool = False


def prepare(q, k, v, bias, mask, rows) -> Inputs:
  """Masks (B, M) of keys and (B, N) of wanted queries, or None -> how far a kernel has to go."""
  common = jnp.result_type(q, k, v)
  q, k, v = (x.astype(common) for x in (q, k, v))
  query_mask, key_mask = (
    jnp.ones(x.shape[:2], bool) if given is None else given for x, given in ((q, rows), (k, mask))
  )
  return Inputs(
    q,
    k,
    v,
    bias,
    query_mask.astype(jnp.int32),
    key_mask.astype(jnp.int32),
    particle_extent(query_mask),
    particle_extent(key_mask),
  )


Forward = Callable[..., tuple[jax.Array, Any]]
"""(inputs, options) -> out (B, N, H, K) and whatever the backward kernel wants to know."""
Backward = Callable[..., tuple]
"""(inputs, out, kept, d_out, running, options) -> gradients of q, k, v, bias.

`running` (B, H, N, M) is the gradient of the bias in later layers, to be added to this one's in
place, or None.
"""


def attention_of(
  forward: Forward, backward: Backward, *, ordered_interpreter: bool = False
) -> Callable[..., Any]:
  """attend(q, k, v, bias, mask, rows, scale, share_bias, interpret=False) from two kernels.

  ordered_interpreter: with `interpret`, kernels have side effects in an order, which can neither
    be split over devices nor vmapped.
  """

  def run(kernel, options: Options, *arrays):
    function = functools.partial(kernel, options=options)
    if options.interpret and ordered_interpreter:
      return function(*arrays)
    return split_over_events(function, *arrays)

  # Inside jit only so that the kernels are traced once, not in every layer.
  run_forward = jax.jit(functools.partial(run, forward), static_argnums=0)
  run_backward = jax.jit(functools.partial(run, backward), static_argnums=0)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
  def attend(inputs: Inputs, options: Options):
    out, _ = run_forward(options, inputs)
    return (out, inputs.bias) if options.share_bias else out

  def attend_forward(inputs: Inputs, options: Options):
    out, kept = run_forward(options, inputs)
    return (out, inputs.bias) if options.share_bias else out, (inputs, out, kept)

  def attend_backward(options: Options, saved, cotangents):
    d_out, running = cotangents if options.share_bias else (cotangents, None)
    d_q, d_k, d_v, d_bias = run_backward(options, *saved, d_out, running)
    return (Inputs(d_q, d_k, d_v, d_bias, None, None, None, None),)

  attend.defvjp(attend_forward, attend_backward)

  def attend_to(q, k, v, bias, mask, rows, scale, share_bias, interpret=False):
    inputs = prepare(q, k, v, bias, mask, rows)
    results = attend(inputs, Options(float(scale), share_bias, interpret))
    out, *shared = results if share_bias else (results,)
    return (out.astype(v.dtype), *shared) if share_bias else out.astype(v.dtype)

  return attend_to
