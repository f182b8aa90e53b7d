"""Laws of cross entropy, regression errors, the KL term and its warm-up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm import objectives

cross_entropy = jax.jit(objectives.cross_entropy, static_argnames="smoothing")
gaussian_kl = jax.jit(objectives.gaussian_kl)
ratio = jax.jit(objectives.ratio)
regression_error = jax.jit(objectives.regression_error, static_argnames=("kind", "delta"))
warm_up = jax.jit(objectives.warm_up, static_argnames="steps")
weighted_mean = jax.jit(objectives.weighted_mean)
weighted_sum = jax.jit(objectives.weighted_sum)
with_free_bits = jax.jit(objectives.with_free_bits, static_argnames="free")

K = 5
RNG = np.random.default_rng(2)
LOGITS = RNG.normal(size=(7, K))
LABEL = RNG.integers(0, K, 7)


def test_cross_entropy_without_smoothing_is_minus_log_probability(x64):
  p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
  np.testing.assert_allclose(
    cross_entropy(LOGITS, LABEL), -np.log(p[np.arange(7), LABEL]), rtol=1e-13
  )


def test_full_smoothing_forgets_the_label(x64):
  np.testing.assert_allclose(
    cross_entropy(LOGITS, LABEL, 1.0), cross_entropy(LOGITS, (LABEL + 1) % K, 1.0), rtol=1e-14
  )
  np.testing.assert_allclose(cross_entropy(np.zeros((1, K)), [0], 1.0), np.log(K), rtol=1e-14)


@pytest.mark.parametrize("smoothing", [0.05, 0.1, 0.5])
def test_minimum_is_the_smoothed_label_and_its_entropy(x64, smoothing):
  q = np.full((7, K), smoothing / K)
  q[np.arange(7), LABEL] += 1 - smoothing
  entropy = -(q * np.log(q)).sum(axis=-1)
  np.testing.assert_allclose(cross_entropy(np.log(q), LABEL, smoothing), entropy, rtol=1e-13)
  slope = jax.jit(jax.grad(lambda x: cross_entropy(x, LABEL, smoothing).sum()))(np.log(q))
  np.testing.assert_allclose(slope, 0, atol=1e-14)
  assert (np.asarray(cross_entropy(LOGITS, LABEL, smoothing)) > entropy).all()


def test_cross_entropy_of_extreme_logits_is_finite():
  value_and_grad = jax.jit(jax.value_and_grad(lambda x: cross_entropy(x, np.array([1])).sum()))
  loss, slope = value_and_grad(np.array([[1e4, -1e4, 0.0]]))
  assert float(loss) == 2e4
  assert np.isfinite(slope).all()


def test_event_without_label_costs_nothing():
  label = np.array([-1, 2])
  loss, slope = jax.vjp(lambda x: cross_entropy(x, label, 0.1), LOGITS[:2].astype(np.float32))
  first, second = np.asarray(loss)
  assert first == 0 and second > 0
  assert not np.asarray(slope(np.ones(2, np.float32))[0])[0].any()


def test_cross_entropy_refuses_impossible_smoothing():
  with pytest.raises(ValueError, match="label smoothing is"):
    cross_entropy(LOGITS, LABEL, 1.5)


def test_huber_is_mse_inside_and_mae_outside(x64):
  r = np.linspace(-3, 3, 61)
  huber = np.asarray(regression_error(r, 0 * r, "huber", 1.2))
  inside = abs(r) <= 1.2
  np.testing.assert_allclose(huber[inside], 0.5 * r[inside] ** 2, rtol=1e-13, atol=1e-15)
  np.testing.assert_allclose(huber[~inside], 1.2 * (abs(r[~inside]) - 0.6), rtol=1e-13)


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_regression_error_is_least_at_the_target(kind):
  assert not np.asarray(regression_error(LOGITS, LOGITS, kind)).any()
  assert (np.asarray(regression_error(LOGITS + 0.1, LOGITS, kind)) > 0).all()


@pytest.mark.parametrize("wrong", [{"kind": "mes"}, {"kind": "huber", "delta": 0.0}])
def test_regression_error_refuses_nonsense(wrong):
  with pytest.raises(ValueError, match=r"mse|positive"):
    regression_error(LOGITS, LOGITS, **wrong)


def test_kl_is_zero_only_for_the_prior(x64):
  assert not np.asarray(gaussian_kl(np.zeros(3), np.zeros(3))).any()
  mean, log_variance = RNG.normal(size=(2, 100))
  assert (np.asarray(gaussian_kl(mean, log_variance)) > 0).all()


def test_kl_equals_its_integral(x64):
  mean, variance = 0.7, 0.4
  x = np.linspace(-12, 12, 200001)
  log_q = -((x - mean) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)
  log_p = -(x**2) / 2 - 0.5 * np.log(2 * np.pi)
  integral = np.trapezoid(np.exp(log_q) * (log_q - log_p), x)
  assert float(gaussian_kl(mean, np.log(variance))) == pytest.approx(integral, rel=1e-9)


def test_free_bits_stop_the_pull_of_cheap_dimensions(x64):
  kl = np.array([0.05, 0.3])
  assert float(with_free_bits(kl, 0.1)) == pytest.approx(0.4)
  assert float(with_free_bits(kl, 0.0)) == pytest.approx(float(kl.sum()))
  np.testing.assert_array_equal(jax.grad(lambda x: with_free_bits(x, 0.1))(kl), [0.0, 1.0])


def test_warm_up_rises_linearly_and_stays():
  np.testing.assert_allclose(
    [warm_up(step, 100) for step in (0, 25, 100, 1000)], [0.0, 0.25, 1.0, 1.0]
  )
  assert float(warm_up(0, 0)) == 1


def test_averages_ignore_filler_bit_for_bit():
  values, count, weight = RNG.normal(size=(3, 6)).astype(np.float32)
  filler = np.full(2, np.nan, np.float32)
  for function in (
    weighted_sum,
    lambda v, w: weighted_mean(v, np.append(count, filler)[: len(v)], w),
  ):
    with_filler = function(np.append(values, filler), np.append(weight, np.zeros(2, np.float32)))
    assert float(with_filler) == float(function(values, weight))
  assert float(ratio(0.0, 0.0)) == 0


def test_sums_of_half_precision_are_made_in_single():
  values = jnp.full(4096, 1.0, jnp.bfloat16)
  assert float(weighted_sum(values, np.ones(4096))) == 4096
