"""Densities: they integrate to one, sampling follows them, and nothing makes them NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy import stats

from jetfm.objectives import (
  Angle,
  Categorical,
  GaussianMixture,
  HybridLikelihood,
  UnitGaussian,
  ZeroInflatedLogNormal,
  likelihood_of,
)
from jetfm.schema import Feature, Schema, Transform

DENSITIES = {
  "mse": UnitGaussian(),
  "cosine": Angle(),
  "mixture": GaussianMixture(3),
  "zero_inflated": ZeroInflatedLogNormal(),
  "categorical": Categorical((-1.0, 0.0, 1.0)),
}
EACH = pytest.mark.parametrize("name", DENSITIES)
EXTREMES = (0.0, 1e-6, 1e-3, 1.0, 1e3, 1e6)


NLL, MEAN, SAMPLE = (
  {name: jax.jit(getattr(density, method)) for name, density in DENSITIES.items()}
  for method in ("nll", "mean", "sample")
)


def raw_of(name, seed=0, shape=()):
  return np.random.default_rng(seed).normal(size=(*shape, DENSITIES[name].parameters))


def support(name):
  """Grid, and the measure of each of its points."""
  if name == "categorical":
    return np.array([-1.0, 0.0, 1.0]), np.ones(3)
  if name == "zero_inflated":
    log = np.linspace(-50, 50, 200_001)
    return np.append(0, np.exp(log)), np.append(1, np.exp(log) * (log[1] - log[0]))
  edge = np.pi if name == "cosine" else 60
  x = np.linspace(-edge, edge, 200_001)[:-1]
  return x, np.full(len(x), x[1] - x[0])


def density(name, raw, x):
  return np.exp(-np.asarray(NLL[name](np.broadcast_to(raw, (len(x), len(raw))), x)))


@EACH
@pytest.mark.parametrize("seed", range(3))
def test_integrates_to_one(x64, name, seed):
  x, measure = support(name)
  assert (density(name, raw_of(name, seed), x) * measure).sum() == pytest.approx(1, abs=1e-4)


@EACH
def test_mean_is_the_integral(x64, name):
  if name == "cosine":
    pytest.skip("the mean of an angle is a direction")
  raw, (x, measure) = raw_of(name, 4), support(name)
  expected = (density(name, raw, x) * measure * x).sum()
  assert float(MEAN[name](raw)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@EACH
def test_samples_follow_the_density(x64, name):
  raw, (x, measure) = raw_of(name, 7), support(name)
  rows = np.broadcast_to(raw, (4000, len(raw)))
  draws = np.asarray(SAMPLE[name](jax.random.key(3), rows))
  assert draws.shape == (4000,)
  below = np.cumsum(density(name, raw, x) * measure)

  def cumulative(values):
    return np.clip(np.append(0, below)[np.searchsorted(x, values, side="right")], 0, 1)

  if name in ("categorical", "zero_inflated"):  # what is discrete is compared as such
    share, own = (draws == x[0]).mean(), below[0]
    assert abs(share - own) < 4 * np.sqrt(own * (1 - own) / len(draws))
    assert set(np.unique(draws)) <= set(x) or name == "zero_inflated"
    draws = draws[draws > 0] if name == "zero_inflated" else np.array([])
    below = (below - below[0]) / (below[-1] - below[0])
  if len(draws):
    assert stats.kstest(draws, cumulative).pvalue > 0.01


@EACH
def test_gradient_is_the_finite_difference(x64, name):
  raw = raw_of(name, 1, (6,))
  values = np.array([0.0, 0.3, 1.0, 2.5, 0.0, 0.8])
  total = jax.jit(lambda r: DENSITIES[name].nll(r, values).sum())
  check_grads(total, (raw,), 1, ["rev"], rtol=1e-6)


@EACH
@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
def test_extreme_numbers_give_finite_losses_and_gradients(name, dtype):
  """Values over twelve orders of magnitude, raw numbers over seven."""
  values = np.array(EXTREMES, np.float32)
  values = values if name == "zero_inflated" else np.append(values, -values)
  size = np.array([0.0, 1.0, -30.0, 30.0, 1e3, -1e3], np.float32)
  raw = size[:, None, None] * np.sign(raw_of(name, 2, (1, len(values))))

  @jax.jit
  def value_and_grad(raw):
    nll, back = jax.vjp(lambda r: DENSITIES[name].nll(r, values), raw)
    return nll, back(jnp.ones_like(nll))[0], DENSITIES[name].mean(raw)

  nll, gradient, mean = value_and_grad(jnp.asarray(raw, dtype))
  assert nll.dtype == jnp.float32 and gradient.dtype == dtype
  for x in (nll, gradient, mean):
    assert np.isfinite(np.asarray(x, np.float32)).all()


@pytest.mark.parametrize("values", (np.zeros(64), np.ones(64), np.linspace(0, 2, 64)))
def test_batches_of_zeros_alone_and_without_zeros(values):
  """The mass at zero is fitted to what there is, and its logit does not run away to NaN."""
  raw = fit(ZeroInflatedLogNormal(), values)
  assert np.isfinite(raw).all()
  share = 1 / (1 + np.exp(-raw[0]))
  assert share == pytest.approx((values == 0).mean(), abs=0.1)


def fit(density, values, steps=300, seed=0):
  """Raw numbers that describe a sample."""
  optimizer = optax.adam(0.1)
  raw = np.random.default_rng(seed).normal(size=density.parameters).astype(np.float32)
  values = values.astype(np.float32)

  def loss(raw):
    return density.nll(jnp.broadcast_to(raw, (len(values), len(raw))), values).mean()

  def step(carry, _):
    raw, state = carry
    updates, state = optimizer.update(jax.grad(loss)(raw), state)
    return (optax.apply_updates(raw, updates), state), None

  @jax.jit
  def fitted(raw):
    return jax.lax.scan(step, (raw, optimizer.init(raw)), None, steps)[0][0]

  return np.asarray(fitted(raw))


def test_a_mixture_separates_two_peaks_that_squared_errors_cannot():
  """A barrel seen along one axis, such as emc_x: two peaks and nothing between them."""
  rng = np.random.default_rng(0)
  values = rng.choice([-1.0, 1.0], 512) + rng.normal(0, 0.1, 512)
  single, several = UnitGaussian(), GaussianMixture(2)
  centre = float(single.mean(fit(single, values)))
  assert np.abs(values - centre).min() > 0.3  # the one number is where there is no data
  raw = fit(several, values)
  left, middle, right = jax.jit(several.nll)(np.tile(raw, (3, 1)), np.float32([-1, 0, 1])).tolist()
  assert left < middle - 5 and right < middle - 5
  draws = jax.jit(several.sample)(jax.random.key(0), np.broadcast_to(raw, (2000, 6)))
  assert stats.ks_2samp(np.asarray(draws), values).pvalue > 0.001


def test_likelihoods_come_from_the_schema():
  features = (
    Feature("energy", transforms=(Transform("log1p"), Transform("zscore")), mean=1.0, std=2.0),
    Feature("x", likelihood="gaussian_mixture", transforms=(Transform("affine", (1.0, 0.5)),)),
    Feature("vr0", likelihood="zero_inflated_lognormal", transforms=(Transform("log1p"),)),
    Feature("q", transforms=(Transform("categorical", (-1.0, 1.0)),), likelihood="categorical"),
  )
  hybrid = HybridLikelihood(Schema("some", features), components=2)
  assert hybrid.parameters == 1 + 6 + 3 + 2
  raw = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
  values = np.abs(np.random.default_rng(1).normal(size=(5, 4))).astype(np.float32)
  mean, std = np.array([1.0, 0, 0, 0], np.float32), np.array([2.0, 1, 1, 1], np.float32)
  nll = np.asarray(jax.jit(hybrid.nll)(raw, values, mean, std))
  assert nll.shape == (5, 4)
  # Each column is the density of its own numbers on its own scale.
  own = (raw[:, :1], raw[:, 1:7], raw[:, 7:10], raw[:, 10:])
  log_energy = (np.log1p(values[:, 0]) - 1) / 2
  scale = (log_energy, (values[:, 1] - 1) / 2, values[:, 2], values[:, 3])
  for i, feature in enumerate(features):
    expected = jax.jit(likelihood_of(feature, 2).nll)(own[i], scale[i])
    np.testing.assert_allclose(nll[:, i], expected, rtol=1e-5)
  drawn = jax.eval_shape(hybrid.sample, jax.random.key(0), raw, mean, std)
  assert drawn.shape == (5, 4)
  errors = np.asarray(jax.jit(hybrid.errors)(raw, values, mean, std))
  np.testing.assert_array_equal(errors[:, 3], (raw[:, 10] > raw[:, 11]).astype(np.float32))
  np.testing.assert_allclose(errors[:, 0], (raw[:, 0] - scale[0]) ** 2, rtol=1e-3, atol=1e-5)


def test_categories_and_likelihood_need_each_other():
  with pytest.raises(ValueError, match="need each other"):
    likelihood_of(Feature("q", likelihood="categorical"))
  with pytest.raises(ValueError, match="need each other"):
    likelihood_of(Feature("q", transforms=(Transform("categorical", (-1.0, 1.0)),)))
