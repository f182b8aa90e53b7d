"""How kernels of token layers make differentiable functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jetfm.kernels.pallas import accumulator
from jetfm.kernels.partition import split_over_events, varying_as
from jetfm.kernels.token_layers import reference
from jetfm.kernels.token_layers.weights import ResidualWeights


class LinearOptions(NamedTuple):
  parts: int
  gelu: bool
  dtype: Any
  """Of products and results."""
  interpret: bool = False


class Tokens(NamedTuple):
  """What a residual block has of its events."""

  x: Any
  """(B, N, D)."""
  mixed: Any
  """(B, N, D)."""
  number: Any
  """(B, N) int32: of a token in the batch, for its dropout; None without."""


class ResidualOptions(NamedTuple):
  rate: float
  """Of dropout."""
  interpret: bool = False


class LinearGradient(NamedTuple):
  """What the backward kernel of a linear layer makes; the rest is a product of matrices."""

  x: Any
  """(B, N, D)."""
  bias: Any
  """(B, tiles, parts K): sums over a tile of an event's tokens."""
  unit: Any
  """(B, N, D) normalised x again, in the dtype of the products."""


class ResidualGradient(NamedTuple):
  """The same of a residual block: of matrices the factors, of vectors the sums over tiles."""

  x: Any
  """(B, N, D)."""
  mixed: Any
  """(B, N, D)."""
  out: Any
  """(B, N, D): gradient of mixed W_o + b_o."""
  unit: Any
  """(B, N, D) and (B, N, F): what W_1 multiplies, and the gradient of its product."""
  hidden: Any
  unit_hidden: Any
  """(B, N, F) and (B, N, D): the same of W_2."""
  end: Any
  vectors: ResidualWeights
  """(B, tiles, size) each; None for matrices."""


def linear_of(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
  """linear(x, kernel, bias, parts, gelu, dtype, interpret=False) from two kernels.

  forward(x (B, N, D), kernel, bias, options) -> parts (B, N, K);
  backward(x, kernel, gradients of the parts, options) -> `LinearGradient`.
  """

  run_forward, run_backward = _traced_once(forward, (1, 2)), _traced_once(backward, (1,))

  @functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
  def apply(x, kernel, bias, options):
    return run_forward(options, x, kernel, bias)

  def apply_forward(x, kernel, bias, options):
    return run_forward(options, x, kernel, bias), (x, kernel, bias)

  def apply_backward(options, saved, d_parts):
    x, kernel, bias = saved
    if options.gelu:  # the embedding's: three layers, for which there is no kernel
      parts, gelu, dtype, _ = options
      plain = functools.partial(reference.linear, parts=parts, gelu=gelu, dtype=dtype)
      return jax.vjp(plain, x, kernel, bias)[1](tuple(d_parts))
    made = run_backward(options, x, kernel, d_parts)
    d_kernel = jnp.concatenate([_over_tokens(made.unit, d) for d in d_parts], axis=1)
    d_bias = made.bias.sum(axis=(0, 1))
    return made.x, d_kernel.astype(kernel.dtype), d_bias.astype(bias.dtype)

  apply.defvjp(apply_forward, apply_backward)

  def linear(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, interpret: bool = False, **options: Any
  ) -> tuple[jax.Array, ...]:
    kernel, bias = varying_as((kernel, bias), x)
    results = apply(_by_event(x), kernel, bias, LinearOptions(**options, interpret=interpret))
    return tuple(y.reshape(*x.shape[:-1], y.shape[-1]) for y in results)

  return linear


def residual_of(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
  """residual(x, mixed, weights, words, rate, interpret=False) from two kernels.

  forward(tokens, weights, words (3, 2) or None, options) -> (B, N, D);
  backward(tokens, gradient (B, N, D), weights, words, options) -> `ResidualGradient`.
  """

  run_forward, run_backward = _traced_once(forward, (1, 2)), _traced_once(backward, (2, 3))

  @functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
  def apply(tokens, weights, words, options):
    return run_forward(options, tokens, weights, words)

  def apply_forward(tokens, weights, words, options):
    return run_forward(options, tokens, weights, words), (tokens, weights, words)

  def apply_backward(options, saved, gradient):
    tokens, weights, words = saved
    made = run_backward(options, tokens, gradient, weights, words)
    vectors = (None if v is None else v.sum(axis=(0, 1)) for v in made.vectors)
    of_weights = ResidualWeights(*vectors)._replace(
      out=_over_tokens(tokens.mixed, made.out),
      mlp_in=_over_tokens(made.unit, made.hidden),
      mlp_out=_over_tokens(made.unit_hidden, made.end),
    )
    of_weights = jax.tree.map(lambda d, w: d.astype(w.dtype), of_weights, weights)
    return Tokens(made.x, made.mixed, None), of_weights, None

  apply.defvjp(apply_forward, apply_backward)

  def residual(
    x: jax.Array,
    mixed: jax.Array,
    weights: ResidualWeights,
    words: jax.Array | None,
    *,
    rate: float,
    interpret: bool = False,
  ) -> jax.Array:
    rows, number = _by_event(x), None
    if words is not None:
      number = jnp.arange(rows.shape[0] * rows.shape[1], dtype=jnp.int32).reshape(rows.shape[:2])
    tokens = Tokens(rows, _by_event(mixed), number)
    weights, words = varying_as((weights, words), tokens)
    y = apply(tokens, weights, words, ResidualOptions(rate, interpret))
    return y.reshape(x.shape)

  return residual


def _traced_once(kernel: Callable[..., Any], whole: tuple[int, ...]) -> Callable[..., Any]:
  """run(options, *arrays), split over events but for the arrays that are `whole`.

  Inside jit only so that a kernel is traced once, not in every layer.
  """

  @functools.partial(jax.jit, static_argnums=0)
  def run(options, *arrays):
    return split_over_events(functools.partial(kernel, options=options), *arrays, whole=whole)

  return run


def _by_event(x: jax.Array) -> jax.Array:
  """(..., D) -> (B, N, D): of two axes the first counts tokens of one event."""
  events = x.shape[0] if x.ndim > 2 else 1
  return x.reshape(events, math.prod(x.shape[:-1]) // max(events, 1), x.shape[-1])


def _over_tokens(x: jax.Array, y: jax.Array) -> jax.Array:
  """(B, N, D) and (B, N, E) -> (D, E): the sum over tokens of the outer products."""
  return jnp.einsum(
    "bnd,bne->de", x, y, precision="highest", preferred_element_type=accumulator(x.dtype)
  )
