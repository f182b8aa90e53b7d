"""The layers between two attentions as kernels: every implementation is the reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.kernels.token_layers import (
  BlockDropout,
  ResidualWeights,
  normalised_linear,
  residual_mlp,
)
from jetfm.nn.linear import folded
from tests.kernels.conftest import KERNELS
from tests.kernels.test_lowering import kernels_in

SHAPES = [((1, 1, 16), 16), ((2, 5, 20), 40), ((3, 17, 64), 200), ((1, 20, 128), 512)]
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2}


def numbers(rng, dtype="float64"):
  return lambda *shape: (rng.normal(size=shape) / np.sqrt(shape[0])).astype(dtype)


def residual_weights(draw, width, hidden):
  return ResidualWeights(
    draw(width, width), *(draw(width) for _ in range(3)), draw(width, hidden), draw(hidden),
    draw(hidden, width), draw(width), draw(width),
  )  # fmt: skip


def assert_close(got, want, dtype):
  assert got.dtype == dtype and got.shape == want.shape
  scale = np.abs(want).max()
  np.testing.assert_allclose(
    np.asarray(got, np.float64), want, rtol=0, atol=TOLERANCE[dtype] * scale
  )


@pytest.fixture(params=[name for name in KERNELS if name != "tpu"])
def kernel_name(request):
  if request.param == "triton" and request.node.callspec.params.get("dtype") == "float64":
    pytest.skip("a GPU kernel is for float32 and less")
  return request.param


@functools.partial(jax.jit, static_argnames="implementation")
def layers(x, mixed, kernel, bias, weights, implementation):
  """Parts of a linear layer without GELU and with it, and the rest of a block."""
  plain, gelu = (
    normalised_linear(x, kernel, bias, parts=3, gelu=flag, implementation=implementation)
    for flag in (False, True)
  )
  return *plain, *gelu, residual_mlp(x, mixed, weights, implementation=implementation)


@pytest.mark.parametrize(
  "shape, hidden, dtype",
  [
    # Every shape and every type in the quick part, and all pairs of them beside it.
    pytest.param(*of, dtype, marks=pytest.mark.slow if i not in (0, 3) and j else ())
    for i, of in enumerate(SHAPES)
    for j, dtype in enumerate(TOLERANCE)
  ],
)
def test_kernels_are_the_reference(x64, shape, hidden, dtype, kernel_name):
  draw = numbers(np.random.default_rng(len(shape) + hidden))
  x, mixed = (draw(*shape) * 3 + 1 for _ in range(2))
  kernel, bias = draw(shape[-1], 3 * hidden), draw(3 * hidden)
  weights = residual_weights(draw, shape[-1], hidden)
  x, mixed, kernel, bias, weights = jax.tree.map(
    lambda a: a.astype(dtype).astype("float64"), (x, mixed, kernel, bias, weights)
  )
  want = layers(x, mixed, kernel, bias, weights, "xla")
  got = layers(x.astype(dtype), mixed.astype(dtype), kernel, bias, weights, kernel_name)
  for y, z in zip(got, want, strict=True):
    assert_close(y, z, dtype)


DROPOUT = BlockDropout(0.3, jax.random.bits(jax.random.key(1), (3, 2), jnp.uint32))


def linear_loss(implementation, **options):
  """A number that depends on every part in its own way."""

  def loss(x, kernel, bias):
    parts = normalised_linear(x, kernel, bias, parts=2, implementation=implementation, **options)
    return sum(jnp.sum(jnp.sin((i + 1) * y.astype(bias.dtype))) for i, y in enumerate(parts))

  return loss


def residual_loss(implementation, dropout=None):
  def loss(x, mixed, weights):
    y = residual_mlp(x, mixed, weights, dropout=dropout, implementation=implementation)
    return jnp.sum(jnp.sin(y.astype(weights.out.dtype)))

  return loss


@pytest.mark.parametrize(
  "dtype, shape, hidden",
  [
    ("float64", (2, 5, 20), 40),
    ("bfloat16", (3, 70, 16), 50),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        ("bfloat16", (30, 75, 24), 50),  # in larger tiles
        ("float64", (3, 70, 16), 50),
        ("float32", (3, 70, 16), 50),
      )
    ),
  ],
)
def test_gradients_are_those_of_the_reference(x64, dtype, shape, hidden, kernel_name):
  """Of tokens in some precision; parameters keep theirs."""
  draw = numbers(np.random.default_rng(hidden))
  x, mixed = ((draw(*shape) * 3 + 1).astype(dtype).astype("float64") for _ in range(2))
  low = x.astype(dtype)
  kernel, bias = draw(shape[-1], 2 * hidden), draw(2 * hidden)
  weights = residual_weights(draw, shape[-1], hidden)
  precise = jnp.promote_types(dtype, "float32")
  lower = jax.tree.map(lambda w: w.astype(precise), (kernel, bias, weights))
  cases = [
    (linear_loss("xla"), linear_loss(kernel_name), (x, kernel, bias), (low, *lower[:2])),
    (
      residual_loss("xla", DROPOUT),
      residual_loss(kernel_name, DROPOUT),
      (x, mixed, weights),
      (low, mixed.astype(dtype), lower[2]),
    ),
  ]
  for plain, by_kernel, precisely, given in cases:
    want, got = (
      jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arrays))
      for loss, arrays in ((plain, precisely), (by_kernel, given))
    )
    for y, z, argument in zip(got, want, jax.tree.leaves(given), strict=True):
      assert y.dtype == argument.dtype and y.shape == z.shape
      error = np.abs(np.asarray(y, np.float64) - np.asarray(z)).max()
      assert error <= 2 * TOLERANCE[dtype] * np.abs(z).max()


def test_gradients_of_an_embedding(x64):
  draw = numbers(np.random.default_rng(3))
  arrays = draw(4, 7, 12), draw(12, 8), draw(8)
  got, want = (
    jax.jit(jax.grad(linear_loss(name, gelu=True), argnums=(0, 1, 2)))(*arrays)
    for name in ("interpret", "xla")
  )
  jax.tree.map(lambda y, z: np.testing.assert_allclose(y, z, rtol=1e-10, atol=1e-12), got, want)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint", "vmap"])
def test_transformations(x64, name):
  draw = numbers(np.random.default_rng(4))
  x, mixed, weights = draw(3, 2, 5, 16), draw(3, 2, 5, 16), residual_weights(draw, 16, 24)

  def run(implementation):
    loss = residual_loss(implementation, DROPOUT)
    if name == "checkpoint":
      gradient = jax.grad(jax.checkpoint(loss), argnums=(0, 1, 2))
      return jax.jit(gradient)(x[0], mixed[0], weights)
    each = jax.vmap(jax.grad(loss, argnums=(0, 1, 2)), in_axes=(0, 0, None))
    return jax.jit(each)(x, mixed, weights)

  got, want = run("interpret"), run("xla")
  jax.tree.map(lambda y, z: np.testing.assert_allclose(y, z, rtol=1e-9, atol=1e-12), got, want)


rest_of_block = jax.jit(residual_mlp, static_argnames="implementation")


def test_any_number_of_axes_and_no_event_at_all():
  draw = numbers(np.random.default_rng(5), "float32")
  weights = residual_weights(draw, 16, 24)
  (none,) = normalised_linear(np.zeros((0, 3, 16), np.float32), weights.out, weights.out_bias)
  assert none.shape == (0, 3, 16)
  for shape in ((16,), (3, 16), (2, 3, 16), (2, 1, 3, 16), (0, 3, 16)):
    x = draw(*shape) if 0 not in shape else np.zeros(shape, np.float32)
    y, z = (rest_of_block(x, x, weights, implementation=name) for name in ("interpret", "xla"))
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)


def test_a_token_is_on_its_own():
  draw = numbers(np.random.default_rng(0), "float32")
  x, mixed, weights = draw(1, 37, 16), draw(1, 37, 16), residual_weights(draw, 16, 48)
  order = np.random.default_rng(1).permutation(37)
  made = rest_of_block(x, mixed, weights, implementation="interpret")
  moved = rest_of_block(x[:, order], mixed[:, order], weights, implementation="interpret")
  np.testing.assert_array_equal(moved, np.asarray(made)[:, order])


def test_a_folded_norm_is_the_norm(x64):
  draw = numbers(np.random.default_rng(2))
  x, kernel, bias, scale, shift = draw(7, 12), draw(12, 8), draw(8), draw(12), draw(12)
  (got,) = jax.jit(lambda *norm: normalised_linear(x, *folded(*norm)))(kernel, bias, scale, shift)
  unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(got, (unit * scale + shift) @ kernel + bias, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("width, hidden", [(128, 512), (96, 100)])
def test_lowers_for_a_gpu(width, hidden, dtype):
  def both(x, weights):
    y = residual_mlp(x, x, weights, implementation="triton")
    options = {"parts": 2, "implementation": "triton"}
    return normalised_linear(y, weights.mlp_in, weights.mlp_in_bias, **options)

  draw = numbers(np.random.default_rng(0), dtype)
  assert kernels_in("cuda", both, draw(1, 50, width), residual_weights(draw, width, hidden)) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_gradients_lower_for_a_gpu(dtype):
  def loss(x, weights, words):
    parts = normalised_linear(
      x, weights.mlp_in, weights.mlp_in_bias, parts=4, dtype=dtype, implementation="triton"
    )
    dropout = BlockDropout(0.1, words)
    y = residual_mlp(x, parts[0], weights, dropout=dropout, implementation="triton")
    return y.astype(jnp.float32).sum()

  draw = numbers(np.random.default_rng(0), "float32")
  x = jax.ShapeDtypeStruct((40, 100, 128), dtype)
  weights, words = residual_weights(draw, 128, 512), DROPOUT.words
  gradient = jax.value_and_grad(loss, argnums=(0, 1))
  assert kernels_in("cuda", gradient, x, weights, words) == 2 + 3


def test_wrong_input_is_refused():
  draw = numbers(np.random.default_rng(0), "float32")
  x, weights = draw(2, 3, 8), residual_weights(draw, 8, 16)
  with pytest.raises(ValueError, match=r"kernel \(9, 6\)"):
    normalised_linear(x, draw(9, 6), draw(6))
  with pytest.raises(ValueError, match="4 parts"):
    normalised_linear(x, draw(8, 6), draw(6), parts=4)
  with pytest.raises(ValueError, match=r"mixed has shape \(2, 3, 4\)"):
    residual_mlp(x, x[..., :4], weights)
  with pytest.raises(ValueError, match=r"mlp_in_bias has shape \(15,\), expected \(16,\)"):
    residual_mlp(x, x, weights._replace(mlp_in_bias=draw(15)))
  with pytest.raises(ValueError, match="nearest is 'triton'"):
    residual_mlp(x, x, weights, implementation="tritn")
  with pytest.raises(NotImplementedError, match="NVIDIA GPUs"):
    residual_mlp(x, x, weights, implementation="triton")
  with pytest.raises(NotImplementedError, match="widths up to 512, got 513"):
    normalised_linear(draw(2, 513), draw(513, 4), draw(4), implementation="interpret")
  with pytest.raises(NotImplementedError, match="widths up to 128, got 129"):
    residual_mlp(
      draw(2, 129), draw(2, 129), residual_weights(draw, 129, 8), implementation="interpret"
    )
