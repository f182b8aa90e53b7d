"""Super-resolution metrics: plain loops, wrapping, empty jets, baselines, the seed's variants."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from jetfm.evals import metrics
from jetfm.evals.metrics import super_resolution


@pytest.mark.parametrize("squared", [True, False])
def test_chamfer_agrees_with_a_plain_loop_in_any_chunks(jets, other_jets, squared, monkeypatch):
  x, a = metrics.particle_coordinates(*jets[:2], ("deta", "dphi")), jets[1]
  y, b = metrics.particle_coordinates(*other_jets[:2], ("deta", "dphi")), other_jets[1]
  expected = []
  for i in range(len(x)):
    d = cdist(x[i, a[i]], y[i, b[i]], "sqeuclidean" if squared else "euclidean")
    expected.append(d.min(axis=1).mean() + d.min(axis=0).mean())
  for elements in (super_resolution.CHUNK_ELEMENTS, 5000):
    monkeypatch.setattr(super_resolution, "CHUNK_ELEMENTS", elements)
    found = metrics.chamfer(x, y, a, b, squared=squared)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_chamfer_of_known_jets():
  one = np.ones((1, 1), bool)
  x = np.array([[[0.0, np.pi - 0.1]]])
  y = np.array([[[0.3, -np.pi + 0.3]]])
  # dphi = 0.4 across the seam, dR = 0.5, counted both ways
  assert metrics.chamfer(x, y, one, one)[0] == pytest.approx(0.5)
  assert metrics.chamfer(x, y, one, one, squared=False)[0] == pytest.approx(1.0)
  assert metrics.chamfer(x, x, one, one)[0] == 0
  with pytest.raises(ValueError, match="eta, phi"):
    metrics.chamfer(np.zeros((1, 1, 3)), y, one, one)


def test_pt_emd_agrees_with_scipy(jets, other_jets):
  x = metrics.particle_coordinates(*jets[:2])[..., 0]
  y = metrics.particle_coordinates(*other_jets[:2])[..., 0]
  a, b = jets[1], other_jets[1]
  expected = [wasserstein_distance(x[i, a[i]], y[i, b[i]]) for i in range(len(x))]
  np.testing.assert_allclose(metrics.pt_emd(x, y, a, b), expected, rtol=1e-9, atol=1e-12)


def test_multiplicity_error():
  predicted = np.arange(5) < np.array([[3], [0], [4]])
  true = np.arange(5) < np.array([[5], [0], [2]])
  np.testing.assert_allclose(metrics.multiplicity_error(predicted, true), [0.4, 0, 1])


def test_order_of_particles_means_nothing(jets, other_jets):
  rng = np.random.default_rng(0)
  x, a = metrics.particle_coordinates(*jets[:2]), jets[1]
  y, b = metrics.particle_coordinates(*other_jets[:2]), other_jets[1]
  order = rng.permutation(x.shape[1])
  np.testing.assert_allclose(
    metrics.chamfer(x[:, order, 1:3], y[..., 1:3], a[:, order], b),
    metrics.chamfer(x[..., 1:3], y[..., 1:3], a, b),
  )


def test_summary_of_a_perfect_and_of_a_copied_prediction(jets):
  p4, mask, label = jets
  few = mask & (np.arange(mask.shape[1]) < 5)
  perfect = metrics.super_resolution_summary(p4, mask, p4, mask, p4, few, label)
  copied = metrics.super_resolution_summary(p4, few, p4, mask, p4, few, label)
  for name in perfect:
    assert perfect[name].value == pytest.approx(0, abs=1e-12)
    assert copied[name].value == pytest.approx(copied[name].baseline) and copied[name].value > 0
    assert perfect[name].reference > 0 and perfect[name].reference_kind == "another jet"


def test_ratios_are_to_the_input_with_the_error_of_paired_jets(jets, other_jets):
  p4, mask, label = jets
  few = mask & (np.arange(mask.shape[1]) < 5)
  rng = np.random.default_rng(0)
  shaken = p4.copy()
  shaken[..., 1:3] *= rng.normal(1, 0.2, (*mask.shape, 2))
  for predicted, changed in ((few, p4), (mask, shaken)):
    found = metrics.super_resolution_summary(changed, predicted, p4, mask, p4, few, label)
    for name in ("chamfer", "chamfer_dr"):
      squared = name == "chamfer"
      x, t = (metrics.particle_coordinates(p, mask)[..., 1:3] for p in (changed, p4))
      value = metrics.chamfer(x, t, predicted, mask, squared=squared)
      copied = metrics.chamfer(t, t, few, mask, squared=squared)
      rows = rng.integers(0, len(label), (400, len(label)))
      resampled = value[rows].mean(axis=1) / copied[rows].mean(axis=1)
      m = found[f"{name}_ratio"]
      assert m.value == pytest.approx(found[name].value / found[name].baseline)
      # Copying is exactly 1 in every sample, whatever the spread of distances.
      assert m.error == pytest.approx(resampled.std(), rel=0.2, abs=1e-12)
  nothing_lost = metrics.super_resolution_summary(p4, mask, p4, mask, p4, mask, label)
  assert "chamfer_ratio" not in nothing_lost


def test_jets_without_particles_are_counted_and_left_out(jets):
  p4, mask, label = jets
  predicted = mask.copy()
  predicted[:3] = False
  summary = metrics.super_resolution_summary(p4, predicted, p4, mask, p4, mask, label)
  assert summary["chamfer"].value == pytest.approx(0)
  assert "3 of 200 jets" in summary["chamfer"].note
  assert summary["multiplicity_error"].value == pytest.approx(3 / 200)
  nothing = np.zeros_like(mask)
  summary = metrics.super_resolution_summary(p4, nothing, p4, mask, p4, mask, label)
  assert summary["chamfer"].value is None and "particles on both sides" in summary["chamfer"].reason


def test_weights_and_errors_of_the_mean(jets, other_jets):
  p4, mask, label = jets
  other, other_mask, _ = other_jets
  weight = np.random.default_rng(0).integers(0, 3, len(mask))
  rows = np.repeat(np.arange(len(mask)), weight)

  def chamfer(index, w):
    p, m, q, n = p4[index], mask[index], other[index], other_mask[index]
    return metrics.super_resolution_summary(p, m, q, n, p, m, label[index], w)["chamfer"]

  weighted = chamfer(np.arange(len(mask)), weight)
  assert weighted.value == pytest.approx(chamfer(rows, None).value)
  plain = chamfer(np.arange(len(mask)), None)
  per_jet = metrics.chamfer(
    metrics.particle_coordinates(p4, mask)[..., 1:3],
    metrics.particle_coordinates(other, other_mask)[..., 1:3],
    mask,
    other_mask,
  )
  assert plain.error == pytest.approx(per_jet.std() / np.sqrt(len(per_jet)))


def test_another_jet_is_another_one_of_its_class():
  label = np.array([0] * 10 + [1] * 7 + [2])
  partner = metrics.another_jet(label)
  assert (label[partner] == label).all()
  assert (partner[:17] != np.arange(17)).all() and partner[17] == 17
  assert sorted(partner) == list(range(18))


def test_seed_variants_follow_the_seed(jets, other_jets):
  mean, std = metrics.seed_constants(*jets[:2])
  x, y = (metrics.seed_coordinates(*j[:2], mean, std) for j in (other_jets, jets))
  ours = metrics.super_resolution_seed(x, y)
  for b in range(0, len(x), 17):
    d = cdist(x[b, :, 1:3], y[b, :, 1:3], "sqeuclidean")
    expected = d.min(axis=1).mean() + d.min(axis=0).mean()
    assert ours["chamfer_seed"][b] == pytest.approx(expected, rel=1e-9)
    expected = wasserstein_distance(x[b, :, 0], y[b, :, 0])
    assert ours["pt_emd_seed"][b] == pytest.approx(expected, rel=1e-9)
    n, m = (x[b, :, 0] > 0.1).sum(), (y[b, :, 0] > 0.1).sum()
    assert ours["multiplicity_error_seed"][b] == abs(n - m) / max(m, 1)
