"""The optimizer: its schedule and its weight decay."""

import jax
import numpy as np
import optax
import pytest

from jetfm.train.optim import (
  Optimizer,
  clip_by_norm,
  decayed,
  global_norm,
  make_optimizer,
  schedule,
)


def rates(options, steps):
  curve = jax.jit(jax.vmap(schedule(options, steps)))
  return np.asarray(curve(np.arange(steps + 1)))


def first_update(optimizer, gradient, params=None):
  """The update, and the state after it."""
  init = gradient if params is None else params
  return jax.jit(lambda g: optimizer.update(g, optimizer.init(init), params))(gradient)


def test_warmup_is_linear_and_cosine_ends_at_the_final_rate():
  curve = rates(Optimizer(rate=2.0, warmup=9, final=0.1), 100)
  np.testing.assert_allclose(np.diff(curve[:10]), 0.2, rtol=1e-5)
  assert curve[0] > 0
  np.testing.assert_allclose(curve[9], 2.0)
  np.testing.assert_allclose(curve[-1], 0.2, rtol=1e-5)
  assert (np.diff(curve[9:]) <= 0).all()


def test_each_restart_begins_at_the_full_rate():
  curve = rates(Optimizer(rate=1.0, warmup=10, final=0.0, restarts=2), 100)
  rises = np.flatnonzero(np.diff(curve[10:]) > 0) + 11
  np.testing.assert_array_equal(rises, [40, 70])
  np.testing.assert_allclose(curve[[10, 40, 70]], 1.0)


@pytest.mark.parametrize(("warmup", "restarts"), [(10, 0), (5, 5)])
def test_schedule_that_does_not_fit_is_an_error(warmup, restarts):
  with pytest.raises(ValueError, match="warm-up"):
    schedule(Optimizer(warmup=warmup, restarts=restarts), 10)


def test_negative_option_is_an_error():
  with pytest.raises(ValueError, match="weight_decay"):
    Optimizer(weight_decay=-1.0)


def test_norms_biases_and_learned_tokens_do_not_decay():
  params = {
    "dense": {"kernel": np.ones((2, 2)), "bias": np.ones((2, 2))},
    "norm": {"scale": np.ones(2)},
    "rank_code": np.ones((3, 2)),
    "queries": np.ones((3, 2)),
  }
  expected = {
    "dense": {"kernel": True, "bias": False},
    "norm": {"scale": False},
    "rank_code": False,
    "queries": False,
  }
  assert decayed(params) == expected
  labels = {
    "dense": {"kernel": "a", "bias": "a"}, "norm": {"scale": "a"}, "rank_code": "a", "queries": "a"
  }  # fmt: skip
  options = Optimizer(rate=0.1, weight_decay=0.5)
  optimizer = make_optimizer(options, 10, labels, {"a": 1.0})
  zeros = jax.tree.map(np.zeros_like, params)
  updates, _ = first_update(optimizer, zeros, params)
  np.testing.assert_allclose(updates["dense"]["kernel"], -0.05, rtol=1e-6)
  for still in (updates["dense"]["bias"], updates["norm"]["scale"], updates["queries"]):
    np.testing.assert_array_equal(still, 0)


def test_clip_bounds_the_global_norm():
  """With momentum off, Adam's update does not see the scale; its second moment does."""
  params = {"w": np.zeros(4)}
  clipped = make_optimizer(Optimizer(clip=1.0), 10, {"w": "a"}, {"a": 1.0})
  _, state = first_update(clipped, {"w": np.full(4, 100.0)}, params)
  moments = [x for x in jax.tree.leaves(state) if x.shape == (4,)]
  np.testing.assert_allclose(moments[0], 0.1 * 0.5, rtol=1e-5)  # (1 - b1) * 1 / sqrt(4)


def test_norm_and_clipping_are_those_of_optax():
  rng = np.random.default_rng(0)
  tree = {"a": rng.normal(size=(3, 4)), "b": [rng.normal(size=5), None]}
  tree = jax.tree.map(np.float32, tree)
  norms = jax.jit(lambda x: (global_norm(x), optax.tree.norm(x)))(tree)
  np.testing.assert_allclose(*norms, rtol=1e-6)
  assert global_norm({"a": None}) == 0
  for largest in (0.1, 100.0):
    ours, theirs = clip_by_norm(largest), optax.clip_by_global_norm(largest)
    assert jax.tree.structure(ours.init(tree)) == jax.tree.structure(theirs.init(tree))
    got, want = (first_update(f, tree)[0] for f in (ours, theirs))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, want)
