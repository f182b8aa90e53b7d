"""How the losses of several tasks of a stage are put together into one gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jetfm.train.optim import global_norm
from jetfm.typing import Array, PyTree

BALANCES = ("fixed", "uncertainty", "gradient_norm")
LOG_VARIANCE = "log_variance"
"""Name of the parameter `heads/<task>/log_variance` that 'uncertainty' learns."""
LARGEST = 2.0
"""Of a learned log-variance: a loss that may be negative, as a log density, would let it run away.
Learned factors are between exp(-2) and exp(2)."""

Losses = dict[str, Array]
LossesOf = Callable[..., tuple[Losses, dict[str, Array]]]


def check_balance(kind: str) -> None:
  """Raises: ValueError for a way of balancing that does not exist."""
  if kind not in BALANCES:
    raise ValueError(f"balance is '{kind}', expected one of {BALANCES}")


def with_log_variances(variables: PyTree) -> PyTree:
  """Variables of a model whose tasks have a log-variance each, 0 at first."""
  params = variables["params"]
  heads = {name: {**head, LOG_VARIANCE: jnp.zeros(())} for name, head in params["heads"].items()}
  return variables | {"params": params | {"heads": heads}}


def uncertainty_weighted(
  losses: Mapping[str, Array], weights: Mapping[str, float], heads: PyTree
) -> tuple[Array, dict[str, Array]]:
  """sum_t w_t (exp(-s_t) L_t + s_t), and the learned s_t, for the parameters `heads`.

  s = LARGEST tanh(raw / LARGEST) of the parameter. Where losses are noisy, s grows and they count
  less. Source: arXiv:1705.07115, eq. 7.
  Raises: ValueError for a model without these parameters.
  """
  total: Array = jnp.zeros(())
  learned: dict[str, Array] = {}
  for task, loss in losses.items():
    if LOG_VARIANCE not in heads[task]:
      raise ValueError(
        f"balance 'uncertainty' needs the parameter heads/{task}/{LOG_VARIANCE}: make the "
        "variables with jetfm.train.with_log_variances"
      )
    s = LARGEST * jnp.tanh(heads[task][LOG_VARIANCE] / LARGEST)
    total = total + weights[task] * (jnp.exp(-s) * loss + s)
    learned[f"{task}/{LOG_VARIANCE}"] = s
  return total, learned


def balanced_gradient(
  losses_of: LossesOf, weights: Mapping[str, float], kind: str
) -> Callable[..., tuple[PyTree, dict[str, Array]]]:
  """(trained parameters, ...) -> their gradient and the logs; `losses_of` gets these arguments.

  fixed: of sum_t w_t L_t;
  uncertainty: of `uncertainty_weighted`;
  gradient_norm: sum_t w_t r_t dL_t with factors r_t that make the norms of all dL_t on the encoder
    equal to their mean. It costs one backward pass for each task. An encoder that is not trained
    leaves nothing to balance: r_t = 1. It is the limit of GradNorm (arXiv:1711.02257) without rates
    of training.
  A task of weight 0 takes no part in it, whatever its loss.
  Raises: ValueError for another kind.
  """
  check_balance(kind)

  def counted(trained: PyTree, *arguments: Any):
    losses, logs = losses_of(trained, *arguments)
    return {task: loss for task, loss in losses.items() if weights[task]}, logs

  def total(trained: PyTree, *arguments: Any):
    losses, logs = counted(trained, *arguments)
    if kind == "uncertainty":
      value, learned = uncertainty_weighted(losses, weights, trained["heads"])
      return value, logs | learned
    return sum((weights[t] * loss for t, loss in losses.items()), jnp.zeros(())), logs

  def of_total(trained: PyTree, *arguments: Any):
    (_, logs), gradient = jax.value_and_grad(total, has_aux=True)(trained, *arguments)
    return gradient, logs

  def of_each(trained: PyTree, *arguments: Any):
    losses, back, logs = jax.vjp(lambda x: counted(x, *arguments), trained, has_aux=True)
    zeros = jax.tree.map(jnp.zeros_like, losses)
    each = {task: back(zeros | {task: jnp.ones_like(losses[task])})[0] for task in losses}
    norms = {task: global_norm(gradient["encoder"]) for task, gradient in each.items()}
    mean = sum(norms.values(), jnp.zeros(())) / max(len(norms), 1)
    combined = jax.tree.map(jnp.zeros_like, trained)
    for task, gradient in each.items():
      some = norms[task] > 0
      factor = weights[task] * jnp.where(some, mean / jnp.where(some, norms[task], 1), 1)
      combined = jax.tree.map(lambda a, b, f=factor: a + f * b, combined, gradient)
    return combined, logs | {f"{task}/encoder_grad_norm": n for task, n in norms.items()}

  return of_each if kind == "gradient_norm" else of_total
