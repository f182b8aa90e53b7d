"""Laws of every task: its loss belongs to the global batch, not to how the batch is stored."""

import functools

import jax
import numpy as np
import pytest

from jetfm.tasks import TASKS

KEY = jax.random.key(5)
COUNTS = [2, 5, 8, 3, 16, 11, 7, 13, 1]

EVERY = pytest.mark.parametrize("name", TASKS)
PAIRS = ("supervised_contrastive", "view_contrastive")
"""Tasks whose loss compares events with each other: an event twice is another batch."""
ADDITIVE = pytest.mark.parametrize("name", [name for name in TASKS if name not in PAIRS])


def select(batch, events, length):
  """Some events of a batch, at another padded length."""

  def cut(x):
    return x[events, :length] if x.ndim > 1 and x.shape[1] == batch.length else x[events]

  return jax.tree.map(cut, batch)


def filler(batch, size):
  """Events of weight 0 that hold nothing but NaN."""

  def fill(x):
    shape = (size, *x.shape[1:])
    return np.full(shape, np.nan if np.issubdtype(x.dtype, np.floating) else 0, x.dtype)

  return jax.tree.map(fill, batch).replace(
    weight=np.zeros(size, batch.weight.dtype),
    label=np.full(size, -1, np.int32),
    event_id=np.full(size, -1, np.int32),
  )


def concatenate(*batches):
  return jax.tree.map(lambda *x: np.concatenate(x), *batches)


def dirty_padding(batch):
  def fill(x):
    if x.ndim > 2 and np.issubdtype(x.dtype, np.floating):
      return np.where(batch.mask[..., None], x, x.dtype.type(np.nan))
    return x

  return jax.tree.map(fill, batch)


@functools.cache
def compiled(run):
  """Programs: statistics of one length group, the loss and the metrics of a global batch."""
  return jax.jit(run.statistics), jax.jit(run.task.loss), jax.jit(run.task.metrics)


def statistics_of(run, batch):
  """{name: (B, ...)}"""
  return jax.tree.map(np.asarray, compiled(run)[0](run.variables["params"], KEY, batch))


def loss_of(run, statistics, weight):
  return compiled(run)[1](statistics, weight, 10)


def metrics_of(run, statistics, weight):
  return jax.tree.map(np.asarray, compiled(run)[2](statistics, weight))


@pytest.mark.slow
@EVERY
def test_loss_belongs_to_the_global_batch(x64, jets, tiny_run, name):
  """One group, or two of other lengths in another order with NaN in padding and filler."""
  weight = np.linspace(0.5, 1.5, len(COUNTS))
  whole = jets(COUNTS, 16, dtype=np.float64).replace(weight=weight)
  short, long = np.array([0, 8, 3, 2, 6, 1]), np.array([4, 7, 5])
  groups = (
    concatenate(filler(whole, 4), dirty_padding(select(whole, long, 16)), filler(whole, 2)),
    dirty_padding(select(whole, short, 8)),
  )
  assert sum(int(group.mask.sum()) for group in groups) == sum(COUNTS)
  run = tiny_run(name)
  one, terms = loss_of(run, statistics_of(run, whole), weight)
  parts = [statistics_of(run, group) for group in groups]
  spread, spread_terms = loss_of(
    run, concatenate(*parts), np.concatenate([group.weight for group in groups])
  )
  assert np.isfinite(float(one))
  assert float(spread) == pytest.approx(float(one), rel=1e-12)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), spread_terms, terms
  )


@EVERY
def test_statistics_do_not_know_the_padded_length(jets, tiny_run, name):
  run = tiny_run(name)
  shapes = [
    jax.eval_shape(run.statistics, run.variables["params"], KEY, jets([4, 8], length))
    for length in (8, 32)
  ]
  assert shapes[0] == shapes[1]
  assert all(x.shape[0] == 2 for x in jax.tree.leaves(shapes[0]))


@ADDITIVE
def test_sums_over_events(x64, jets, tiny_run, name):
  """Weight 2 is the event twice; metrics of two halves add, but for variances within batches."""
  run = tiny_run(name)
  statistics = statistics_of(run, jets(COUNTS, 16, dtype=np.float64))
  ones, events = np.ones(len(COUNTS)), np.arange(len(COUNTS))

  heavy, _ = loss_of(run, statistics, ones + (events == 2) + (events == 4))
  twice = jax.tree.map(lambda x: x[np.append(events, [2, 4])], statistics)
  assert float(loss_of(run, twice, np.ones(len(COUNTS) + 2))[0]) == pytest.approx(
    float(heavy), rel=1e-12
  )
  assert float(loss_of(run, statistics, ones)[0]) != pytest.approx(float(heavy), rel=1e-5)

  sums = metrics_of(run, statistics, ones)
  halves = [metrics_of(run, statistics, 1.0 * half) for half in (events < 4, events >= 4)]
  for metric, pair in sums.items():
    assert pair.shape == (2,)
    if not metric.endswith("_gain"):
      np.testing.assert_allclose(halves[0][metric] + halves[1][metric], pair, rtol=1e-12)


@EVERY
def test_filler_has_no_gradient(jets, tiny_run, name):
  """A batch of filler alone, all NaN: a finite loss, and a gradient of exactly zero."""
  batch = jets([3], 8)
  run = tiny_run(name)
  loss, gradient = jax.jit(jax.value_and_grad(lambda p: run.loss(p, KEY, (filler(batch, 2),))[0]))(
    run.variables["params"]
  )
  assert np.isfinite(loss)
  assert not any(np.asarray(g).any() for g in jax.tree.leaves(gradient))
