"""How forward and backward kernels of the pair bias make a differentiable function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jetfm.kernels.partition import split_over_events, varying_as


def bias_of(forward: Callable[..., jax.Array], backward: Callable[..., Any]) -> Callable[..., Any]:
  """bias(weights, particles, options) from two kernels; only the weights have gradients.

  particles: a tuple of arrays, axis 0 of which counts events.
  forward(weights, *particles, options=...) -> (B, H, N, N);
  backward(weights, *particles, d_bias, options=...) -> gradients of the weights.
  """

  # Inside jit only so that a kernel is traced once.
  @functools.partial(jax.jit, static_argnums=0)
  def run_forward(options, weights, *particles):
    kernel = functools.partial(forward, options=options)
    return split_over_events(kernel, weights, *particles, whole=(0,))

  @functools.partial(jax.jit, static_argnums=0)
  def run_backward(options, weights, *arrays):
    kernel = functools.partial(backward, options=options)
    return split_over_events(kernel, weights, *arrays, whole=(0,), summed=True)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
  def apply(weights, particles, options):
    return run_forward(options, weights, *particles)

  def bias_forward(weights, particles, options):
    return run_forward(options, weights, *particles), (weights, particles)

  def bias_backward(options, saved, d_bias):
    weights, particles = saved
    sums = run_backward(options, weights, *particles, d_bias)
    return jax.tree.map(lambda x, w: x.astype(w.dtype), sums, weights), (None,) * len(particles)

  apply.defvjp(bias_forward, bias_backward)
  return lambda weights, particles, options: apply(
    varying_as(weights, particles), particles, options
  )
