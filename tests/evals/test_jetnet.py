"""The JetNet metrics equal those of the jetnet package, from its golden file."""

import pathlib

import numpy as np
import pytest

from jetfm.evals import metrics

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "jetnet_metrics.npz"


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN) as data:
    return dict(data)


def jets(golden, name):
  values = golden[name].astype(np.float64)
  return values, values[..., 2] > 0


def features(golden, name):
  x, mask = jets(golden, name)
  return metrics.physics_features(x[..., 2], x[..., 0], x[..., 1], mask)


@pytest.mark.parametrize("name", ["true", "generated"])
def test_energy_flow_polynomials(golden, name):
  """The same 36 numbers per jet; their order has no meaning."""
  ours, theirs = features(golden, name), golden[f"{name}_efps"]
  np.testing.assert_allclose(np.sort(ours, axis=1), np.sort(theirs, axis=1), rtol=1e-9)


def test_jet_mass(golden):
  x, mask = jets(golden, "true")
  deta, dphi, pt = np.moveaxis(x, -1, 0)
  momenta = [pt * np.cosh(deta), pt * np.cos(dphi), pt * np.sin(dphi), pt * np.sinh(deta)]
  ours = metrics.jet_mass(np.stack(momenta, axis=-1), mask)
  np.testing.assert_allclose(ours, golden["true_mass"], rtol=1e-6, atol=1e-9)


def test_wasserstein(golden):
  """Theirs is the mean over draws of jets with replacement."""
  (x, a), (y, b) = jets(golden, "true"), jets(golden, "generated")
  size, batches = int(golden["w1_jets"]), int(golden["w1_batches"])

  def drawn(distances):
    rng = np.random.default_rng(int(golden["seed"]))
    draws = [(rng.choice(len(x), size), rng.choice(len(y), size)) for _ in range(batches)]
    values = [distances(i, j) for i, j in draws]
    return np.stack([np.mean(values, axis=0), np.std(values, axis=0)])

  def of_mass(i, j):
    return metrics.wasserstein_1d(golden["true_mass"][i], golden["generated_mass"][j])

  def of_particles(i, j):
    u, v = x[i][a[i]], y[j][b[j]]
    return [metrics.wasserstein_1d(u[:, f], v[:, f]) for f in range(3)]

  np.testing.assert_allclose(drawn(of_mass), golden["w1_mass"], rtol=1e-6)
  np.testing.assert_allclose(drawn(of_particles), golden["w1_particles"], rtol=1e-6)


def test_physics_distances(golden):
  sides = features(golden, "true"), features(golden, "generated")
  seed = int(golden["seed"])
  value, error = metrics.fpd(
    *sides,
    min_samples=int(golden["fpd_min"]),
    max_samples=int(golden["fpd_max"]),
    batches=int(golden["fpd_batches"]),
    points=int(golden["fpd_points"]),
    seed=seed,
  )
  assert value == pytest.approx(golden["fpd"][0], rel=1e-6)
  assert error == pytest.approx(golden["fpd"][1], rel=1e-4)  # of a numerical covariance
  kernel = metrics.kpd(
    *sides, batches=int(golden["kpd_batches"]), batch_size=int(golden["kpd_size"]), seed=seed
  )
  np.testing.assert_allclose(kernel, golden["kpd"], rtol=1e-6)


def test_features_that_are_not_finite_are_undefined(golden):
  sides = golden["true_efps"].copy(), golden["generated_efps"]
  sides[0][0, 0] = np.inf
  with pytest.raises(metrics.UndefinedMetric, match="not finite"):
    metrics.kpd(*sides, batch_size=10)


def test_draws_without_replacement_leave_no_bias_of_the_pool():
  size = 300
  pools = np.random.default_rng(0).normal(1, 0.3, size=(60, 2, size, 4))

  def mean(distance, replace, **sizes):
    values = [distance(x, y, replace=replace, **sizes)[0] for x, y in pools]
    return np.mean(values), np.std(values) / np.sqrt(len(values))

  batch = {"batch_size": size // 2}
  value, error = mean(metrics.kpd, False, **batch)
  biased, its_error = mean(metrics.kpd, True, **batch)
  assert abs(value) < 3 * error and biased > 5 * its_error
  samples = {"min_samples": size // 2, "max_samples": size, "batches": 5}
  value, _ = mean(metrics.fpd, False, **samples)
  biased, _ = mean(metrics.fpd, True, **samples)
  assert value < biased / 3
  with pytest.raises(ValueError):
    metrics.kpd(*pools[0], batch_size=size + 1, replace=False)
