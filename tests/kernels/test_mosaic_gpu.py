"""Attention by Mosaic GPU keeps the contract too: in half precision, and slowly without a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.kernels import pair_attention
from jetfm.kernels.pair_attention import reference
from tests.kernels.conftest import assert_close
from tests.kernels.test_pair_attention import SIZES, TOLERANCES, with_gradients

TOLERANCE = TOLERANCES["bfloat16"]
QUICK = {(17, 8)}  # less than a tile; attention between sets has several


def arrays_of(n, width, heads=2, dtype="bfloat16"):
  rng = np.random.default_rng(n)
  shapes = [(3, n, heads, width)] * 3 + [(3, heads, n, n)]
  return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def two_layers(name, n, width):
  """Two layers that share a bias; the reference in float64."""

  def run(*arrays):
    q, k, v, bias, lengths = arrays
    if name != "reference":
      options = {"lengths": lengths, "implementation": name}
      x, bias = pair_attention(q, k, v, bias, share_bias=True, **options)
      return pair_attention(x, k, v, bias, **options)
    mask = jnp.arange(n) < lengths[:, None]
    x = reference.pair_attention(q, k, v, bias, mask, mask, width**-0.5)
    return reference.pair_attention(x, k, v, bias, mask, mask, width**-0.5)

  return run


@pytest.mark.parametrize(
  "n, width",
  [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in [*((n, 16) for n in SIZES), (17, 8), (48, 20), (70, 64)]
  ],
)
def test_equals_the_reference_in_float64(x64, mosaic_gpu, n, width):
  """Results and all gradients, with that of a shared bias added up in place."""
  # With more than two tiles of keys each head costs the interpreter seconds.
  arrays = arrays_of(n, width, heads=2 if n <= 100 else 1)
  lengths = np.array([0, n, (n + 2) // 3], np.int32)
  got = with_gradients(arrays, lengths, two_layers(mosaic_gpu, n, width))
  assert all(x.dtype == "bfloat16" for x in jax.tree.leaves(got))
  wide = [x.astype(np.float64) for x in arrays]
  assert_close(got, with_gradients(wide, lengths, two_layers("reference", n, width)), TOLERANCE)


@pytest.mark.slow
def test_nothing_leaks_out_of_padding_and_results_repeat(x64, mosaic_gpu):
  n, width = 20, 8
  arrays = arrays_of(n, width, heads=1)
  lengths = np.array([0, 3, 17], np.int32)
  mask = np.arange(n) < lengths[:, None]
  flags = (*[mask[:, :, None, None]] * 3, mask[:, None, :, None] & mask[:, None, None, :])
  nan = np.array(np.nan, arrays[0].dtype)
  garbage = [np.where(flag, x, nan) for x, flag in zip(arrays, flags, strict=True)]
  run = two_layers(mosaic_gpu, n, width)
  got, again = (with_gradients(x, lengths, run) for x in (garbage, arrays))
  jax.tree.map(np.testing.assert_array_equal, got, again)
  out, gradients = jax.tree.map(np.asarray, got)
  np.testing.assert_array_equal(out[~mask], 0)
  for gradient, flag in zip(gradients, flags, strict=True):
    assert not gradient[~np.broadcast_to(flag, gradient.shape)].any()


def test_attention_between_sets_and_without_bias(mosaic_gpu):
  """N != M, a mask with holes, no bias, float16."""
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(2, n, 3, 8)).astype("float16") for n in (5, 70, 70))
  mask = rng.random((2, 70)) < 0.5

  def run(name, *arrays):
    def loss(q, k, v):
      out = pair_attention(q, k, v, mask=mask, implementation=name)
      return jnp.sum(jnp.sin(out.astype(jnp.float32))), out

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*arrays)

  wanted = run("xla", *(x.astype(np.float32) for x in (q, k, v)))
  assert_close(run(mosaic_gpu, q, k, v), wanted, TOLERANCE)


def test_what_it_cannot_do_is_said(mosaic_gpu):
  q, k, v, bias = arrays_of(6, 8, dtype="float32")
  with pytest.raises(NotImplementedError, match=r"takes bfloat16, float16, got float32"):
    pair_attention(q, k, v, bias, implementation=mosaic_gpu)
  half = (x.astype("bfloat16") for x in (q, k, v))
  with pytest.raises(NotImplementedError, match=r"takes bfloat16, float16, got float32"):
    pair_attention(*half, bias, implementation=mosaic_gpu)
