"""Attention with a pair bias: every implementation keeps the contract of its docstring."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.kernels import pair_attention
from jetfm.kernels.pair_attention import chunked, reference
from jetfm.kernels.pair_attention.api import IMPLEMENTATIONS
from tests.kernels.conftest import assert_close

B, N, H, K = 4, 6, 2, 8
LENGTHS = np.array([6, 4, 1, 0])
MASK = np.arange(N) < LENGTHS[:, None]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
  monkeypatch.setattr(chunked, "SCORES", 3 * H * N * N)  # three events, then one


def inputs(dtype, seed=0):
  """q, k, v (B, N, H, K) and bias (B, H, N, N)."""
  rng = np.random.default_rng(seed)
  shapes = [(B, N, H, K)] * 3 + [(B, H, N, N)]
  return [rng.normal(size=shape).astype(dtype) for shape in shapes]


attention = jax.jit(pair_attention, static_argnames="implementation")


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


def test_equals_the_definition(x64, every_implementation):
  arrays = inputs(jnp.float64)
  ours = attention(*arrays, MASK, implementation=every_implementation)
  np.testing.assert_allclose(ours, by_definition(*arrays), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("bfloat16", 3e-2)])
def test_lower_precision_is_close(implementation, dtype, tolerance):
  arrays = inputs(dtype)
  ours = attention(*arrays, MASK, implementation=implementation)
  assert ours.dtype == dtype
  np.testing.assert_allclose(np.asarray(ours, float), by_definition(*arrays), atol=tolerance)


def test_softmax_ignores_a_common_shift_of_the_bias(implementation):
  q, k, v, bias = inputs(jnp.float32)
  ours = attention(q, k, v, bias, MASK, implementation=implementation)
  shifted = attention(q, k, v, bias + 300.0, MASK, implementation=implementation)
  np.testing.assert_allclose(shifted, ours, atol=1e-4)


def test_padding_changes_no_bit_of_outputs_and_gradients(implementation):
  q, k, v, bias = inputs(jnp.float32)
  token, pair = MASK[:, :, None, None], MASK[:, None, None, :]
  garbage = np.where(token, k, 1e4), np.where(token, v, -1e4), np.where(pair, bias, 1e4)

  def loss(k, v, bias):
    out = pair_attention(q, k, v, bias, MASK, implementation=implementation)
    return jnp.sum(out**2), out

  run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
  jax.tree.map(np.testing.assert_array_equal, run(*garbage), run(k, v, bias))


def test_an_empty_event_gives_zeros_and_finite_gradients(every_implementation):
  def loss(*arrays):
    out = pair_attention(*arrays, MASK, implementation=every_implementation)
    return jnp.sum(jnp.sin(out)), out

  run = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
  gradients, out = jax.tree.map(np.asarray, run(*inputs(jnp.float32)))
  np.testing.assert_array_equal(out[LENGTHS == 0], 0)
  assert np.abs(out[LENGTHS > 0]).min() > 0
  for gradient in gradients:
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_array_equal(gradient[LENGTHS == 0], 0)


def test_gradients_are_the_derivatives(x64, implementation):
  arrays = inputs(jnp.float64)
  direction = inputs(jnp.float64, seed=1)

  @jax.jit
  @jax.value_and_grad
  def loss(step):
    moved = [x + step * d for x, d in zip(arrays, direction, strict=True)]
    return jnp.sum(jnp.sin(pair_attention(*moved, MASK, implementation=implementation)))

  (above, _), (below, _), (_, slope) = map(loss, (1e-5, -1e-5, 0.0))
  np.testing.assert_allclose(slope, (float(above) - float(below)) / 2e-5, rtol=1e-8)


def test_not_even_nan_leaks_out_of_padding(every_implementation):
  """With lengths, nothing of a slot without a particle is looked at, and its result is 0."""
  arrays = inputs(jnp.float32)
  flags = (*[MASK[:, :, None, None]] * 3, MASK[:, None, :, None] & MASK[:, None, None, :])
  garbage = [np.where(flag, x, np.nan) for x, flag in zip(arrays, flags, strict=True)]

  def loss(*arrays):
    out = pair_attention(*arrays, lengths=LENGTHS, implementation=every_implementation)
    return jnp.sum(jnp.where(MASK[..., None, None], out, 0) ** 2), out

  run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
  jax.tree.map(np.testing.assert_array_equal, run(*garbage), run(*arrays))
  (_, out), gradients = jax.tree.map(np.asarray, run(*garbage))
  np.testing.assert_array_equal(out[~MASK], 0)
  for gradient, flag in zip(gradients, flags, strict=True):
    np.testing.assert_array_equal(np.where(flag, 0, gradient), 0)


def test_permuted_particles_give_permuted_results(implementation):
  q, k, v, bias = inputs(jnp.float32)
  order = np.random.default_rng(3).permutation(N)
  out = np.asarray(attention(q, k, v, bias, MASK, implementation=implementation))
  permuted = attention(
    *(x[:, order] for x in (q, k, v)),
    bias[:, :, order][..., order],
    MASK[:, order],  # with holes
    implementation=implementation,
  )
  np.testing.assert_allclose(permuted, out[:, order], atol=2e-6)


@functools.partial(jax.jit, static_argnames="run")
def with_gradients(arrays, lengths, run):
  """Result of `run` and gradients of all arguments, for a random cotangent."""
  cotangent = np.random.default_rng(2).normal(size=arrays[0].shape)

  def loss(*arrays):
    out = run(*arrays, lengths)
    return jnp.sum(out.astype(jnp.float64) * cotangent), out

  (_, out), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(*arrays)
  return out, gradients


def by_reference(q, k, v, bias, lengths):
  *_, n, _, width = q.shape
  mask = jnp.arange(n) < lengths[:, None]
  return reference.pair_attention(q, k, v, bias, mask, mask, width**-0.5)


SIZES = [1, 16, 17, 31, 100, 128, 200, 256]
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2}
QUICK = {("float64", n) for n in (1, 128)} | {("float32", 100), ("bfloat16", 100)}
CASES = [
  pytest.param(dtype, n, marks=() if (dtype, n) in QUICK else pytest.mark.slow)
  for dtype in TOLERANCES
  for n in SIZES
]


@pytest.mark.parametrize("dtype, n", CASES)
def test_kernels_equal_the_reference_in_float64(x64, kernel, dtype, n):
  """Results and all gradients, for an empty event, a full one and one in between."""
  if kernel == "triton" and dtype == "float64":
    pytest.skip("a GPU kernel is for float32 and less")
  heads, width = 2, 8 if n % 2 else 20
  rng = np.random.default_rng(n)
  shapes = [(3, n, heads, width)] * 3 + [(3, heads, n, n)]
  arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
  lengths = np.array([0, n, rng.integers(1, n + 1)], np.int32)

  def ours(*arrays):
    *arrays, lengths = arrays
    return pair_attention(*arrays, lengths=lengths, implementation=kernel)

  wide = [x.astype(np.float64) for x in arrays]
  got = with_gradients(arrays, lengths, ours)
  assert all(x.dtype == dtype for x in jax.tree.leaves(got))
  assert_close(got, with_gradients(wide, lengths, by_reference), TOLERANCES[dtype])


def test_attention_between_sets_and_without_bias(x64, kernel):
  """N != M, a mask with holes, no bias."""
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(2, n, 3, 8)) for n in (5, 40, 40))
  mask = rng.random((2, 40)) < 0.5

  def run(name):
    def loss(q, k, v):
      return jnp.sum(jnp.sin(pair_attention(q, k, v, mask=mask, implementation=name)))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(q, k, v)

  assert_close(run(kernel), run("xla"), 1e-12)


def test_widest_heads(kernel):
  """One head, as wide as the implementation takes."""
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, 2, 9, 1, IMPLEMENTATIONS[kernel].width)).astype(np.float32)
  bias = rng.normal(size=(2, 1, 9, 9)).astype(np.float32)
  with jax.default_matmul_precision("highest"):  # on a GPU, XLA's own products have fewer bits
    ours, plain = (attention(q, k, v, bias, implementation=x) for x in (kernel, "xla"))
  np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


def deep(q, k, v, bias, name, layers=8, share=True):
  """Attention again and again, with one bias; returns a number."""
  x = q
  for _ in range(layers):
    if share:
      x, bias = pair_attention(x, k, v, bias, lengths=LENGTHS, share_bias=True, implementation=name)
    else:
      x = pair_attention(x, k, v, bias, lengths=LENGTHS, implementation=name)
  return jnp.sum(jnp.sin(x))


@functools.partial(jax.jit, static_argnames=("name", "share"))
def deep_gradients(arrays, name, share):
  return jax.grad(lambda arrays: deep(*arrays, name, share=share))(arrays)


def test_shared_bias_gradient_is_the_sum_over_layers(x64, every_implementation):
  arrays = inputs(jnp.float64)
  shared = deep_gradients(arrays, every_implementation, share=True)
  assert_close(shared, deep_gradients(arrays, "xla", share=False), 1e-12)


def test_shared_bias_of_layers_with_other_masks_and_of_a_penalty(x64, every_implementation):
  """What a layer does not look at, of the gradient of those behind it, stays as it is."""
  arrays = inputs(jnp.float64)

  @functools.partial(jax.jit, static_argnums=1)
  def gradients(arrays, name):
    def loss(q, k, v, bias):
      x, bias = pair_attention(
        q, k, v, bias, lengths=LENGTHS // 2, share_bias=True, implementation=name
      )
      x = pair_attention(x, k, v, bias, lengths=LENGTHS, implementation=name)
      return jnp.sum(jnp.sin(x)) + jnp.sum(bias**2)

    return jax.grad(loss, argnums=(0, 1, 2, 3))(*arrays)

  assert_close(gradients(arrays, every_implementation), gradients(arrays, "xla"), 1e-12)


@pytest.mark.slow
def test_transformations(kernel):
  """jit, vmap, checkpoint and shard_map change nothing, and results repeat bit by bit."""
  arrays = inputs(jnp.float32)

  def loss(q, k, v, bias, lengths=LENGTHS):
    out = pair_attention(q, k, v, bias, lengths=lengths, implementation=kernel)
    return jnp.sum(jnp.sin(out))

  gradient = jax.grad(loss, argnums=(0, 1, 2, 3))
  plain = jax.jit(gradient)(*arrays)
  jax.tree.map(np.testing.assert_array_equal, jax.jit(gradient)(*arrays), plain)
  assert_close(gradient(*arrays), plain, 1e-6)
  again = jax.jit(jax.grad(jax.checkpoint(loss), argnums=(0, 1, 2, 3)))
  assert_close(again(*arrays), plain, 1e-6)

  events = [x[:, None] for x in (*arrays, jnp.asarray(LENGTHS))]
  each = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1, 2, 3))))(*events)
  assert_close([x[:, 0] for x in each], plain, 1e-6)

  mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.sharding.PartitionSpec("data")
  mapped = jax.shard_map(
    jax.grad(loss, argnums=(0, 1, 2, 3)),
    mesh=mesh,
    in_specs=split,
    out_specs=split,
    check_vma=False,  # Pallas' interpreters do not keep track of it
  )
  assert_close(jax.jit(mapped)(*arrays, jnp.asarray(LENGTHS)), plain, 1e-6)


def test_unknown_implementation_names_the_known_ones():
  with pytest.raises(ValueError, match=r"'xlaa'.*'xla'"):
    pair_attention(*inputs(jnp.float32), MASK, implementation="xlaa")


def test_wrong_shapes_say_what_was_expected():
  q, k, v, bias = inputs(jnp.float32)
  with pytest.raises(ValueError, match=r"bias has shape .* expected \(4, 2, 6, 6\)"):
    pair_attention(q, k, v, bias[:, :1], MASK)
  with pytest.raises(ValueError, match="mask has shape"):
    pair_attention(q, k, v, bias, MASK[:, :-1])


def test_what_an_implementation_cannot_do_is_said(x64):
  q, k, v, bias = inputs(jnp.float32)
  with pytest.raises(NotImplementedError, match=r"'triton' runs on NVIDIA GPUs.*for 'cpu'"):
    pair_attention(q, k, v, bias, MASK, implementation="triton")
  many = jnp.zeros((1, 600, 1, 8), jnp.float32)
  with pytest.raises(NotImplementedError, match="takes up to 512 particles, got 600"):
    pair_attention(many, many, many, implementation="interpret")
  wide = jnp.zeros((1, 40, 1, 72), jnp.float32)
  with pytest.raises(NotImplementedError, match="widths up to 64, got 72"):
    pair_attention(wide, wide, wide, implementation="interpret")
  with pytest.raises(NotImplementedError, match=r"takes bfloat16.* got float64"):
    pair_attention(*inputs(jnp.float64), MASK, implementation="triton")
  # None takes one that can.
  assert pair_attention(many, many, many).shape == many.shape


def test_lengths_that_do_not_fit_are_errors():
  q, k, v, bias = inputs(jnp.float32)
  with pytest.raises(ValueError, match=r"disagree: event 1 has length 2, .* in slot 2"):
    pair_attention(q, k, v, bias, MASK, lengths=np.array([6, 2, 1, 0]))
  with pytest.raises(ValueError, match=r"lengths\[0\] is 7, expected 0 to N = 6"):
    pair_attention(q, k, v, bias, lengths=np.array([7, 2, 1, 0]))
  with pytest.raises(ValueError, match="beside lengths"):
    pair_attention(q, k[:, :4], v[:, :4], lengths=LENGTHS)
