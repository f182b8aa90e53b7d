"""Norms whose parts a linear layer takes, and dropout from a hash."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.kernels.dropout import dropped, places, scrambled
from jetfm.nn.linear import Linear
from jetfm.nn.norms import LayerNorm, normalise

B, N, D, WIDTH = 3, 5, 8, 6


def arrays(seed=0):
  rng = np.random.default_rng(seed)
  norm = {"params": {"scale": rng.normal(size=D), "bias": rng.normal(size=D)}}
  linear = {"params": {"kernel": rng.normal(size=(D, WIDTH)), "bias": rng.normal(size=WIDTH)}}
  return rng.normal(size=(B, N, D)) + 0.5, norm, linear


def test_a_linear_layer_takes_a_norm_in_parts(x64):
  """The same function and the same gradients as of the applied norm."""

  def run(in_parts, x, norm, linear):
    y = Linear(WIDTH).apply(linear, LayerNorm(in_parts=in_parts).apply(norm, x))
    return jnp.sum(jnp.sin(y)), y

  results = [
    jax.jit(jax.value_and_grad(run, argnums=(1, 2, 3), has_aux=True), static_argnums=0)(
      flag, *arrays()
    )
    for flag in (True, False)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), *results)


def test_a_norm_of_an_event_is_applied_before_the_layer(x64):
  x, norm, linear = arrays()
  rng = np.random.default_rng(1)
  condition = rng.normal(size=(B, 2))
  weights = {"kernel": rng.normal(size=(2, 2 * D)), "bias": rng.normal(size=2 * D)}
  norm = {"params": {**norm["params"], "condition": weights}}

  @functools.partial(jax.jit, static_argnums=0)
  def run(in_parts, x):
    return Linear(WIDTH).apply(linear, LayerNorm(in_parts=in_parts).apply(norm, x, condition))

  parts, applied = run(True, x), run(False, x)
  np.testing.assert_allclose(parts, applied, rtol=1e-12)


def test_the_gradient_of_normalise_is_that_of_its_definition(x64):
  x, *_ = arrays()

  def definition(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)

  mine, theirs = (
    jax.jit(jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x)))))(x)
    for f in (lambda x: normalise(x, 1e-5, x.dtype), definition)
  )
  np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_what_goes_before_a_norm_is_part_of_it(x64):
  x, norm, _ = arrays()

  def run(x, inside):
    arguments = {"before": jnp.tanh} if inside else {}
    y = LayerNorm().apply(norm, x if inside else jnp.tanh(x), **arguments)
    return jnp.sum(jnp.sin(y))

  both = jax.jit(jax.value_and_grad(run), static_argnums=1)
  one, other = both(x, True), both(x, False)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, other)


@pytest.mark.parametrize("shape", [(400, 500), (200_001,), (7, 30, 1000)])
def test_hashed_numbers_are_uniform_and_independent(shape):
  """Of neighbours in every direction, and of two keys."""
  words = jax.random.bits(jax.random.key(0), (2, 2), jnp.uint32)
  numbers = jax.jit(lambda word: scrambled(places(shape), *word))
  one, other = (np.asarray(numbers(w)) / 2.0**32 for w in words)
  error = one.size**-0.5
  pairs = [(one, other)]
  for axis in range(one.ndim):
    first, second = np.arange(one.shape[axis] - 1), np.arange(1, one.shape[axis])
    pairs.append((one.take(first, axis), one.take(second, axis)))
  for x, y in pairs:
    # 12 times a product of centred uniforms has variance one.
    assert abs(12 * np.mean((x - 0.5) * (y - 0.5))) < 5 * x.size**-0.5
  counts = np.histogram(one, bins=16, range=(0, 1))[0] / one.size
  assert np.abs(counts - 1 / 16).max() < 5 * error / 4


def test_dropped_elements_are_as_many_as_the_rate_says():
  words = jax.random.bits(jax.random.key(1), (2,), jnp.uint32)
  x = np.full((100, 1000), 3.0, np.float32)
  y = np.asarray(jax.jit(dropped, static_argnums=1)(x, 0.1, words))
  np.testing.assert_allclose(y[y != 0], 3 / (1 - 0.1), rtol=1e-6)
  assert abs((y == 0).mean() - 0.1) < 5 * (0.1 * 0.9 / x.size) ** 0.5
  np.testing.assert_array_equal(dropped(x, 0.1, None), x)
