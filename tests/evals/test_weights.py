"""Laws of event weights, for every weighted metric: a weight counts events, order means nothing."""

import numpy as np
import pytest

from jetfm.evals import metrics
from jetfm.evals.metrics.generation import Particles

B, C = 240, 4


def events(seed=0):
  """One sample of events with everything that metrics read, and integer weights with zeros."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, C, B)
  logits = rng.normal(size=(B, C))
  logits[np.arange(B), label] += 1.0
  p = np.exp(logits)
  true = rng.gamma(4, 30, B)
  return {
    "p": np.round(p / p.sum(axis=1, keepdims=True), 2),  # with ties
    "label": label,
    "score": np.round(rng.normal(size=B) + (label > 1), 1),
    "true": true,
    "predicted": true * rng.normal(1, 0.1, B),
    "x": rng.normal(size=(B, 3)),
    "y": rng.normal(0.2, 1.1, size=(B, 3)),
    "weight": rng.integers(0, 4, B).astype(float),
  }


def particles(e):
  return Particles(e["x"], e["weight"]), Particles(e["y"], e["weight"])


def keep_positive(e):
  keep = e["weight"] > 0
  return {name: values[keep] for name, values in e.items()}


EDGES = np.linspace(0, 300, 8)
METRICS = {
  "accuracy": lambda e: metrics.accuracy(e["p"], e["label"], e["weight"]),
  "top3": lambda e: metrics.top_k_accuracy(e["p"], e["label"], e["weight"], k=3),
  "macro_f1": lambda e: metrics.macro_f1(e["p"], e["label"], e["weight"]),
  "confusion": lambda e: metrics.confusion_matrix(e["p"], e["label"], e["weight"]),
  "auc_ovr": lambda e: metrics.auc_ovr(e["p"], e["label"], e["weight"]),
  "auc_ovo": lambda e: metrics.auc_ovo(e["p"], e["label"], e["weight"]),
  "ece": lambda e: metrics.expected_calibration_error(e["p"], e["label"], e["weight"]),
  "chance": lambda e: list(metrics.classification_chance(e["label"], C, e["weight"]).values()),
  "roc": lambda e: metrics.roc_curve(e["score"], e["label"] > 1, e["weight"]),
  "rejection": lambda e: (
    metrics.background_rejection(e["score"], e["label"] > 1, 0.5, e["weight"]).value
  ),
  "binned": lambda e: (
    metrics.binned_efficiency(
      e["score"], e["label"] > 1, 0.5, e["true"], EDGES, e["weight"]
    ).background
  ),
  "sculpting": lambda e: (
    metrics.mass_sculpting(
      e["score"], e["label"] > 1, 0.5, e["true"], EDGES, e["weight"], replicas=1
    ).distance
  ),
  "mse": lambda e: metrics.mean_squared_error(e["predicted"], e["true"], e["weight"]),
  "mae": lambda e: metrics.mean_absolute_error(e["predicted"], e["true"], e["weight"]),
  "r2": lambda e: metrics.r2(e["predicted"], e["true"], e["weight"]),
  "resolution": lambda e: metrics.resolution(e["predicted"], e["true"], e["weight"]),
  "quantiles": lambda e: metrics.response_quantiles(e["predicted"], e["true"], e["weight"]),
  "mmd": lambda e: metrics.mmd_rbf(e["x"], e["y"], x_weight=e["weight"], y_weight=e["weight"]),
  "w1": lambda e: metrics.wasserstein_1d(e["x"][:, 0], e["y"][:, 0], e["weight"], e["weight"]),
  "generation_mmd": lambda e: metrics.generation_mmd(*particles(keep_positive(e))),
  "generation_kl": lambda e: metrics.generation_kl(*particles(keep_positive(e))),
  "generation_mse": lambda e: metrics.generation_histogram_mse(*particles(keep_positive(e))),
}


def assert_same(a, b):
  """Numbers, arrays, or tuples of arrays."""
  pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
  for x, y in pairs:
    np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_integer_weights_equal_repetition(name):
  e = events()
  times = e["weight"].astype(int)
  repeated = {key: np.repeat(values, times, axis=0) for key, values in e.items()}
  repeated["weight"] = np.ones(times.sum())
  assert_same(METRICS[name](e), METRICS[name](repeated))


@pytest.mark.parametrize("name", METRICS)
def test_zero_weight_events_change_nothing(name):
  e = events()
  changed = {key: values.copy() for key, values in e.items()}
  none = e["weight"] == 0
  for key in ("score", "true", "predicted", "x", "y"):
    changed[key][none] = 1e3
  changed["p"][none] = np.eye(C)[0]
  changed["label"][none] = 3
  assert_same(METRICS[name](e), METRICS[name](changed))


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_events_means_nothing(name):
  e = events()
  order = np.random.default_rng(1).permutation(B)
  shuffled = {key: values[order] for key, values in e.items()}
  assert_same(METRICS[name](e), METRICS[name](shuffled))


@pytest.mark.parametrize("name", METRICS)
def test_the_scale_of_weights_means_nothing(name):
  e = events()
  scaled = dict(e, weight=1e-3 * e["weight"])
  if name == "confusion":  # which is a sum of weights
    assert_same(1e-3 * METRICS[name](e), METRICS[name](scaled))
  else:
    assert_same(METRICS[name](e), METRICS[name](scaled))


def test_halves_are_disjoint_and_cover_all():
  first, second = metrics.random_halves(101, seed=3)
  assert len(first) == len(second) == 50
  assert len(set(first) | set(second)) == 100
  with pytest.raises(metrics.UndefinedMetric):
    metrics.random_halves(1)
