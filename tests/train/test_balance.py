"""Losses of several tasks: what each way of balancing optimises."""

import jax
import numpy as np
import optax
import pytest

from jetfm.train import make_train_step, with_log_variances
from jetfm.train import optim as optimizers
from jetfm.train import state as train_state
from jetfm.train.balance import BALANCES, LARGEST, balanced_gradient, uncertainty_weighted
from jetfm.train.finetune import label, make_strategy
from tests.train import toy

WEIGHTS = {"a": 1.0, "b": 0.5}
TRAINED = {
  "encoder": {"w": np.array([1.0, 2.0])},
  "heads": {name: {"v": np.array(3.0), "log_variance": np.array(0.0)} for name in WEIGHTS},
}


def losses_of(trained, scale=100.0):
  """b is a hundred times larger than a, and pulls the encoder in another direction."""
  w = trained["encoder"]["w"]
  losses = {
    "a": w[0] ** 2 + trained["heads"]["a"]["v"] ** 2,
    "b": scale * (w[1] ** 2 + trained["heads"]["b"]["v"] ** 2),
  }
  return losses, {f"{k}/loss": v for k, v in losses.items()}


def test_fixed_is_the_weighted_sum(x64):
  gradient, logs = jax.jit(balanced_gradient(losses_of, WEIGHTS, "fixed"))(TRAINED)
  np.testing.assert_allclose(gradient["encoder"]["w"], [2.0, 0.5 * 400.0])
  assert float(logs["b/loss"]) == 1300.0
  assert not gradient["heads"]["a"]["log_variance"]


def test_gradient_norm_gives_each_task_its_share_of_the_encoder(x64):
  balanced = jax.jit(balanced_gradient(losses_of, WEIGHTS, "gradient_norm"))
  gradient, logs = balanced(TRAINED, 100.0)
  first, second = np.asarray(gradient["encoder"]["w"])
  assert first / second == pytest.approx(WEIGHTS["a"] / WEIGHTS["b"])
  assert first == pytest.approx((2 + 400) / 2)
  assert float(logs["b/encoder_grad_norm"]) == pytest.approx(400)
  # The factor does not depend on the scale of a loss, only the mean norm does.
  other, _ = balanced(TRAINED, 1e4)
  first, second = np.asarray(other["encoder"]["w"])
  assert first / second == pytest.approx(2.0)


@pytest.mark.parametrize("kind", BALANCES)
def test_a_task_of_weight_0_takes_no_part_whatever_its_loss(x64, kind):
  def spoiled(trained):
    losses, logs = losses_of(trained)
    return losses | {"b": losses["b"] * np.nan}, logs

  def alone(trained):
    losses, logs = losses_of(trained)
    return {"a": losses["a"]}, logs

  gradient, _ = jax.jit(balanced_gradient(spoiled, {"a": 1.0, "b": 0.0}, kind))(TRAINED)
  wanted, _ = jax.jit(balanced_gradient(alone, {"a": 1.0}, kind))(TRAINED)
  jax.tree.map(np.testing.assert_allclose, gradient, wanted)


def test_a_frozen_encoder_leaves_nothing_to_balance(x64):
  def of_heads(trained):
    return losses_of(trained | {"encoder": TRAINED["encoder"]})

  trained = TRAINED | {"encoder": {"w": None}}
  balanced, _ = jax.jit(balanced_gradient(of_heads, WEIGHTS, "gradient_norm"))(trained)
  fixed, _ = jax.jit(balanced_gradient(of_heads, WEIGHTS, "fixed"))(trained)
  jax.tree.map(np.testing.assert_allclose, balanced, fixed)


def test_log_variances_settle_at_the_logarithm_of_the_loss(x64):
  """The minimum of exp(-s) L + s is at s = ln L, within the bounds."""
  losses = {"a": 2.0, "b": 1e4}
  heads = {name: {"log_variance": np.array(0.0)} for name in losses}
  optimizer = optax.adam(0.1)
  gradient = jax.grad(lambda h: uncertainty_weighted(losses, WEIGHTS, h)[0])

  def step(carry, _):
    heads, state = carry
    updates, state = optimizer.update(gradient(heads), state)
    return (optax.apply_updates(heads, updates), state), None

  @jax.jit
  def settled(heads):
    (heads, _), _ = jax.lax.scan(step, (heads, optimizer.init(heads)), None, 300)
    return uncertainty_weighted(losses, WEIGHTS, heads)[1]

  learned = settled(heads)
  assert float(learned["a/log_variance"]) == pytest.approx(np.log(2), abs=1e-2)
  assert 0.9 * LARGEST < float(learned["b/log_variance"]) <= LARGEST


@pytest.mark.parametrize("balance", ("uncertainty", "gradient_norm"))
def test_a_training_step(balance):
  tasks = [(toy.Regress(), 1.0), (toy.Denoise(), 0.5)]
  model, tasks, _, _, state = toy.setup(tasks)
  variables = state.variables
  if balance == "uncertainty":
    variables = with_log_variances(variables)
  strategy = make_strategy("full", 3)
  labels = label(variables["params"], strategy)
  optimizer = optimizers.make_optimizer(optimizers.Optimizer(), 20, labels, strategy.rates)
  state = train_state.create(variables, optimizer, labels, jax.random.key(0))
  before = jax.tree.map(np.asarray, state.params)
  step = make_train_step(model, tasks, optimizer, labels, balance=balance)
  state, logs = step(state, toy.groups(0))
  assert float(logs["loss"]) == pytest.approx(
    float(logs["regress/loss"]) + 0.5 * float(logs["denoise/loss"]), rel=1e-6
  )
  changed = jax.tree.map(lambda a, b: bool((a != np.asarray(b)).any()), before, state.params)
  assert changed["encoder"]["block_0"]["kernel"]
  if balance == "uncertainty":
    assert changed["heads"]["regress"]["log_variance"]
  assert not int(state.nonfinite)


def test_impossible_balances():
  with pytest.raises(ValueError, match="gradient_norm"):
    balanced_gradient(losses_of, WEIGHTS, "grad_norm")
  with pytest.raises(ValueError, match="with_log_variances"):
    uncertainty_weighted({"a": 1.0}, WEIGHTS, {"a": {}})
