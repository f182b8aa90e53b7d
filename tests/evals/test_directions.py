"""Guesses of directions from the axis and from visible particles: densities, and what they know."""

import dataclasses

import numpy as np
import pytest

from jetfm.evals import metrics
from jetfm.evals.metrics import directions
from jetfm.evals.sections import Located, directions_section

EVENTS, LENGTH = 120, 14


def made(seed=0):
  """(direction, pt, event, rank, hidden, weight) of jets with one prong off the axis."""
  rng = np.random.default_rng(seed)
  event = np.repeat(np.arange(EVENTS), LENGTH)
  direction = rng.normal(0, 0.3, (EVENTS, 2))[event] + rng.normal(0, 0.05, (len(event), 2))
  rank = np.tile(np.arange(LENGTH), EVENTS)
  hidden = rng.random(len(event)) < 0.3
  pt, weight = rng.exponential(10, len(event)), rng.uniform(1, 2, EVENTS)[event]
  return direction, pt, event, rank, hidden, weight


def test_densities_integrate_to_one():
  """A hidden particle of its own at every point of a grid, in an event whose others are visible."""
  direction, pt, event, rank, hidden, weight = made()
  step = 0.02
  grid = np.stack(np.meshgrid(*[np.arange(-2.5, 2.5, step)] * 2), axis=-1).reshape(-1, 2)
  mine = (event == 7) & ~hidden
  new = [np.concatenate([direction, grid]), np.concatenate([pt, np.ones(len(grid))])]
  # Of weight 0: fits to the other half of the events must not see them.
  others = ((event, 7), (rank, 3), (hidden, True))
  new += [np.concatenate([x, np.full(len(grid), value)]) for x, value in others]
  new.append(np.concatenate([weight, np.zeros(len(grid))]))
  assert mine.any()
  for log_density in metrics.direction_guesses(*new):
    total = np.exp(log_density[-len(grid) :]).sum() * step**2
    assert total == pytest.approx(1, abs=0.01)


def test_visible_particles_know_where_the_jet_is():
  axis, visible = metrics.direction_guesses(*made())
  assert visible.mean() > axis.mean() + 1.5
  # Of the truth: a Gaussian of 0.05 around each prong.
  best = -np.log(2 * np.pi * 0.05**2) - 1
  assert best - 1 < visible.mean() < best


def test_no_hidden_particle_takes_part_in_its_own_guess():
  direction, pt, event, rank, hidden, weight = made()
  changed = direction.copy()
  changed[np.flatnonzero(hidden & (event == 5))[0]] += 0.5
  before = metrics.direction_guesses(direction, pt, event, rank, hidden, weight)
  after = metrics.direction_guesses(changed, pt, event, rank, hidden, weight)
  own = event[hidden] == 5
  for a, b in zip(before, after, strict=True):
    np.testing.assert_array_equal(a[own][1:], b[own][1:])
    assert (a[~own] != b[~own]).any()


def test_order_and_chunks_mean_nothing(monkeypatch):
  arrays = made()
  before = metrics.direction_guesses(*arrays)
  order = np.random.default_rng(2).permutation(len(arrays[0]))
  monkeypatch.setattr(directions, "MOST_PAIRS", 200)
  after = metrics.direction_guesses(*(x[order] for x in arrays))
  hidden = arrays[4]
  place = np.cumsum(hidden) - 1
  for a, b in zip(before, after, strict=True):
    np.testing.assert_allclose(b, a[place[order[hidden[order]]]], rtol=1e-9)


def test_a_weight_of_two_is_two_events():
  direction, pt, event, _, hidden, _ = made()
  weight = 1.0 + (event % 3 == 0)
  start = directions._Mixture.start((0.1,), (0.3,))
  once = directions._pairs(direction, pt, event, hidden, weight, hidden)
  copies = np.concatenate([np.arange(len(event)), np.flatnonzero(weight == 2)])
  number = np.concatenate([event, EVENTS + event[weight == 2]])
  order = np.argsort(number, kind="stable")
  rows = copies[order]
  twice = directions._pairs(
    direction[rows], pt[rows], number[order], hidden[rows], np.ones(len(rows)), hidden[rows]
  )
  one, two = start.fitted(once), start.fitted(twice)
  np.testing.assert_allclose(one.part, two.part, rtol=1e-9)
  np.testing.assert_allclose(one.width, two.width, rtol=1e-9)


def test_what_the_rank_tells_of_the_width_is_known():
  """Soft particles that lie ten times as far from their neighbours, in all jets alike."""
  direction, pt, event, rank, hidden, weight = made()
  prong = np.repeat(np.random.default_rng(3).normal(0, 0.3, (EVENTS, 2)), LENGTH, axis=0)
  width = np.where(rank < LENGTH // 2, 0.02, 0.2)[:, None]
  direction = prong + width * np.random.default_rng(4).normal(size=direction.shape)
  pt = np.where(rank < LENGTH // 2, 1.0, 1e-6)  # only hard ones say where
  arrays = (pt, event, rank, hidden, weight)
  knows = metrics.direction_guesses(direction, *arrays)[1].mean()
  arrays = (pt, event, np.zeros_like(rank), hidden, weight)
  assert knows > metrics.direction_guesses(direction, *arrays)[1].mean() + 0.3


def test_an_event_without_visible_momentum_spoils_no_other():
  direction, pt, event, rank, hidden, weight = made()
  pt[event == 3] = 0
  for guess in metrics.direction_guesses(direction, pt, event, rank, hidden, weight):
    assert np.isfinite(guess).all()


@pytest.mark.parametrize("events", [0, 1])
def test_less_than_two_events_have_no_guess(events):
  arrays = (x[: events * LENGTH] for x in made())
  with pytest.raises(metrics.UndefinedMetric, match="no hidden particle"):
    metrics.direction_guesses(*arrays)


def test_a_density_that_knows_the_jet_gains_over_its_visible_particles():
  """Two prongs at the ends of a jet: the axis is nobody's direction, and the prongs everybody's."""
  rng = np.random.default_rng(0)
  event, prong = np.divmod(np.arange(4000), 2)[0] // 10, np.arange(4000) % 2
  angle, spread = rng.uniform(0, np.pi, 200)[event] + np.pi * prong, 0.05
  centre = 0.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
  direction = centre + rng.normal(0, spread, (4000, 2))
  some = rng.random(4000) < 0.3
  square = ((direction - centre)[some] ** 2).sum(axis=1)
  true = np.log(0.5 / (2 * np.pi * spread**2)) - square / (2 * spread**2)
  rank, weight = np.tile(np.arange(20), 200), rng.uniform(0.5, 2, 200)[event]
  particles = Located(direction, np.ones(4000), rank, some, true, event, weight)
  section = directions_section(particles, bootstrap=10)
  gain = section.metrics["direction_gain"]
  assert 0 < gain.value < 0.6 and gain.baseline < -0.5 and 0 < gain.error < 0.1
  worse = directions_section(dataclasses.replace(particles, log_density=true - 1)).metrics
  assert worse["direction_gain"].value == pytest.approx(gain.value - 1)
  of_one, hidden_of_one = slice(20), slice(some[:20].sum())
  fields = {f.name: getattr(particles, f.name) for f in dataclasses.fields(particles)}
  one = {k: v[hidden_of_one if k == "log_density" else of_one] for k, v in fields.items()}
  alone = directions_section(Located(**one)).metrics["direction_gain"]
  assert "a half of the events" in alone.reason
