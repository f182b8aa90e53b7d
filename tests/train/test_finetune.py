"""Strategies: what moves, what does not, and what it costs."""

import jax
import numpy as np
import pytest

from jetfm.train import UncoveredParameter, label, make_strategy, make_train_step
from jetfm.train.finetune import FROZEN, Strategy, path_name
from tests.train import toy


def moved(strategy, steps=3, **options):
  """Paths of the parameters that training changed, those it did not, and whether constants did."""
  model, tasks, optimizer, labels, state = toy.setup(strategy=strategy, **options)
  step = make_train_step(model, tasks, optimizer, labels)
  before = toy.copied((state.params, state.constants))
  for i in range(steps):
    state, _ = step(state, toy.groups(i))
  jax.tree.map(np.testing.assert_array_equal, before[1], state.constants)
  changed, same = set(), set()
  old = dict(jax.tree_util.tree_leaves_with_path(before[0]))
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    (same if np.array_equal(leaf, old[path]) else changed).add(path_name(path))
  return changed, same


def branch(paths):
  return {"/".join(path.split("/")[:2]) for path in paths}


@pytest.mark.parametrize("strategy", ["frozen", "class_attention"])
def test_frozen_encoder_stays_bit_identical(strategy):
  changed, same = moved(strategy)
  assert branch(changed) == {"heads/regress"}
  assert {p.split("/")[0] for p in same} == {"encoder"}


@pytest.mark.parametrize("last_blocks", [0, 1, 2, 3])
def test_partial_moves_exactly_the_last_blocks_and_what_follows(last_blocks):
  changed, same = moved("partial", last_blocks=last_blocks)
  blocks = {f"encoder/block_{i}" for i in range(3)}
  last = {f"encoder/block_{i}" for i in range(3 - last_blocks, 3)}
  assert branch(changed) == last | {"encoder/norm", "heads/regress"}
  assert branch(same) == (blocks - last) | {"encoder/embed"}


@pytest.mark.parametrize("strategy", ["full", "differential"])
def test_full_moves_everything(strategy):
  _, same = moved(strategy)
  assert not same


def test_block_10_is_not_block_1():
  params = {"encoder": {f"block_{i}": {"kernel": 0} for i in range(12)}, "heads": {"a": 0}}
  labels = label(params, make_strategy("partial", 12, last_blocks=2))
  trained = {name for name, group in labels["encoder"].items() if group["kernel"] != FROZEN}
  assert trained == {"block_10", "block_11"}


def test_differential_rates_fall_away_from_the_heads():
  strategy = make_strategy("differential", 3, rate_decay=0.5)
  assert strategy.rates == {
    "heads": 1.0,
    "after": 1.0,
    "block_2": 0.5,
    "block_1": 0.25,
    "block_0": 0.125,
    "before": 0.0625,
  }


def test_first_update_is_proportional_to_the_rate_of_its_group():
  """Adam's first update is the learning rate times the sign of the gradient."""
  options = toy.optim.Optimizer(rate=1e-3, weight_decay=0.0, clip=0.0)
  model, tasks, optimizer, labels, state = toy.setup(
    strategy="differential", rate_decay=0.5, options=options
  )
  before = toy.copied(state.params)
  state, _ = make_train_step(model, tasks, optimizer, labels)(state, toy.groups(0))
  largest = {
    path_name(path): float(np.abs(leaf).max())
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      jax.tree.map(np.subtract, state.params, before)
    )
  }
  for name, rate in (("embed", 1 / 16), ("block_0", 1 / 8), ("block_2", 1 / 2), ("norm", 1.0)):
    leaf = "scale" if name == "norm" else "kernel"
    np.testing.assert_allclose(largest[f"encoder/{name}/{leaf}"], 1e-3 * rate, rtol=2e-2)


@pytest.mark.parametrize("strategy", ["partial", "differential"])
def test_uncovered_parameter_is_an_error_that_names_it(strategy):
  params = {"encoder": {"surprise": {"kernel": 0}}, "heads": {"a": 0}}
  with pytest.raises(UncoveredParameter, match="encoder/surprise/kernel"):
    label(params, make_strategy(strategy, 3))


def test_first_rule_that_matches_decides():
  strategy = Strategy((("encoder/block_0", FROZEN), ("encoder", "slow"), (".*", "fast")), {
    "slow": 0.1,
    "fast": 1.0,
  })  # fmt: skip
  params = {"encoder": {"block_0": 0, "block_1": 0}, "heads": {"a": 0}}
  labels = label(params, strategy)
  assert labels == {"encoder": {"block_0": FROZEN, "block_1": "slow"}, "heads": {"a": "fast"}}


def test_group_without_a_rate_is_an_error():
  with pytest.raises(ValueError, match="slow"):
    Strategy((("encoder", "slow"),), {"fast": 1.0})


@pytest.mark.parametrize(
  ("name", "options"),
  [("half", {}), ("partial", {"last_blocks": 4}), ("differential", {"rate_decay": 0.0})],
)
def test_impossible_strategy_is_an_error(name, options):
  with pytest.raises(ValueError, match=name):
    make_strategy(name, 3, **options)


def test_frozen_encoder_has_no_backward_pass_and_no_optimizer_state():
  flops, slots = {}, {}
  for strategy in ("full", "frozen"):
    model, tasks, optimizer, labels, state = toy.setup(strategy=strategy)
    step = make_train_step(model, tasks, optimizer, labels)
    compiled = step.lower(state, toy.groups(0)).compile()
    flops[strategy] = compiled.cost_analysis()["flops"]
    slots[strategy] = sum(x.size for x in jax.tree.leaves(state.opt_state))
  assert flops["frozen"] < 0.6 * flops["full"]
  assert slots["frozen"] < 0.2 * slots["full"]
