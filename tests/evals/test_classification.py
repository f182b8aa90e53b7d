"""Classification metrics: scikit-learn's numbers, known cases, and what is undefined."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jetfm.evals import metrics

CLASSES = ("QCD", "Hbb", "Hqql", "Tbl")


def make_scores(seed=0, num_events=400, num_classes=4, separation=1.5):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, num_classes, num_events)
  logits = rng.normal(size=(num_events, num_classes))
  logits[np.arange(num_events), label] += separation
  p = np.exp(logits)
  return p / p.sum(axis=1, keepdims=True), label, rng.uniform(0.2, 3.0, num_events)


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(weighted):
  p, label, weight = make_scores()
  weight = weight if weighted else None
  answer = p.argmax(axis=1)
  about = {"sample_weight": weight}
  pairs = [
    (metrics.accuracy, sklearn_metrics.accuracy_score(label, answer, **about)),
    (
      lambda *a: metrics.top_k_accuracy(*a, k=3),
      sklearn_metrics.top_k_accuracy_score(label, p, k=3, **about),
    ),
    (metrics.macro_f1, sklearn_metrics.f1_score(label, answer, average="macro", **about)),
    (metrics.auc_ovr, sklearn_metrics.roc_auc_score(label, p, multi_class="ovr", **about)),
  ]
  if not weighted:  # scikit-learn has no weights here
    pairs.append((metrics.auc_ovo, sklearn_metrics.roc_auc_score(label, p, multi_class="ovo")))
  for ours, theirs in pairs:
    assert ours(p, label, weight) == pytest.approx(theirs, abs=1e-12)
  np.testing.assert_allclose(
    metrics.confusion_matrix(p, label, weight),
    sklearn_metrics.confusion_matrix(label, answer, **about),
    rtol=1e-12,
  )


def test_scores_that_are_not_finite_have_no_order():
  with pytest.raises(ValueError, match="scores hold NaN"):
    metrics.binary_auc(np.array([0.1, np.nan]), np.array([True, False]))


def test_binary_auc_with_ties_agrees_with_scikit_learn():
  rng = np.random.default_rng(1)
  score = rng.integers(0, 6, 300)
  positive = rng.random(300) < 0.2 + 0.1 * score
  weight = rng.uniform(0, 2, 300)
  expected = sklearn_metrics.roc_auc_score(positive, score, sample_weight=weight)
  assert metrics.binary_auc(score, positive, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_roc_agrees_with_scikit_learn(weighted):
  p, label, weight = make_scores(2, num_classes=2)
  weight = weight if weighted else np.ones(len(label))
  score = metrics.discriminant(p, 1, 0)
  eff_b, eff_s, threshold = metrics.roc_curve(score, label == 1, weight)
  expected = sklearn_metrics.roc_curve(
    label == 1, score, sample_weight=weight, drop_intermediate=False
  )
  for ours, theirs in zip((eff_b, eff_s, threshold), expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
  for point in (0.3, 0.5, 0.99):
    rejection = metrics.background_rejection(score, label == 1, point, weight)
    passes = expected[0][np.argmax(expected[1] >= point)]
    assert rejection.value == pytest.approx(1 / passes, rel=1e-12)


def test_thinned_roc_lies_on_the_full_one():
  p, label, _ = make_scores(2, num_events=3000, num_classes=2)
  score = metrics.discriminant(p, 1, 0)
  full = set(zip(*metrics.roc_curve(score, label == 1), strict=True))
  thin = list(zip(*metrics.roc_curve(score, label == 1, max_points=50), strict=True))
  assert len(thin) <= 51 and set(thin) <= full


def test_discriminant_orders_as_the_ratio_and_does_not_saturate():
  p, _, _ = make_scores(3)
  score = metrics.discriminant(p, 1, 0)
  np.testing.assert_array_equal(np.argsort(score), np.argsort(p[:, 1] / (p[:, 1] + p[:, 0])))
  sharp = np.array([[1e-12, 1.0], [1e-20, 1.0]], np.float32)
  assert np.diff(metrics.discriminant(sharp, 1, 0)) > 0
  assert np.isfinite(metrics.discriminant(np.array([[0.0, 1.0], [1.0, 0.0]]), 1, 0)).all()


def test_perfect_classifier():
  label = np.arange(40) % 4
  p = np.eye(4)[label]
  for metric in (metrics.accuracy, metrics.macro_f1, metrics.auc_ovr, metrics.auc_ovo):
    assert metric(p, label) == 1
  assert metrics.expected_calibration_error(p, label) == 0
  summary = metrics.classification_summary(p, label, CLASSES)
  assert summary["accuracy"].value == 1 and summary["accuracy"].error == 0
  rejection = summary["rejection_Hbb"]
  assert rejection.value is None and "none of 10 background events" in rejection.reason
  limit = float(rejection.reason.split("above ")[1].split()[0])
  # 1 - (1 - 1/limit)^10 = 95 %: so many events would have shown that efficiency
  assert (1 - 1 / limit) ** 10 == pytest.approx(0.05, rel=1e-2)


def test_uninformative_classifier_is_at_chance():
  label = np.random.default_rng(0).integers(0, 4, 4000)
  same = np.full((4000, 4), 0.25)
  chance = metrics.classification_chance(label, 4)
  assert metrics.auc_ovr(same, label) == metrics.auc_ovo(same, label) == chance["auc"]
  random = np.random.default_rng(1).dirichlet(np.ones(4), 4000)
  assert metrics.accuracy(random, label) == pytest.approx(chance["accuracy"], abs=0.03)
  assert metrics.top_k_accuracy(random, label, k=3) == pytest.approx(chance["top3"], abs=0.03)
  assert metrics.macro_f1(random, label) == pytest.approx(chance["macro_f1"], abs=0.03)


def test_calibration_of_a_known_miscalibration():
  # 80 % confident, right in 60 %: the error is the difference.
  p = np.tile([0.8, 0.2], (10, 1))
  label = np.array([0] * 6 + [1] * 4)
  assert metrics.expected_calibration_error(p, label) == pytest.approx(0.2)


def test_single_class_says_why_there_is_no_auc():
  p, _, _ = make_scores()
  label = np.full(len(p), 2)
  with pytest.raises(metrics.UndefinedMetric, match="holds only class 2"):
    metrics.auc_ovr(p, label)
  summary = metrics.classification_summary(p, label, CLASSES, bootstrap=3)
  for name in ("auc_ovr", "auc_ovo", "rejection_Hbb"):
    assert summary[name].value is None and summary[name].reason
  assert summary["accuracy"].value is not None
  assert "all test events are Hqql" in summary["accuracy"].note


def test_absent_class_is_left_out_and_said():
  p, label, _ = make_scores()
  keep = label != 1
  summary = metrics.classification_summary(p[keep], label[keep], CLASSES)
  assert "Hbb" in summary["auc_ovr"].note
  present = [0, 2, 3]
  expected = [metrics.binary_auc(p[keep, c], label[keep] == c) for c in present]
  assert summary["auc_ovr"].value == pytest.approx(np.mean(expected))


def test_empty_split_is_said():
  with pytest.raises(metrics.UndefinedMetric, match="no event"):
    metrics.classification_summary(np.zeros((0, 4)), np.zeros(0, int), CLASSES)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda p, y, w: (p, y + 4, w), "labels run from"),
    (lambda p, y, w: (p, y - 1, w), "drop unlabelled"),
    (lambda p, y, w: (p * np.nan, y, w), "NaN"),
    (lambda p, y, w: (p, y, -w), "not negative"),
    (lambda p, y, w: (p, y, w[:5]), "weight has shape"),
    (lambda p, y, w: (p[:5], y, w), "different numbers"),
    (lambda p, y, w: (p, y.astype(float), w), "expected integers"),
  ],
)
def test_wrong_inputs_are_errors(change, message):
  with pytest.raises(ValueError, match=message):
    metrics.accuracy(*change(*make_scores()))


def test_confusion_matrices_of_chunks_add():
  p, label, weight = make_scores()
  parts = [metrics.confusion_matrix(p[i::3], label[i::3], weight[i::3]) for i in range(3)]
  np.testing.assert_allclose(sum(parts), metrics.confusion_matrix(p, label, weight), rtol=1e-12)


def test_binomial_errors_cover_the_truth():
  # Of many test sets of 500 events, the accuracy of 70 % should lie within one error in 68 %.
  rng = np.random.default_rng(5)
  inside = 0
  for _ in range(300):
    label = (rng.random(500) > 0.7).astype(int)
    p = np.tile([0.9, 0.1], (500, 1))
    inside += abs(metrics.accuracy(p, label) - 0.7) < metrics.accuracy_error(p, label)
  assert 0.60 < inside / 300 < 0.76


def test_bootstrap_agrees_with_the_binomial_error():
  p, label, _ = make_scores(num_events=2000)
  bootstrap = metrics.bootstrap_error(
    lambda w: metrics.accuracy(p, label, w), np.ones(2000), replicas=200
  )
  assert bootstrap == pytest.approx(metrics.accuracy_error(p, label), rel=0.25)
