"""Dropout: its rate, its scale, its randomness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.nn import Dropout


@functools.partial(jax.jit, static_argnums=0)
def survivors(rate, x, key):
  return Dropout(rate).apply({}, x, deterministic=False, rngs={"dropout": key})


def dropped(rate, shape, seed=0, dtype=np.float32):
  return np.asarray(survivors(rate, np.ones(shape, dtype), jax.random.key(seed)))


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("width", [512, 33])
def test_rate_and_mean_are_kept(rate, width):
  """The share of zeros lies within five standard deviations of the rate; survivors make up."""
  y = dropped(rate, (64, 100, width))
  assert abs((y == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / y.size)
  np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2e-4)


def test_neighbours_and_keys_are_independent():
  """Two elements that share a random word are dropped together no more often than any two."""
  rate, shape = 0.3, (1000, 512)
  first, second = (dropped(rate, shape, seed) == 0 for seed in (0, 1))
  tolerance = 5 * rate / np.sqrt(first.size / 2)
  assert abs((first[:, ::2] & first[:, 1::2]).mean() - rate**2) < tolerance
  assert abs((first & second).mean() - rate**2) < tolerance
  np.testing.assert_array_equal(first, dropped(rate, shape) == 0)


def test_gradient_flows_through_survivors_only():
  x = np.arange(1.0, 65.0, dtype=np.float32).reshape(2, 32)

  def kept(x):
    return survivors(0.5, x, jax.random.key(3))

  gradient = jax.jit(jax.grad(lambda x: kept(x).sum()))
  np.testing.assert_array_equal(gradient(x), np.asarray(kept(x)) / x)


def test_nothing_is_dropped_when_deterministic_or_at_rate_zero():
  x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
  np.testing.assert_array_equal(Dropout(0.5).apply({}, x, deterministic=True), x)
  np.testing.assert_array_equal(Dropout(0.0).apply({}, x, deterministic=False), x)
  assert dropped(0.5, (2, 3), dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rate(rate):
  with pytest.raises(ValueError, match="dropout rate"):
    Dropout(rate).apply({}, jnp.ones(3))
