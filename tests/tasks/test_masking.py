"""Laws of hiding particles: how many, which, and what is left of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.tasks import masking as library
from jetfm.tasks.masking import MASKINGS, choose_hidden, hidden_count
from tests.compiled import lorentz

COUNTS = [1, 2, 3, 7, 20, 31, 32, 0]
KEYS = jax.random.split(jax.random.key(0), 200)

EVERY = pytest.mark.parametrize("masking", MASKINGS)

compiled = jax.jit(choose_hidden, static_argnames=("ratio", "masking"))
hide, pt_rank = jax.jit(library.hide), jax.jit(library.pt_rank)
leading = jax.jit(library.leading, static_argnames="count")


def choose(key, batch, masking="random"):
  return np.asarray(compiled(key, batch, 0.3, masking))


@functools.partial(jax.jit, static_argnames=("masking", "ratio"))
def of_keys(keys, batch, masking, ratio):
  return jax.vmap(lambda key: choose_hidden(key, batch, ratio, masking))(keys)


def choose_often(batch, masking, ratio=0.3, keys=KEYS):
  """(keys, B, N)"""
  return np.asarray(of_keys(keys, batch, masking, ratio))


@EVERY
@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.99])
def test_number_of_hidden_particles(jets, masking, ratio):
  batch = jets(COUNTS, 32)
  hidden = choose_often(batch, masking, ratio)
  for b, n in enumerate(COUNTS):
    expected = 0 if n < 2 else min(n - 1, max(1, round(ratio * n)))
    assert (hidden[:, b].sum(axis=-1) == expected).all()
  assert not hidden[:, ~batch.mask].any(), "padding is never hidden"


def test_ratio_and_name_are_checked(jets):
  batch = jets([3], 4)
  with pytest.raises(ValueError, match="nearest is 'biased'"):
    choose_hidden(KEYS[0], batch, 0.3, "biassed")
  for ratio in (0.0, 1.0, -0.1):
    with pytest.raises(ValueError, match="mask ratio"):
      choose_hidden(KEYS[0], batch, ratio)


def test_random_hides_all_ranks_alike(jets):
  n, k = 20, 6
  rate = choose_often(jets([n], n), "random")[:, 0].mean(axis=0)
  error = np.sqrt(k / n * (1 - k / n) / len(KEYS))
  assert np.abs(rate - k / n).max() < 5 * error
  assert rate.std() > 0


def test_biased_draws_in_proportion_to_pt(jets):
  """With one particle to hide, the Gumbel top-k is a single draw of probability pT / sum pT."""
  batch = jets([3], 3)
  keys = jax.random.split(jax.random.key(1), 4000)
  hidden = choose_often(batch, "biased", keys=keys)[:, 0]
  pt = np.asarray(lorentz.transverse_momentum(batch.p4[0]))
  expected = pt / pt.sum()
  error = np.sqrt(expected * (1 - expected) / len(keys))
  assert (np.abs(hidden.mean(axis=0) - expected) < 4 * error).all()


def test_biased_prefers_hard_particles(jets):
  batch = jets([20] * 8, 20)
  pt = np.asarray(lorentz.transverse_momentum(batch.p4))
  share = {m: (choose_often(batch, m) * pt).sum() for m in ("random", "biased")}
  assert share["biased"] > 2 * share["random"]


def test_block_is_contiguous_in_angle(jets):
  """From one of the hidden particles, the seed, no visible one is nearer than any hidden one."""
  batch = jets([20, 31], 32)
  hidden = choose_often(batch, "block")
  eta, phi = np.asarray(lorentz.pseudorapidity(batch.p4)), np.asarray(lorentz.azimuth(batch.p4))
  d_phi = np.asarray(lorentz.wrap_angle(phi[:, :, None] - phi[:, None, :]))
  distance = np.hypot(eta[:, :, None] - eta[:, None, :], d_phi)
  for b, n in enumerate([20, 31]):
    d = distance[b, :n, :n]
    for h in hidden[:, b, :n]:
      assert any(d[seed, h].max() <= d[seed, ~h].min() for seed in np.flatnonzero(h))
  assert (hidden[:, 0, :20].mean(axis=0) > 0).all(), "every particle is hidden at times"


@EVERY
def test_draw_belongs_to_the_event(jets, masking):
  """Not to its place in the batch, the padded length, its particles' order or its neighbours."""
  batch = jets([5, 9, 16, 12], 16)
  alone = choose(KEYS[0], batch, masking)
  order = np.array([2, 0, 3, 1])
  shuffled = jax.tree.map(lambda x: x[order], batch)
  np.testing.assert_array_equal(choose(KEYS[0], shuffled, masking), alone[order])

  longer = jets([5, 9, 16, 12], 40)
  np.testing.assert_array_equal(choose(KEYS[0], longer, masking)[:, :16], alone)

  particles = np.random.default_rng(0).permutation(16)
  permuted = batch.replace(p4=batch.p4[:, particles], mask=batch.mask[:, particles])
  np.testing.assert_array_equal(choose(KEYS[0], permuted, masking), alone[:, particles])


def test_events_and_keys_draw_differently(jets):
  batch = jets([32] * 4, 32)
  batch = batch.replace(p4=np.broadcast_to(batch.p4[:1], batch.p4.shape))
  hidden = choose(KEYS[0], batch)
  assert len(np.unique(hidden, axis=0)) == 4
  assert (hidden != choose(KEYS[1], batch)).any()


@EVERY
def test_nan_in_padding_hides_nothing_else(jets, masking):
  batch = jets(COUNTS, 32)
  dirty = batch.replace(p4=np.where(batch.mask[..., None], batch.p4, np.float32(np.nan)))
  np.testing.assert_array_equal(choose(KEYS[0], dirty, masking), choose(KEYS[0], batch, masking))


def bits(batch):
  return {f.name: np.asarray(getattr(batch, f.name)).tobytes() for f in dataclasses.fields(batch)}


def test_nothing_of_a_hidden_particle_is_left_but_its_rank(jets):
  batch = jets([20, 31, 7], 32)
  hidden = choose(KEYS[0], batch, "biased")
  # Turn, mirror and stretch hidden momenta, but keep the order in pT.
  changed = batch.p4[..., [0, 2, 1, 3]] * np.float32([1.7, -1.0, 1.0, -2.0])
  other = batch.replace(
    p4=np.where(hidden[..., None], changed, batch.p4),
    features=np.where(hidden[..., None], batch.features + 3, batch.features),
    present=np.where(hidden[..., None], ~batch.present, batch.present),
  )
  assert bits(other) != bits(batch)
  assert bits(hide(other, hidden)) == bits(hide(batch, hidden))


def test_what_is_visible_keeps_every_bit(jets):
  batch = jets([20, 31, 7], 32)
  hidden = choose(KEYS[0], batch)
  view = hide(batch, hidden)
  for name in ("p4", "features", "present"):
    before, after = getattr(batch, name), np.asarray(getattr(view, name))
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    assert not after[hidden].any()
  np.testing.assert_array_equal(view.mask, batch.mask)
  np.testing.assert_array_equal(np.asarray(view.hidden_rank) >= 0, hidden)


def test_rank_counts_harder_particles(jets):
  batch = jets([20, 31, 7], 32)
  particles = np.random.default_rng(0).permutation(32)
  p4, mask = batch.p4[:, particles], batch.mask[:, particles]
  pt = np.asarray(lorentz.transverse_momentum(p4))
  harder = ((pt[:, None, :] > pt[:, :, None]) & mask[:, None, :]).sum(axis=-1)
  np.testing.assert_array_equal(np.asarray(pt_rank(p4, mask))[mask], harder[mask])


def test_hidden_count_leaves_one():
  np.testing.assert_array_equal(hidden_count(jnp.arange(4), 3, 0.9), [0, 0, 1, 2])


@pytest.mark.parametrize("count", [5, 20, 40])
def test_leading_are_the_hardest_in_order(jets, count):
  batch = jets([20, 31, 7], 32)
  particles = np.random.default_rng(0).permutation(32)
  shuffled = batch.replace(
    **{name: getattr(batch, name)[:, particles] for name in ("p4", "features", "present", "mask")}
  )
  view = leading(shuffled, count)
  assert view.length == count
  kept = min(count, 32)
  for name in ("p4", "features", "present", "mask"):
    want = getattr(batch, name)[:, :kept]
    where = batch.mask[:, :kept]
    np.testing.assert_array_equal(np.asarray(getattr(view, name))[:, :kept][where], want[where])
    assert not np.asarray(getattr(view, name))[:, kept:].any()
  np.testing.assert_array_equal(
    np.asarray(view.mask).sum(axis=-1), np.minimum(batch.mask.sum(axis=-1), count)
  )
