"""Working points: pT bins and mass sculpting."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from jetfm.evals import metrics


def make_tagger(seed=0, num_events=4000):
  rng = np.random.default_rng(seed)
  is_signal = rng.random(num_events) < 0.5
  score = rng.normal(size=num_events) + 1.5 * is_signal
  mass = np.where(is_signal, rng.normal(120, 10, num_events), rng.gamma(3, 30, num_events))
  return score, is_signal, mass, rng.uniform(500, 1000, num_events)


def test_published_working_points():
  points = {name: metrics.working_point_of(name) for name in ("Hbb", "Hqql", "Tbl", "Wqq")}
  assert points == {"Hbb": 0.5, "Hqql": 0.99, "Tbl": 0.995, "Wqq": 0.5}


def test_gaussian_tagger_has_its_known_rejection():
  # Unit Gaussians a distance d apart: at 50 % signal the background above d is 1 - Phi(d).
  from scipy.stats import norm

  score, is_signal, _, _ = make_tagger(num_events=200_000)
  rejection = metrics.background_rejection(score, is_signal, 0.5)
  assert abs(rejection.value - 1 / norm.sf(1.5)) < 4 * rejection.error
  assert rejection.reference == 2


@pytest.mark.parametrize(
  ("efficiency", "distance", "signal", "background"),
  [(0.5, 1.0, 200, 5000), (0.5, 1.5, 500, 500), (0.995, 3.0, 2000, 2000)],
)
def test_rejections_of_many_samples_spread_as_their_errors_say(
  efficiency, distance, signal, background
):
  from scipy.stats import norm

  rng = np.random.default_rng(0)
  expected = norm.sf(norm.isf(efficiency) + distance)
  is_signal = np.arange(signal + background) < signal
  pulls = []
  for _ in range(400):
    score = rng.normal(size=len(is_signal)) + distance * is_signal
    m = metrics.background_rejection(score, is_signal, efficiency)
    pulls.append((1 / m.value - expected) * m.value**2 / m.error)
  assert np.std(pulls) == pytest.approx(1, abs=0.15) and abs(np.mean(pulls)) < 0.4


def test_one_bin_is_the_whole_and_bins_average_to_it():
  score, is_signal, _, pt = make_tagger()
  whole = metrics.binned_efficiency(score, is_signal, 0.5, pt, [500, 1000])
  value = metrics.background_rejection(score, is_signal, 0.5)
  assert whole.rejection[0] == pytest.approx(value.value)
  assert 0 < whole.rejection_error[0] < value.error  # of one cut, not of where it may lie
  assert whole.signal[0] == pytest.approx(0.5, abs=1e-3)
  edges = np.linspace(500, 1000, 6)
  bins = metrics.binned_efficiency(score, is_signal, 0.5, pt, edges)
  share = np.histogram(pt[~is_signal], edges)[0] / (~is_signal).sum()
  assert np.sum(share * bins.background) == pytest.approx(whole.background[0])


def test_empty_bins_are_marked():
  score, is_signal, _, pt = make_tagger()
  bins = metrics.binned_efficiency(score, is_signal, 0.5, pt, [0, 400, 1000])
  assert np.isnan(bins.signal[0]) and np.isnan(bins.rejection[0])
  assert np.isfinite([bins.signal[1], bins.rejection[1]]).all()


def test_tagger_blind_to_the_mass_sculpts_nothing():
  score, is_signal, mass, _ = make_tagger()
  edges = np.linspace(0, 300, 31)
  blind = metrics.mass_sculpting(score, is_signal, 0.5, mass, edges)
  assert blind.distance < 2 * blind.floor
  window = -np.abs(mass - 120)
  carves = metrics.mass_sculpting(window, is_signal, 0.5, mass, edges)
  assert carves.distance > 3 * carves.floor
  assert carves.distance == pytest.approx(jensenshannon(carves.before, carves.after), rel=1e-9)
  assert carves.passed < (~is_signal).sum() and carves.floor > 0


def test_keeping_everything_changes_no_shape():
  score, is_signal, mass, _ = make_tagger()
  score = np.where(is_signal, score, score.max() + 1)
  all_kept = metrics.mass_sculpting(score, is_signal, 1.0, mass, np.linspace(0, 400, 20))
  assert all_kept.distance == all_kept.floor == 0
  assert all_kept.passed == (~is_signal).sum()


def test_without_background_sculpting_is_undefined():
  score, is_signal, mass, _ = make_tagger()
  with pytest.raises(metrics.UndefinedMetric):
    metrics.mass_sculpting(score, np.ones_like(is_signal), 0.5, mass, [0, 100])
  score[~is_signal] = -100
  with pytest.raises(metrics.UndefinedMetric, match="no background event passes"):
    metrics.mass_sculpting(score, is_signal, 0.5, mass, [0, 100])
