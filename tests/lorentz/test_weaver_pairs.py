"""`part` pair features equal those of weaver-core (tests/golden/make_weaver_pairs.py).

Where float32 resolves them: below, m2 and dR stand still, and weaver-core's follow the rounding.
"""

import pathlib

import numpy as np
import pytest

from jetfm.lorentz.pairs import DR_RESOLUTION, M2_RESOLUTION
from tests.compiled import lorentz

EPS32 = np.finfo(np.float32).eps
EPS64 = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def golden():
  with np.load(pathlib.Path(__file__).parents[1] / "golden" / "weaver_pairs.npz") as arrays:
    return dict(arrays)


def resolved(features, p4):
  """ln kT, ln z, ln dR, ln m2 (B, N, N, 4) -> the same with dR and m2 not below their limits."""
  p4 = p4.astype(np.float64)
  pt = np.hypot(p4[..., 1], p4[..., 2])
  momentum = p4[:, :, None, 1:] + p4[:, None, :, 1:]
  ln_z, ln_dr, ln_m2 = np.moveaxis(features[..., 1:].astype(np.float64), -1, 0)
  ln_dr = np.maximum(ln_dr, np.log(DR_RESOLUTION))
  ln_kt = np.log(np.maximum(np.minimum(pt[:, :, None], pt[:, None, :]) * np.exp(ln_dr), 1e-8))
  ln_m2 = np.maximum(ln_m2, np.log(M2_RESOLUTION * (momentum**2).sum(axis=-1)))
  return np.stack([ln_kt, ln_z, ln_dr, ln_m2], axis=-1)


def check(found, golden, eps):
  """Up to rounding: angles to 8 eps, so ln dR to 8 eps / dR; m^2 to 8 eps E^2."""
  exact = resolved(golden["pairs_float64"], golden["p4"])
  same = exact == golden["pairs_float64"]
  assert (same[..., 2:].mean(axis=(0, 1, 2)) > 0.5).all()  # both kinds of pairs are in the file
  assert (same[..., 2:].mean(axis=(0, 1, 2)) < 1).all()
  found = np.asarray(found, np.float64)
  apart = golden["pairs_float64"][..., 2] > np.log(1e-8)
  assert 0.5 < apart.mean() < 1
  np.testing.assert_allclose(found[~apart][:, :3], exact[~apart][:, :3], rtol=8 * eps)
  angle = 8 * eps / np.exp(exact[..., 2]) + 8 * eps * np.abs(exact[..., 2])
  for k, name in enumerate(lorentz.PAIR_FEATURES["part"][:3]):
    error = np.abs(found[..., k] - exact[..., k])
    assert (error <= angle + 8 * eps * np.abs(exact[..., k])).all(), name
  energy = golden["p4"][:, :, None, 0] + golden["p4"][:, None, :, 0]
  error = np.abs(np.exp(found[..., 3]) - np.exp(exact[..., 3]))
  assert (error <= 8 * eps * energy.astype(np.float64) ** 2).all()


def test_equal_in_float64(x64, golden):
  p4 = golden["p4"].astype(np.float64)
  features = lorentz.pair_features(p4)
  assert features.dtype == np.float64
  check(features, golden, EPS64)
  exact = resolved(golden["pairs_float64"], golden["p4"])
  np.testing.assert_allclose(features[..., :3], exact[..., :3], atol=1e-10)


def test_as_close_as_float32_allows(golden):
  """The bound is that of float32 itself: weaver-core's own float32 results just keep it."""
  check(resolved(golden["pairs_float32"], golden["p4"]), golden, EPS32)
  features = lorentz.pair_features(golden["p4"])
  assert features.dtype == np.float32
  check(features, golden, EPS32)
