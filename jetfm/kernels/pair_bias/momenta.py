"""The gradient of the pair bias with respect to momenta: XLA's, whatever made the bias."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal

from jetfm.kernels.pair_bias import reference
from jetfm.kernels.pair_bias.reference import Options

PAIRS = 1 << 16
"""Pairs at a time: their hidden arrays would not fit for a whole batch."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def with_gradient_of_momenta(bias, p4, weights, mask, hidden, options: Options) -> jax.Array:
  """The bias as it is, (B, H, N, N); backward, p4 (B, N, 4) gets its gradient.

  Kernels give gradients of the weights alone, which is all that training wants. Where momenta are
  asked for (saliency, adversarial jets), the reference is evaluated again. A program that does not
  ask has nothing of it.
  """
  del p4, weights, mask, hidden, options
  return bias


def _forward(bias, p4, weights, mask, hidden, options):
  del options
  values = jax.tree.map(
    lambda x: x.value,
    (bias, p4, weights, mask, hidden),
    is_leaf=lambda x: isinstance(x, CustomVJPPrimal),
  )
  return values[0], values[1:] if p4.perturbed else None


def _backward(options, saved, d_bias):
  if saved is None:
    return (d_bias, None, None, None, None)
  p4, weights, mask, hidden = saved
  given = d_bias
  if mask is not None:  # the bias of a padded pair plays no part
    given = jnp.where((mask[:, :, None] & mask[:, None, :])[:, None], d_bias, 0)

  def of_event(arrays):
    p4, hidden, d_bias = jax.tree.map(lambda x: x[None], arrays)
    _, pull = jax.vjp(lambda p4: reference.pair_bias(p4, weights, None, hidden, *options), p4)
    return pull(d_bias)[0][0]

  at_a_time = max(PAIRS // p4.shape[1] ** 2, 1)
  d_p4 = jax.lax.map(of_event, (p4, hidden, given), batch_size=at_a_time)
  return (d_bias, d_p4, None, None, None)


with_gradient_of_momenta.defvjp(_forward, _backward, symbolic_zeros=True)
