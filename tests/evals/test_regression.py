"""Regression metrics: scikit-learn's numbers and known cases."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jetfm.evals import metrics


def make_masses(seed=0, num_events=500):
  rng = np.random.default_rng(seed)
  true = rng.normal(120, 25, num_events)
  return true * rng.normal(1.02, 0.1, num_events), true, rng.uniform(0.2, 3.0, num_events)


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(weighted):
  predicted, true, weight = make_masses()
  weight = weight if weighted else None
  for ours, theirs in (
    (metrics.mean_squared_error, sklearn_metrics.mean_squared_error),
    (metrics.mean_absolute_error, sklearn_metrics.mean_absolute_error),
    (metrics.r2, sklearn_metrics.r2_score),
  ):
    expected = theirs(true, predicted, sample_weight=weight)
    assert ours(predicted, true, weight) == pytest.approx(expected, rel=1e-12)


def test_definitions_of_resolution_and_half_width():
  predicted, true, _ = make_masses(num_events=20_000)
  expected = np.std(predicted - true) / np.mean(np.abs(true))
  assert metrics.resolution(predicted, true) == pytest.approx(expected)
  # 16 % to 84 % of a Gaussian response is 0.9945 of its standard deviation on either side.
  assert metrics.response_half_width(predicted, true) == pytest.approx(0.0994, abs=0.002)
  low, middle, high = metrics.response_quantiles(predicted, true)
  assert low < middle < high and middle == pytest.approx(1.02, abs=0.005)


def test_perfect_mean_and_biased_predictions():
  _, true, weight = make_masses()
  assert metrics.r2(true, true, weight) == 1
  mean = np.full_like(true, np.average(true, weights=weight))
  assert metrics.r2(mean, true, weight) == pytest.approx(0, abs=1e-12)
  assert metrics.resolution(true + 7, true) == pytest.approx(0, abs=1e-12)
  assert metrics.mean_absolute_error(true + 7, true) == pytest.approx(7)
  assert metrics.response_half_width(1.5 * true, true) == pytest.approx(0, abs=1e-12)


def test_summary_in_both_units():
  predicted, true, weight = make_masses()
  summary = metrics.regression_summary(
    "gen_mass", predicted, true, 120.0, 25.0, weight, baselines={"copy": true}, bootstrap=5
  )
  assert summary["gen_mass_mse"].value == pytest.approx(summary["gen_mass_mse_gev2"].value / 25**2)
  assert summary["gen_mass_mae"].value == pytest.approx(summary["gen_mass_mae_gev"].value / 25)
  assert summary["gen_mass_r2"].reference == pytest.approx(0, abs=1e-12)
  assert summary["gen_mass_r2"].baseline == 1 and summary["gen_mass_r2"].baseline_kind == "copy"
  assert summary["gen_mass_r2"].error > 0


def test_what_is_undefined_is_said():
  same = np.full(10, 80.0)
  with pytest.raises(metrics.UndefinedMetric, match="all are 80"):
    metrics.r2(same + 1, same)
  with pytest.raises(metrics.UndefinedMetric):
    metrics.resolution(same, 0 * same)
  with pytest.raises(metrics.UndefinedMetric):
    metrics.response_half_width(same, -same)
  summary = metrics.regression_summary("mass", same + 1, same, 0.0, 1.0)
  assert summary["mass_r2"].value is None and "different true values" in summary["mass_r2"].reason
  with pytest.raises(ValueError, match="NaN"):
    metrics.r2(same * np.nan, same)
  with pytest.raises(ValueError, match="one target"):
    metrics.r2(same[:, None], same[:, None])
