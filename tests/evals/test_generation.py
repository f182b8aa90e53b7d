"""Generation metrics: floors, baselines, and the seed's variants."""

import numpy as np
import pytest
from scipy.stats import entropy

from jetfm.evals import metrics
from jetfm.lorentz import to_pt_eta_phi_e


def particles_of(jets):
  p4, mask, _ = jets
  return metrics.flat_particles(metrics.particle_coordinates(p4, mask), mask)


def halves(jets):
  p4, mask, _ = jets
  return [(p4[i::2], mask[i::2], None) for i in (0, 1)]


def test_coordinates_are_those_of_the_momenta(jets, x64):
  p4, mask, _ = jets
  ours = metrics.particle_coordinates(p4, mask)
  np.testing.assert_allclose(ours[mask], np.asarray(to_pt_eta_phi_e(p4))[mask], rtol=1e-12)
  assert (ours[~mask] == 0).all()


def test_padding_and_jets_of_weight_zero_are_unseen(jets):
  p4, mask, _ = jets
  coordinates = metrics.particle_coordinates(p4, mask)
  weight = (np.arange(len(mask)) % 3).astype(float)
  changed = np.where(mask[..., None], coordinates, 7.0)
  changed[weight == 0] = -5.0
  a = metrics.flat_particles(coordinates, mask, weight)
  b = metrics.flat_particles(changed, mask, weight)
  np.testing.assert_array_equal(a.values, b.values)
  np.testing.assert_array_equal(a.weight, b.weight)
  with pytest.raises(metrics.UndefinedMetric, match="without any particle"):
    metrics.flat_particles(coordinates, np.zeros_like(mask))


def test_histogram_metrics_follow_their_definition(jets, other_jets):
  true, generated = particles_of(jets), particles_of(other_jets)
  x, y = true.values[:, 0], generated.values[:, 0]
  edges = np.linspace(min(x.min(), y.min()), max(x.max(), y.max()), 51)
  p, q = (np.histogram(a, edges)[0] / len(a) for a in (x, y))
  expected = entropy(p + 1e-10, q + 1e-10)
  assert metrics.generation_kl(true, generated) == pytest.approx(expected, rel=1e-9)
  assert metrics.generation_histogram_mse(true, true) == 0


def test_a_worse_generator_has_worse_numbers_and_floors_are_not_negative(jets, other_jets):
  true, alike = halves(jets)
  worse = *(a[:100] for a in other_jets[:2]), None
  summary = metrics.generation_summary(true, worse, alike, jetnet_samples=(60, 100))
  perfect = metrics.generation_summary(true, true, alike, jetnet_samples=(60, 100))
  for name, m in summary.items():
    assert m.reference_kind == "floor" and m.value is not None
    if name != "kpd":  # unbiased, may be negative
      assert m.reference >= 0
    # Where the samples agree; and FPD stops at 0, which its noise of 100 jets reaches.
    if name not in ("w1_eta", "w1_phi", "w1_deta", "w1_dphi", "fpd"):
      assert m.value > perfect[name].value
  for name in ("pt_kl", "histogram_mse", "w1_pt", "w1_mass", "w1_multiplicity", "w1_deta"):
    assert perfect[name].value == pytest.approx(0, abs=1e-12)
  for name in ("w1_pt", "w1_mass"):
    assert summary[name].value > summary[name].reference
  assert "60 to 100" in summary["fpd"].note


def test_jets_like_the_other_ones_are_at_the_floor(jets):
  """To the last bit, also where draws are made: value and floor see equally many jets."""
  true, alike = halves(jets)
  for name, m in metrics.generation_summary(true, alike, alike).items():
    assert m.value == m.reference, name


def test_wide_jets_are_seen_around_their_axis_only(jets):
  """Particles turned away from the axis of their jet: the axes themselves hide it."""
  true, alike = halves(jets)
  coordinates = metrics.particle_coordinates(*alike[:2])
  relative = metrics.particle_coordinates(*alike[:2], ("deta", "dphi"))
  pt, phi = coordinates[..., 0], coordinates[..., 2] + relative[..., 1]
  eta = coordinates[..., 1] + relative[..., 0]
  momenta = [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
  wide = np.stack(momenta, axis=-1) * alike[1][..., None], *alike[1:]
  found = metrics.generation_summary(true, wide, alike)
  excess = {name: m.value / m.reference for name, m in found.items() if name.startswith("w1_")}
  assert min(excess["w1_deta"], excess["w1_dphi"]) > 2 * max(excess["w1_eta"], excess["w1_phi"])


def test_few_jets_have_no_physics_distance_and_say_so(jets):
  p4, mask, _ = jets
  few = metrics.generation_summary(*((p4[i::5], mask[i::5], None) for i in range(3)))
  assert few["fpd"].value is None and "at least 100 jets" in few["fpd"].reason


def test_mmd_sees_as_many_particles_as_it_says(jets, other_jets):
  true, generated = particles_of(jets), particles_of(other_jets)
  full = metrics.generation_mmd(true, generated, size=10**6)
  assert metrics.generation_mmd(true, generated, size=1500) == pytest.approx(full, rel=0.3)
  assert metrics.generation_mmd(true, true, size=10**6) == pytest.approx(0, abs=1e-12)


def test_histogram_sampling_keeps_each_histogram_and_breaks_correlations(jets):
  p4, mask, label = jets
  coordinates = metrics.particle_coordinates(p4, mask)
  like = np.repeat([0, 1], 1500)
  drawn, drawn_mask = metrics.histogram_sampling_baseline(coordinates, mask, label, like=like)
  assert drawn.shape == (3000, *coordinates.shape[1:])
  assert (drawn[~drawn_mask] == 0).all()
  for c in (0, 1):
    true, fake = mask[label == c], drawn_mask[like == c]
    assert fake.sum(axis=1).mean() == pytest.approx(true.sum(axis=1).mean(), rel=0.05)
    assert fake.sum(axis=1).max() <= true.sum(axis=1).max()
    x, y = coordinates[label == c][true], drawn[like == c][fake]
    for f in (1, 2):
      spread = x[:, f].std()
      assert metrics.wasserstein_1d(x[:, f], y[:, f]) < 0.05 * spread
  assert abs(np.corrcoef(drawn[drawn_mask][:, 0], drawn[drawn_mask][:, 3])[0, 1]) < 0.1
  assert np.corrcoef(coordinates[mask][:, 0], coordinates[mask][:, 3])[0, 1] > 0.5
  with pytest.raises(ValueError, match="no training jet of class"):
    metrics.histogram_sampling_baseline(coordinates, mask, label, like=np.array([5]))


def test_gaussian_baseline_has_the_moments(jets):
  true = particles_of(jets)
  fake = metrics.gaussian_baseline(true, 50_000)
  np.testing.assert_allclose(
    np.cov(fake.values, rowvar=False), np.cov(true.values, rowvar=False), rtol=0.1, atol=3.0
  )


def test_halves_of_jets_are_disjoint(jets):
  index = np.arange(len(jets[1]))
  (a, _), (b, _) = metrics.split_jets(index, jets[1])
  assert not set(a) & set(b) and len(a) == len(b) == len(index) // 2


def plain_seed(real, fake):
  """The seed's definition, in the plainest form, without its subsample."""

  def kernel(a, b):
    return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 2).mean()

  out, errors = {"mmd_seed": kernel(real, real) + kernel(fake, fake) - 2 * kernel(real, fake)}, []
  for i in range(4):
    both = np.r_[real[:, i], fake[:, i]]
    bins = np.linspace(both.min(), both.max() + 1e-6, 51)
    p, q = (np.histogram(a[:, i], bins, density=True)[0] + 1e-10 for a in (real, fake))
    errors.append(np.mean((p / p.sum() - q / q.sum()) ** 2))
    if i == 0:
      out["pt_kl_seed"] = entropy(p, q)
  return out | {"histogram_mse_seed": np.mean(errors)}


def test_seed_variants_follow_the_seed(jets, other_jets):
  mean, std = metrics.seed_constants(*jets[:2])
  sides = []
  for p4, mask, _ in (jets, other_jets):
    coordinates = metrics.seed_coordinates(p4[:20], mask[:20], mean, std)
    sides.append(metrics.seed_multivector(coordinates))
  ours = metrics.generation_seed(*sides)
  for name, value in plain_seed(*(s.reshape(-1, 4) for s in sides)).items():
    assert ours[name] == pytest.approx(value, rel=1e-9)


def test_seed_coordinates_are_standardised_with_padding_included(jets):
  p4, mask, _ = jets
  mean, std = metrics.seed_constants(p4, mask)
  x = metrics.seed_coordinates(p4, mask, mean, std)
  np.testing.assert_allclose(x[mask][:, [0, 1, 3]].mean(axis=0), 0, atol=1e-9)
  np.testing.assert_allclose(x[mask][:, [0, 1, 3]].std(axis=0), 1, atol=1e-6)
  np.testing.assert_allclose(x[~mask], np.broadcast_to(-mean / std, x[~mask].shape))
  assert np.abs(x[mask][:, 2]).max() > 0.3  # phi in radians
