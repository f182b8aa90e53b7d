"""Implementations that this machine can run, and how close two results are."""

import jax
import numpy as np
import pytest

from jetfm.kernels.pair_attention import api as attention_api
from jetfm.kernels.pair_bias import api as bias_api

PLAIN = ["xla", "xla_chunked"]
KERNELS = ["interpret", "tpu"]
if jax.default_backend() == "gpu":  # 'interpret' is the same kernel
  KERNELS.append("triton")


def prepared(request, monkeypatch):
  """The name of an implementation, made to run here: kernels for a TPU in Pallas' interpreter."""
  name = request.param
  if name == "triton" and "x64" in request.fixturenames and "dtype" not in request.fixturenames:
    pytest.skip("a GPU kernel is for float32 and less")
  if name == "tpu" and jax.default_backend() != "tpu":
    for table in (attention_api.IMPLEMENTATIONS, bias_api.IMPLEMENTATIONS):
      anywhere = table["tpu"]._replace(platform=None, dtypes=None, options={"interpret": True})
      monkeypatch.setitem(table, "tpu", anywhere)
  return name


@pytest.fixture
def mosaic_gpu(monkeypatch):
  """The name of that implementation, made to run here: in Pallas' interpreter without a GPU."""
  if jax.default_backend() != "gpu":
    table = attention_api.IMPLEMENTATIONS
    anywhere = table["mosaic_gpu"]._replace(platform=None, devices=(), options={"interpret": True})
    monkeypatch.setitem(table, "mosaic_gpu", anywhere)
  return "mosaic_gpu"


@pytest.fixture(params=[*PLAIN, "interpret"])
def implementation(request, monkeypatch):
  return prepared(request, monkeypatch)


@pytest.fixture(params=[*PLAIN, *KERNELS])
def every_implementation(request, monkeypatch):
  return prepared(request, monkeypatch)


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
  return prepared(request, monkeypatch)


def assert_close(got, wanted, tolerance):
  """Every array within `tolerance` of the greatest number of what was wanted, and of one."""
  for ours, true in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    ours, true = (np.asarray(x).astype(np.float64) for x in (ours, true))
    assert ours.shape == true.shape
    if true.size:
      assert np.abs(ours - true).max() <= tolerance * max(np.abs(true).max(), 1.0)
