"""Probes: separable embeddings are separated, noise is at chance, weights count."""

import numpy as np
import pytest

from jetfm.evals import probes


def make_embeddings(separation, seed=0, num_events=300, num_classes=3):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, num_classes, num_events)
  x = rng.normal(size=(num_events, 6))
  x[np.arange(num_events), label] += separation
  return x, label


@pytest.mark.parametrize("probe", probes.PROBES)
def test_separable_classes_are_found_and_noise_is_not(probe):
  (x, y), (u, v) = make_embeddings(6.0), make_embeddings(6.0, seed=1)
  noise = np.random.default_rng(2).normal(size=(600, 6))
  out = probes.probe_summary(
    x, y, u, v, 3, probes=[probe], baseline=(noise[:300], noise[300:]), baseline_kind="noise"
  )[probe]
  assert out.value > 0.95
  assert abs(out.baseline - out.reference) < 0.12
  again = probes.probe_summary(x, y, u, v, 3, probes=[probe])[probe]
  assert again.value == out.value  # seeded


def test_probabilities_are_normalised_also_for_a_class_that_training_lacks():
  x, y = make_embeddings(2.0, num_classes=2)
  for p in (probes.knn_probe(x, y, x, 4), probes.mlp_probe(x, y, x, 4)):
    assert p.shape == (300, 4)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p[:, 2:] == 0).all()


def test_events_of_weight_zero_are_not_neighbours():
  x, y = make_embeddings(0.0)
  weight = (y == 1).astype(float)
  assert (probes.knn_probe(x, y, x, 3, weight)[:, 1] == 1).all()
  plain = probes.mlp_probe(x, y, x, 3)
  heavy = probes.mlp_probe(x, y, x, 3, 1 + 20 * weight)
  assert heavy[:, 1].mean() > plain[:, 1].mean() + 0.3


def test_wrong_inputs_are_errors():
  x, y = make_embeddings(1.0)
  with pytest.raises(ValueError, match="1, 2 or 3 layers"):
    probes.mlp_probe(x, y, x, 3, layers=4)
  with pytest.raises(ValueError, match="at least two classes"):
    probes.mlp_probe(x, 0 * y, x, 3)
  with pytest.raises(ValueError, match="NaN"):
    probes.knn_probe(x * np.nan, y, x, 3)
  with pytest.raises(ValueError, match="expected \\(B, D\\)"):
    probes.knn_probe(x, y, x[:, :2], 3)
  with pytest.raises(ValueError, match="no probe 'svm'"):
    probes.probe_summary(x, y, x, y, 3, probes=["svm"])
