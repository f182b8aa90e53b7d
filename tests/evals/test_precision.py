"""Precision, recall and F1 of a selection, and working points of a precision."""

import numpy as np
import pytest

from jetfm.evals import metrics


def make_scores(seed, n=20_000, distance=3.0):
  rng = np.random.default_rng(seed)
  is_signal = rng.random(n) < 0.3
  return rng.normal(size=n) + distance * is_signal, is_signal


def test_quality_is_that_of_scikit_learn():
  from sklearn.metrics import precision_recall_fscore_support

  score, is_signal = make_scores(0, 500, 1.0)
  selected = score > 1
  quality = metrics.selection_quality(selected, is_signal)
  expected = precision_recall_fscore_support(is_signal, selected, average="binary")[:3]
  np.testing.assert_allclose([q.value for q in quality.values()], expected)


def test_errors_are_the_spread_of_repeated_samples():
  repeated = []
  for seed in range(300):
    score, is_signal = make_scores(seed, 400, 1.5)
    repeated.append(metrics.selection_quality(score > 1, is_signal))
  for name in ("precision", "recall", "f1"):
    spread = np.std([quality[name].value for quality in repeated])
    error = np.mean([quality[name].error for quality in repeated])
    assert error == pytest.approx(spread, rel=0.15), name


def test_weights_count_as_equal_events():
  score, is_signal = make_scores(1, 300, 1.0)
  weight = np.random.default_rng(0).integers(0, 3, 300)
  weighted = metrics.selection_quality(score > 1, is_signal, weight)
  again = metrics.selection_quality(np.repeat(score > 1, weight), np.repeat(is_signal, weight))
  for name, quality in weighted.items():
    assert quality.value == pytest.approx(again[name].value)


def test_what_is_not_defined_says_so():
  none, all_ = np.zeros(5, bool), np.ones(5, bool)
  quality = metrics.selection_quality(none, all_)
  assert quality["precision"].value is None
  assert quality["recall"].value == quality["f1"].value == 0
  assert metrics.selection_quality(all_, none)["recall"].value is None
  assert metrics.selection_quality(none, none)["f1"].value is None


@pytest.mark.parametrize("precision", [0.9, 0.99])
def test_the_threshold_is_the_lowest_that_reaches_the_precision(precision):
  score, is_signal = make_scores(2)
  threshold = metrics.threshold_at_precision(score, is_signal, precision)

  def reached(cut):
    return is_signal[score >= cut].mean()

  assert reached(threshold) >= precision
  lower = score[score < threshold]
  assert all(reached(cut) < precision for cut in lower[:2000])


def test_order_and_monotone_functions_of_the_score_do_not_matter():
  score, is_signal = make_scores(3, 3000)
  order = np.random.default_rng(0).permutation(len(score))
  threshold = metrics.threshold_at_precision(score, is_signal)
  assert metrics.threshold_at_precision(score[order], is_signal[order]) == threshold
  assert metrics.threshold_at_precision(np.exp(score), is_signal) == pytest.approx(
    np.exp(threshold)
  )


def test_equal_scores_are_selected_together():
  score = np.repeat([2.0, 1.0, 0.0], [100, 100, 100])
  is_signal = np.r_[np.ones(100, bool), np.arange(100) < 50, np.zeros(100, bool)]
  assert metrics.threshold_at_precision(score, is_signal, 0.9, min_selected=1) == 2.0
  assert metrics.threshold_at_precision(score, is_signal, 0.75, min_selected=1) == 1.0


def test_too_few_events_do_not_reach_a_precision():
  score = np.arange(1000.0)
  is_signal = score >= 950  # the first 50 are signal, then nothing
  with pytest.raises(metrics.UndefinedMetric, match=r"not reached: .*100 events"):
    metrics.threshold_at_precision(score, is_signal, 0.99)
  assert metrics.threshold_at_precision(score, is_signal, 0.99, min_selected=10) == 950


def test_events_that_are_never_selected_do_not_count():
  score = np.r_[np.full(100, -np.inf), np.arange(200.0)]
  is_signal = np.ones(300, bool)
  assert metrics.threshold_at_precision(score, is_signal, 0.5) == 0.0
  with pytest.raises(metrics.UndefinedMetric, match="fewer are selected"):
    metrics.threshold_at_precision(score[:100], is_signal[:100], 0.5)


def test_the_point_of_validation_holds_on_test_data():
  valid, test = make_scores(4, 100_000), make_scores(5, 100_000)
  point = metrics.precision_point(valid, test, 0.95)
  assert point.precision.value == pytest.approx(0.95, abs=5 * point.precision.error)
  selected = test[0] >= point.threshold
  assert point.recall.value == pytest.approx(selected[test[1]].mean())


def test_a_point_that_is_not_reached_says_so():
  rng = np.random.default_rng(0)
  chance = rng.normal(size=2000), rng.random(2000) < 0.3
  point = metrics.precision_point(chance, chance)
  assert point.threshold is None
  assert point.precision.value is point.recall.value is None
  assert point.recall.reason.startswith("not reached")


@pytest.mark.parametrize("precision", [0.0, 1.0, 99.0])
def test_precisions_that_are_none(precision):
  with pytest.raises(ValueError, match="not in"):
    metrics.threshold_at_precision(*make_scores(0, 100), precision)
