"""The layers between two attentions as kernels: every implementation is the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.kernels.token_layers import ResidualWeights, normalised_linear, residual_mlp
from jetfm.nn.linear import folded
from tests.kernels.conftest import KERNELS
from tests.kernels.test_lowering import kernels_in

SHAPES = [((1, 1, 16), 16), ((2, 5, 20), 40), ((3, 17, 64), 200), ((1, 20, 128), 512)]
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2}


def numbers(rng, dtype="float64"):
  return lambda *shape: jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[0]), dtype)


def residual_weights(draw, width, hidden):
  return ResidualWeights(
    draw(width, width), *(draw(width) for _ in range(3)), draw(width, hidden), draw(hidden),
    draw(hidden, width), draw(width), draw(width),
  )  # fmt: skip


def assert_close(got, want, dtype):
  assert got.dtype == dtype and got.shape == want.shape
  scale = float(jnp.abs(want).max())
  np.testing.assert_allclose(
    np.asarray(got, np.float64), want, rtol=0, atol=TOLERANCE[dtype] * scale
  )


@pytest.mark.parametrize("kernel_name", [name for name in KERNELS if name != "tpu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape, hidden", SHAPES)
def test_kernels_are_the_reference(x64, shape, hidden, dtype, kernel_name):
  if kernel_name == "triton" and dtype == "float64":
    pytest.skip("a GPU kernel is for float32 and less")
  draw = numbers(np.random.default_rng(len(shape) + hidden))
  x, mixed = (jnp.asarray(draw(*shape) * 3 + 1) for _ in range(2))
  kernel, bias = draw(shape[-1], 3 * hidden), draw(3 * hidden)
  weights = residual_weights(draw, shape[-1], hidden)
  x, mixed, kernel, bias, weights = jax.tree.map(
    lambda a: a.astype(dtype).astype("float64"), (x, mixed, kernel, bias, weights)
  )
  low, option = x.astype(dtype), {"implementation": kernel_name}
  for gelu in (False, True):
    want = normalised_linear(x, kernel, bias, parts=3, gelu=gelu)
    for y, z in zip(
      normalised_linear(low, kernel, bias, parts=3, gelu=gelu, **option), want, strict=True
    ):
      assert_close(y, z, dtype)
  want = residual_mlp(x, mixed, weights)
  assert_close(residual_mlp(low, mixed.astype(dtype), weights, **option), want, dtype)


def test_a_token_is_on_its_own():
  draw = numbers(np.random.default_rng(0), "float32")
  x, mixed, weights = draw(1, 37, 16), draw(1, 37, 16), residual_weights(draw, 16, 48)
  order = np.random.default_rng(1).permutation(37)
  made = residual_mlp(x, mixed, weights, implementation="interpret")
  moved = residual_mlp(x[:, order], mixed[:, order], weights, implementation="interpret")
  np.testing.assert_array_equal(moved, made[:, order])


def test_a_folded_norm_is_the_norm(x64):
  draw = numbers(np.random.default_rng(2))
  x, kernel, bias, scale, shift = draw(7, 12), draw(12, 8), draw(8), draw(12), draw(12)
  (got,) = normalised_linear(x, *folded(kernel, bias, scale, shift))
  unit = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
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
