"""Attention with a pair bias on TPUs: one program per event, scores only in vector memory.

A head of 16 numbers fills an eighth of a vector register. So the heads of an event stay side by
side in one (N, H K) matrix, and a product for one head has zeros in the columns of the others: the
matrix unit takes 128 columns anyway, and nothing is moved between lanes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jetfm.kernels.pair_attention.gradient import Inputs, Options, attention_of
from jetfm.kernels.pallas import accumulator, dot, result, tpu_call

LOWEST = -1e30


def _forward(inputs: Inputs, *, options: Options) -> tuple[jax.Array, None]:
  flat = _flat(inputs)
  out = tpu_call(
    functools.partial(_forward_kernel, heads=inputs.q.shape[2], scale=options.scale),
    name="pair_attention_forward",
    grid=inputs.q.shape[:1],
    in_specs=(_of_an_event(flat),),
    out_specs=_of_an_event(flat.q),
    out_shape=result(flat.q.shape, flat.q.dtype, inputs),
    interpret=options.interpret,
  )(flat)
  return out.reshape(inputs.q.shape), None


def _forward_kernel(inputs, out_ref, *, heads: int, scale: float):
  q, k, v = inputs.q[0], inputs.k[0], inputs.v[0]
  out = jnp.zeros(q.shape, accumulator(q.dtype))
  for head in range(heads):
    own = _columns_of(head, heads, q.shape[1])
    weights = _weights(inputs, jnp.where(own, q, 0), k, head, scale)
    out = out + dot(weights.astype(v.dtype), jnp.where(own, v, 0))
  out_ref[0] = out.astype(out_ref.dtype)


def _backward(inputs: Inputs, out, kept, d_out, running, *, options: Options):
  del kept  # scores are computed again
  flat, bias = _flat(inputs), inputs.bias
  heads = inputs.q.shape[2]
  everything = (flat, _merge_heads(out), _merge_heads(d_out), running)
  results = (
    result(flat.q.shape, flat.q.dtype, everything),
    result(flat.k.shape, flat.k.dtype, everything),
    result(flat.v.shape, flat.v.dtype, everything),
    None if bias is None else result(bias.shape, bias.dtype, everything),
  )
  d_q, d_k, d_v, d_bias = tpu_call(
    functools.partial(_backward_kernel, heads=heads, scale=options.scale),
    name="pair_attention_backward",
    grid=inputs.q.shape[:1],
    in_specs=_of_an_event(everything),
    out_specs=_of_an_event(results),
    out_shape=results,
    aliases={} if running is None else {len(jax.tree.leaves(everything)) - 1: 3},
    interpret=options.interpret,
  )(*everything)
  q, k, v = inputs[:3]
  return d_q.reshape(q.shape), d_k.reshape(k.shape), d_v.reshape(v.shape), d_bias


def _backward_kernel(
  inputs, out_ref, d_out_ref, running_ref, d_q_ref, d_k_ref, d_v_ref, d_bias_ref,
  *, heads: int, scale: float,
):  # fmt: skip
  q, k, v, out, d_out = inputs.q[0], inputs.k[0], inputs.v[0], out_ref[0], d_out_ref[0]
  precise = accumulator(q.dtype)
  d_out = jnp.where(inputs.query_mask[0] > 0, d_out, 0)  # what is not wanted may hold anything
  d_q, d_k, d_v = (jnp.zeros(x.shape, precise) for x in (q, k, v))
  for head in range(heads):
    own = _columns_of(head, heads, q.shape[1])
    own_d_out = jnp.where(own, d_out, 0)
    weights = _weights(inputs, jnp.where(own, q, 0), k, head, scale)
    gain = dot(own_d_out, v, contract=(1, 1))
    common = (own_d_out.astype(precise) * out.astype(precise)).sum(axis=1, keepdims=True)
    d_scores = weights * (gain - common)
    if d_bias_ref is not None:
      d_bias = d_scores
      if running_ref is not None:
        d_bias = d_bias + running_ref[0, head].astype(precise)
      d_bias_ref[0, head] = d_bias.astype(d_bias_ref.dtype)
    d_scores = d_scores.astype(q.dtype)
    d_q = d_q + dot(d_scores, jnp.where(own, k, 0))
    d_k = d_k + dot(d_scores, jnp.where(own, q, 0), contract=(0, 0))
    d_v = d_v + dot(weights.astype(q.dtype), own_d_out, contract=(0, 0))
  d_q_ref[0] = (d_q * scale).astype(d_q_ref.dtype)
  d_k_ref[0] = (d_k * scale).astype(d_k_ref.dtype)
  d_v_ref[0] = d_v.astype(d_v_ref.dtype)


pair_attention = attention_of(_forward, _backward)
"""See `jetfm.kernels.pair_attention.api.pair_attention`."""


def _weights(inputs, q, k, head: int, scale: float) -> jax.Array:
  """Softmax (N, M) of one head, zero where there is no key or the query is not wanted."""
  scores = dot(q, k, contract=(1, 1)) * scale
  if inputs.bias is not None:
    scores = scores + inputs.bias[0, head].astype(scores.dtype)
  counts = (inputs.key_mask[0] > 0) & (inputs.query_mask[0] > 0)
  scores = jnp.where(counts, scores, LOWEST)
  weights = jnp.where(counts, jnp.exp(scores - scores.max(axis=1, keepdims=True)), 0.0)
  total = weights.sum(axis=1, keepdims=True)
  return weights / jnp.where(total > 0, total, 1.0)


def _columns_of(head: int, heads: int, width: int) -> jax.Array:
  """(1, H K) bool: the columns of a head."""
  size = width // heads
  column = jax.lax.broadcasted_iota(jnp.int32, (1, width), 1)
  return (column >= head * size) & (column < (head + 1) * size)


def _flat(inputs: Inputs) -> Inputs:
  """Heads side by side, and flags in the shapes that a TPU's registers like."""
  q, k, v = (_merge_heads(x) for x in inputs[:3])
  wanted, exists = inputs.query_mask[:, :, None], inputs.key_mask[:, :, None]
  return inputs._replace(
    q=jnp.where(wanted > 0, q, 0),
    k=jnp.where(exists > 0, k, 0),
    v=jnp.where(exists > 0, v, 0),
    query_mask=wanted,
    key_mask=inputs.key_mask[:, None, :],
    query_end=None,
    key_end=None,
  )


def _merge_heads(x: jax.Array) -> jax.Array:
  return x.reshape(*x.shape[:2], -1)


def _of_an_event(arrays):
  """Blocks of one event, for every array."""

  def spec(x):
    return pl.BlockSpec((1, *x.shape[1:]), lambda b: (b,) + (0,) * (len(x.shape) - 1))

  return jax.tree.map(spec, arrays)
