"""Laws of one step: what it computes, and what it leaves alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.train import make_eval_step, make_train_step, quotients
from jetfm.train import state as train_state
from jetfm.train.finetune import merge
from tests.train import toy

TASKS = ((toy.Regress(), 1.0), (toy.Denoise(), 0.5))
ONE = ((toy.Regress(), 1.0),)


@functools.cache
def descent(tasks, **options):
  """A step of plain gradient descent, compiled once for equal shapes, and its first state."""
  model, tasks, _, labels, state = toy.setup(tasks)
  optimizer = toy.sgd()
  state = train_state.create(state.variables, optimizer, labels, state.key)
  return make_train_step(model, tasks, optimizer, labels, **options), state


def gradients(tasks, groups, **options):
  """The gradient that a step uses, read off the parameters that it changes."""
  step, state = descent(tasks, **options)
  new, logs = step(toy.copied(state), groups)
  return jax.tree.map(np.subtract, state.params, new.params), logs


def assert_close(a, b, rtol=1e-5, atol=1e-7):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_training_lowers_the_loss():
  model, tasks, optimizer, labels, state = toy.setup(steps=60)
  step = make_train_step(model, tasks, optimizer, labels)
  groups = toy.groups(0)
  losses = []
  for _ in range(60):
    state, logs = step(state, groups)
    losses.append(float(logs["loss"]))
  assert losses[-1] < 0.3 * losses[0]


def test_same_state_and_batch_give_the_same_bits():
  model, tasks, optimizer, labels, state = toy.setup(TASKS, encoder=toy.Encoder(dropout=0.3))
  step = make_train_step(model, tasks, optimizer, labels)
  first, _ = step(toy.copied(state), toy.groups(0))
  again, _ = step(toy.copied(state), toy.groups(0))
  jax.tree.map(np.testing.assert_array_equal, first.params, again.params)


def test_noise_changes_with_the_step():
  model, tasks, optimizer, labels, state = toy.setup(encoder=toy.Encoder(dropout=0.5))
  step = make_train_step(model, tasks, optimizer, labels)
  later = state.replace(step=state.step + 1)
  _, here = step(toy.copied(state), toy.groups(0))
  _, there = step(toy.copied(later), toy.groups(0))
  assert here["loss"] != there["loss"]


def test_accumulation_is_the_large_batch_for_additive_losses():
  small = [toy.groups(s) for s in range(3)]
  stacked = jax.tree.map(lambda *xs: np.stack(xs), *small)
  large = jax.tree.map(lambda *xs: np.concatenate(xs), *small)
  accumulated, logs = gradients(ONE, stacked, accumulate=3)
  whole, whole_logs = gradients(ONE, large)
  assert_close(accumulated, whole)
  np.testing.assert_allclose(logs["loss"], whole_logs["loss"], rtol=1e-6)


def test_remat_changes_no_gradient_of_any_loss():
  plain, _ = gradients(TASKS, toy.groups(0))
  saved, _ = gradients(TASKS, toy.groups(0), remat=True)
  assert_close(plain, saved)


def test_loss_does_not_depend_on_how_events_are_grouped():
  (events,) = toy.groups(0, (8,), (8,))
  halves = tuple(jax.tree.map(lambda x, s=s: x[s], events) for s in (slice(0, 3), slice(3, 8)))
  one, logs = gradients(TASKS, (events,))
  two, more = gradients(TASKS, halves)
  assert_close(one, two)
  np.testing.assert_allclose(logs["loss"], more["loss"], rtol=1e-6)


def test_filler_changes_nothing():
  short, long = toy.groups(0)
  filler = toy.batch(np.random.default_rng(7), 3, 8)
  filler = filler.replace(weight=np.zeros(3, np.float32), event_id=np.full(3, -1, np.int32))
  filled = jax.tree.map(lambda a, b: np.concatenate([a, b]), long, filler)
  without, _ = gradients(TASKS, (short, long))
  with_filler, _ = gradients(TASKS, (short, filled))
  assert_close(without, with_filler)


class Counting(toy.Encoder):
  calls = 0

  def __call__(self, batch, *, deterministic=True):
    Counting.calls += 1
    return super().__call__(batch, deterministic=deterministic)


def test_encoder_runs_once_for_each_distinct_view():
  second = toy.Regress()
  second.name = "second"
  tasks = [(toy.Regress(), 1.0), (second, 1.0), (toy.Denoise(), 1.0)]
  model, tasks, optimizer, labels, state = toy.setup(tasks, encoder=Counting())
  Counting.calls = 0
  step = make_train_step(model, tasks, optimizer, labels)
  step.lower(state, toy.groups(0))
  assert Counting.calls == 2 * len(toy.LENGTHS)  # the views 'plain' and 'noisy'


def test_augmentation_is_applied_before_the_views():
  def without_momenta(key, batch):
    return batch.replace(p4=jnp.zeros_like(batch.p4))

  plain = [g.replace(p4=np.zeros_like(g.p4)) for g in toy.groups(0)]
  augmented, _ = gradients(ONE, toy.groups(0), augment=without_momenta)
  by_hand, _ = gradients(ONE, tuple(plain))
  assert_close(augmented, by_hand)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_step_that_is_not_finite_changes_nothing_and_is_counted(bad):
  """The rate that is logged is that of the update, which the next finite step makes."""
  model, tasks, optimizer, labels, state = toy.setup()
  step = make_train_step(model, tasks, optimizer, labels, rate=lambda made: 5.0 - made)
  groups = toy.groups(0)
  broken = (groups[0].replace(targets=np.full_like(groups[0].targets, bad)), groups[1])
  before = jax.tree.map(np.array, (state.params, state.opt_state))
  for count in (1, 2):
    state, logs = step(state, broken)
    assert int(logs["nonfinite"]) == count
    assert float(logs["rate"]) == 5
  jax.tree.map(np.testing.assert_array_equal, before, (state.params, state.opt_state))
  assert int(state.step) == 2
  for rate in (5, 4):
    state, logs = step(state, groups)
    assert (int(logs["nonfinite"]), float(logs["rate"])) == (0, rate)
  after = jax.tree.map(np.asarray, state.params)
  assert any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), before[0], after)))


def test_gradient_norm_counts_trained_parameters_only():
  norms = {}
  for strategy in ("full", "frozen"):
    model, tasks, optimizer, labels, state = toy.setup(strategy=strategy)
    step = make_train_step(model, tasks, optimizer, labels)
    norms[strategy] = float(step(state, toy.groups(0))[1]["grad_norm"])
  full, _ = gradients(ONE, toy.groups(0))
  square = sum(float((g**2).sum()) for g in jax.tree.leaves(full["heads"]))
  np.testing.assert_allclose(norms["frozen"], square**0.5, rtol=1e-5)
  assert norms["frozen"] < norms["full"]


def test_evaluation_sums_add_over_batches():
  model, tasks, *_, state = toy.setup()
  evaluate = make_eval_step(model, tasks)
  key = jax.random.key(1)
  halves = [toy.groups(s) for s in (0, 1)]
  whole = jax.tree.map(lambda *xs: np.concatenate(xs), *halves)
  parts = [evaluate(state.variables, half, key, 0) for half in halves]
  added = quotients(jax.tree.map(np.add, *parts))
  at_once = quotients(evaluate(state.variables, whole, key, 0))
  for name in ("loss", "regress/mae"):
    np.testing.assert_allclose(added[name], at_once[name], rtol=1e-6)


def test_merge_undoes_the_split():
  *_, labels, state = toy.setup(strategy="partial", last_blocks=1)
  from jetfm.train.finetune import frozen, trainable

  parts = trainable(state.params, labels), frozen(state.params, labels)
  assert all(jax.tree.leaves(part) for part in parts)
  jax.tree.map(np.testing.assert_array_equal, merge(*parts), state.params)
