"""Losses against known labels and targets, per event: the caller averages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.objectives.averages import absolute, at_least_float32

REGRESSION_ERRORS = ("mse", "mae", "huber")


def cross_entropy(logits: ArrayLike, label: ArrayLike, smoothing: float = 0.0) -> jax.Array:
  """Cross entropy with label smoothing, in nats; 0 for an event without a label (-1).

      -sum_k q_k log softmax(logits)_k,   q_k = (1 - smoothing) [k = label] + smoothing / K

  Shapes: logits (..., K), label (...) int -> (...). Labels are not checked: one beyond the classes
  counts as the last.
  Raises: ValueError if smoothing is not in [0, 1].
  Source: arXiv:1512.00567, section 7.
  """
  if not 0 <= smoothing <= 1:
    raise ValueError(f"label smoothing is {smoothing}, expected a number in [0, 1]")
  label = jnp.asarray(label)
  log_p = jax.nn.log_softmax(at_least_float32(logits), axis=-1)
  known = jnp.clip(label, 0, log_p.shape[-1] - 1)
  of_label = jnp.take_along_axis(log_p, known[..., None], axis=-1)[..., 0]
  loss = -(1 - smoothing) * of_label - smoothing * log_p.mean(axis=-1)
  return jnp.where(label >= 0, loss, 0)


def regression_error(
  pred: ArrayLike, true: ArrayLike, kind: str = "mse", delta: float = 1.0
) -> jax.Array:
  """Elementwise loss of standardised targets, (...) and (...) -> (...).

  With r = pred - true: mse r^2 | mae |r| | huber r^2/2 up to |r| = delta, then
  delta (|r| - delta/2).
  Raises: ValueError for an unknown kind or a delta that is not positive.
  """
  residual = at_least_float32(pred) - jnp.asarray(true)
  match kind:
    case "mse":
      return residual**2
    case "mae":
      return absolute(residual)
    case "huber":
      if delta <= 0:
        raise ValueError(f"the Huber loss has delta {delta}, expected a positive number")
      inside = jnp.clip(residual, -delta, delta)
      return inside * (residual - 0.5 * inside)
    case _:
      raise ValueError(f"no regression loss '{kind}'; expected one of {REGRESSION_ERRORS}")
