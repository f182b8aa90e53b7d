"""Attention with a pair bias: every implementation keeps the contract of its docstring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.kernels import pair_attention
from jetfm.kernels.pair_attention.api import IMPLEMENTATIONS

B, N, H, K = 4, 6, 2, 3
LENGTHS = np.array([6, 4, 1, 0])
MASK = np.arange(N) < LENGTHS[:, None]


@pytest.fixture(params=["xla", "xla_chunked", "interpret"])
def implementation(request):
  return request.param


def inputs(dtype, seed=0):
  """q, k, v (B, N, H, K) and bias (B, H, N, N)."""
  rng = np.random.default_rng(seed)
  shapes = [(B, N, H, K)] * 3 + [(B, H, N, N)]
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def by_definition(q, k, v, bias):
  """The formula of the contract, event by event and without any padding, in float64."""
  out = np.zeros((B, N, H, K))
  q, k, v, bias = (np.asarray(x, np.float64) for x in (q, k, v, bias))
  for b, length in enumerate(LENGTHS):
    for h in range(H):
      scores = q[b, :, h] @ k[b, :length, h].T / np.sqrt(K) + bias[b, h, :, :length]
      weights = np.exp(scores)
      if length:
        out[b, :, h] = weights @ v[b, :length, h] / weights.sum(axis=-1, keepdims=True)
  return out


def test_equals_the_definition(x64, implementation):
  arrays = inputs(jnp.float64)
  ours = pair_attention(*arrays, MASK, implementation=implementation)
  np.testing.assert_allclose(ours, by_definition(*arrays), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("bfloat16", 3e-2)])
def test_lower_precision_is_close(implementation, dtype, tolerance):
  arrays = inputs(dtype)
  ours = pair_attention(*arrays, MASK, implementation=implementation)
  assert ours.dtype == dtype
  np.testing.assert_allclose(np.asarray(ours, float), by_definition(*arrays), atol=tolerance)


def test_softmax_ignores_a_common_shift_of_the_bias(implementation):
  q, k, v, bias = inputs(jnp.float32)
  ours = pair_attention(q, k, v, bias, MASK, implementation=implementation)
  shifted = pair_attention(q, k, v, bias + 300.0, MASK, implementation=implementation)
  np.testing.assert_allclose(shifted, ours, atol=1e-4)


def test_padding_changes_no_bit_of_outputs_and_gradients(implementation):
  q, k, v, bias = inputs(jnp.float32)
  token, pair = MASK[:, :, None, None], MASK[:, None, None, :]
  garbage = jnp.where(token, k, 1e4), jnp.where(token, v, -1e4), jnp.where(pair, bias, 1e4)

  def loss(k, v, bias):
    out = pair_attention(q, k, v, bias, MASK, implementation=implementation)
    return jnp.sum(out**2), out

  run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
  jax.tree.map(np.testing.assert_array_equal, run(*garbage), run(k, v, bias))


def test_an_empty_event_gives_zeros_and_finite_gradients(implementation):
  def loss(*arrays):
    out = pair_attention(*arrays, MASK, implementation=implementation)
    return jnp.sum(jnp.sin(out)), out

  gradients, out = jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(*inputs(jnp.float32))
  np.testing.assert_array_equal(out[LENGTHS == 0], 0)
  assert np.abs(out[LENGTHS > 0]).min() > 0
  for gradient in gradients:
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_array_equal(gradient[LENGTHS == 0], 0)


def test_gradients_are_the_derivatives(x64, implementation):
  arrays = inputs(jnp.float64)
  direction = inputs(jnp.float64, seed=1)

  def loss(step):
    moved = [x + step * d for x, d in zip(arrays, direction, strict=True)]
    return jnp.sum(jnp.sin(pair_attention(*moved, MASK, implementation=implementation)))

  numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5
  np.testing.assert_allclose(jax.grad(loss)(0.0), numeric, rtol=1e-8)


def test_unknown_implementation_names_the_known_ones():
  with pytest.raises(ValueError, match=r"'xlaa'.*'xla'"):
    pair_attention(*inputs(jnp.float32), MASK, implementation="xlaa")


def test_wrong_shapes_say_what_was_expected():
  q, k, v, bias = inputs(jnp.float32)
  with pytest.raises(ValueError, match=r"bias has shape .* expected \(4, 2, 6, 6\)"):
    pair_attention(q, k, v, bias[:, :1], MASK)
  with pytest.raises(ValueError, match="mask has shape"):
    pair_attention(q, k, v, bias, MASK[:, :-1])
