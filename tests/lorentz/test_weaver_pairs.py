"""`part` pair features equal those of weaver-core (tests/golden/make_weaver_pairs.py)."""

import pathlib

import numpy as np
import pytest

from tests.compiled import lorentz

EPS32 = np.finfo(np.float32).eps
EPS64 = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def golden():
  with np.load(pathlib.Path(__file__).parents[1] / "golden" / "weaver_pairs.npz") as arrays:
    return dict(arrays)


def check(found, golden, eps):
  """Up to rounding: angles to 8 eps, so ln dR to 8 eps / dR; m^2 to 8 eps E^2."""
  exact = golden["pairs_float64"]
  found = np.asarray(found, np.float64)
  apart = exact[..., 2] > np.log(1e-8)
  assert 0.5 < apart.mean() < 1  # both kinds of pairs are in the file
  np.testing.assert_allclose(found[~apart][:, :3], exact[~apart][:, :3], rtol=8 * eps)
  angle = 8 * eps / np.exp(exact[apart][:, 2]) + 8 * eps * np.abs(exact[apart][:, 2])
  for k, name in enumerate(lorentz.PAIR_FEATURES["part"][:3]):
    error = np.abs(found[apart][:, k] - exact[apart][:, k])
    assert (error <= angle + 8 * eps * np.abs(exact[apart][:, k])).all(), name
  energy = golden["p4"][:, :, None, 0] + golden["p4"][:, None, :, 0]
  error = np.abs(np.exp(found[..., 3]) - np.exp(exact[..., 3]))
  assert (error <= 8 * eps * energy.astype(np.float64) ** 2).all()


def test_equal_in_float64(x64, golden):
  p4 = golden["p4"].astype(np.float64)
  features = lorentz.pair_features(p4)
  assert features.dtype == np.float64
  check(features, golden, EPS64)
  np.testing.assert_allclose(features[..., :3], golden["pairs_float64"][..., :3], atol=1e-10)


def test_as_close_as_float32_allows(golden):
  """The bound is that of float32 itself: weaver-core's own float32 results just keep it."""
  check(golden["pairs_float32"], golden, EPS32)
  features = lorentz.pair_features(golden["p4"])
  assert features.dtype == np.float32
  check(features, golden, EPS32)
