"""Guesses of hidden particles from ranks: what they know exactly, and what they must not know."""

import numpy as np
import pytest

from jetfm.evals import metrics
from jetfm.evals.metrics.ranks import _interpolated

EVENTS, LENGTH = 80, 12


def made(seed=0):
  """(values (P, 2), event, rank, hidden, weight): spectra of equal length, shifted by event."""
  rng = np.random.default_rng(seed)
  event, rank = np.divmod(np.arange(EVENTS * LENGTH), LENGTH)
  values = np.stack([-np.sqrt(rank), 0.1 * rank**2], axis=1) + rng.normal(size=(EVENTS, 2))[event]
  hidden = rng.random(len(event)) < 0.1 + 0.5 * np.exp(-rank)  # the hard ones more often
  hidden &= rank != rng.integers(0, LENGTH, EVENTS)[event]
  return values, event, rank, hidden, rng.uniform(0.5, 2, EVENTS)[event]


def test_a_shift_of_the_whole_event_is_seen_in_its_visible_particles():
  values, event, rank, hidden, weight = made()
  by_rank, by_neighbours = metrics.rank_guesses(values, event, rank, hidden, weight)
  np.testing.assert_allclose(by_neighbours, values[hidden], atol=1e-9)
  # The rank knows the spectrum, and not the shift of unit variance.
  left = np.mean((by_rank - values[hidden]) ** 2, axis=0)
  np.testing.assert_allclose(left, 1, rtol=0.5)


def test_interpolation_is_that_of_numpy_in_every_event():
  _, event, rank, hidden, _ = made()
  x = np.random.default_rng(1).normal(size=(EVENTS * LENGTH, 1))
  found = _interpolated(x, event, rank, ~hidden)[:, 0]
  for e in range(EVENTS):
    rows = event == e
    seen = rows & ~hidden
    expected = np.interp(rank[rows], rank[seen], x[seen, 0])
    np.testing.assert_allclose(found[rows], expected, atol=1e-12)


def test_no_hidden_particle_takes_part_in_its_own_guess():
  values, event, rank, hidden, weight = made()
  changed = values.copy()
  changed[hidden & (event == 5)] += 100
  before = metrics.rank_guesses(values, event, rank, hidden, weight)
  after = metrics.rank_guesses(changed, event, rank, hidden, weight)
  own = event[hidden] == 5
  for a, b in zip(before, after, strict=True):
    np.testing.assert_array_equal(a[own], b[own])
    assert (a[~own] != b[~own]).any()


def test_order_of_particles_means_nothing():
  values, event, rank, hidden, weight = made()
  order = np.random.default_rng(2).permutation(len(event))
  before = metrics.rank_guesses(values, event, rank, hidden, weight)
  after = metrics.rank_guesses(*(x[order] for x in (values, event, rank, hidden, weight)))
  place = np.cumsum(hidden) - 1
  for a, b in zip(before, after, strict=True):
    np.testing.assert_allclose(a[place[order[hidden[order]]]], b, atol=1e-9)


def test_halves_without_hidden_particles_are_undefined():
  values, event, rank, hidden, weight = made()
  with pytest.raises(metrics.UndefinedMetric, match="no hidden particle"):
    metrics.rank_guesses(values, event, rank, hidden & (event == 3), weight)
