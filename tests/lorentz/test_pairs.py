"""Features of pairs of particles."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from jetfm import lorentz as eager
from jetfm.lorentz.pairs import DR_RESOLUTION, M2_RESOLUTION
from tests.compiled import lorentz

KINDS = tuple(lorentz.PAIR_FEATURES)


@pytest.fixture(params=KINDS)
def kind(request):
  return request.param


def column(features, kind, name):
  return np.asarray(features)[..., lorentz.PAIR_FEATURES[kind].index(name)]


def real_pairs(mask):
  """Pairs of two different particles."""
  return mask[:, :, None] & mask[:, None, :] & ~np.eye(mask.shape[1], dtype=bool)


def test_features_are_their_definitions(x64, jets):
  p4, mask = jets(0)
  pairs = real_pairs(mask)
  pt, p = np.hypot(p4[..., 1], p4[..., 2]), np.maximum(np.linalg.norm(p4[..., 1:], axis=-1), 1e-30)
  with np.errstate(divide="ignore", invalid="ignore"):
    y = 0.5 * np.log((p4[..., 0] + p4[..., 3]) / (p4[..., 0] - p4[..., 3]))
    eta = np.arcsinh(p4[..., 3] / pt)
  phi = np.arctan2(p4[..., 2], p4[..., 1])

  def minus(x):
    return (x[:, :, None] - x[:, None, :])[pairs]

  def both(x, f):
    return f(x[:, :, None], x[:, None, :])[pairs]

  d_phi = np.angle(np.exp(1j * minus(phi)))
  dr = np.hypot(minus(y), d_phi)
  total = (p4[:, :, None] + p4[:, None, :])[pairs]
  m2 = total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(-1)
  expected = {
    "ln_kt": np.log(both(pt, np.minimum) * dr),
    "ln_z": np.log(both(pt, np.minimum) / both(pt, np.add)),
    "ln_dr": np.log(dr),
    "ln_m2": np.log(m2),
    "d_eta": minus(eta),
    "d_phi": d_phi,
    "dr": np.hypot(minus(eta), d_phi),
    "ln_ptpt": np.log(both(pt, np.multiply)),
    "m": np.sqrt(m2),
    "ln_pp": np.log(both(p, np.multiply)),
    "cos_angle": np.einsum("bix,bjx->bij", *2 * [p4[..., 1:] / p[..., None]])[pairs],
  }
  for kind, names in lorentz.PAIR_FEATURES.items():
    features = lorentz.pair_features(p4, kind)
    assert features.shape == (*mask.shape, mask.shape[1], len(names))
    for name in names:
      found = column(features, kind, name)[pairs]
      np.testing.assert_allclose(found, expected[name], atol=1e-8, err_msg=name)


def test_exchange_of_the_particles(x64, jets, kind):
  """Symmetric, except that the signed differences change sign."""
  features = np.asarray(lorentz.pair_features(jets(1)[0], kind))
  signs = [-1 if name in ("d_eta", "d_phi") else 1 for name in lorentz.PAIR_FEATURES[kind]]
  np.testing.assert_array_equal(features.swapaxes(1, 2), signs * features)


@pytest.mark.parametrize("angle, rapidity", [(1.0, 0.0), (0.0, 1.3), (-2.5, -0.8)])
def test_invariant_about_and_along_the_beam(x64, jets, kind, angle, rapidity):
  """Differences of pseudorapidity are boost invariant only without mass."""
  if kind == "event" and rapidity:
    pytest.skip("angles and momenta of e+e- events change with the frame")
  p4, mask = jets(2, massless=kind == "lorentz_part")
  matrix = lorentz.rotation([0, 0, 1], angle) @ lorentz.boost(rapidity, [0, 0, 1])
  before = np.asarray(lorentz.pair_features(p4, kind))
  after = np.asarray(lorentz.pair_features(lorentz.transform_vectors(matrix, p4), kind))
  pairs = real_pairs(mask)
  for k, name in enumerate(lorentz.PAIR_FEATURES[kind]):
    atol = 1e-8 if name in ("ln_m2", "m") else 1e-10  # m^2 is known to about eps E^2 / m^2
    np.testing.assert_allclose(after[pairs][:, k], before[pairs][:, k], atol=atol, err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_pair_mass_is_invariant(x64, jets, seed):
  p4, mask = jets(seed)
  p4 = p4 / p4[..., 0].max()
  matrix = lorentz.random_lorentz(jax.random.key(seed), 1.0, reflections=seed % 2 == 1)
  pairs = real_pairs(mask)
  before = column(lorentz.pair_features(p4), "part", "ln_m2")[pairs]
  after = column(lorentz.pair_features(lorentz.transform_vectors(matrix, p4)), "part", "ln_m2")[
    pairs
  ]
  np.testing.assert_allclose(np.exp(after), np.exp(before), atol=1e-12)


def test_arguments_are_clamped(kind):
  """Parallel massless particles are as far apart as float32 resolves, padding gives ln 1e-8."""
  p4 = np.array([[0.0, 0, 0, 0], [5, 3, 4, 0], [5, 3, 4, 0]], np.float32)
  floor, m2 = np.log(1e-8), M2_RESOLUTION * 10**2
  collinear = {"ln_z": np.log(0.5), "ln_ptpt": np.log(25), "d_eta": 0, "d_phi": 0, "dr": 0}
  collinear |= {"cos_angle": 1, "ln_pp": np.log(25), "m": np.sqrt(m2), "ln_m2": np.log(m2)}
  collinear |= {"ln_dr": np.log(DR_RESOLUTION), "ln_kt": np.log(5 * DR_RESOLUTION)}
  padded = {"d_eta": 0, "d_phi": 0, "dr": 0, "cos_angle": 0, "m": 0}
  padded["ln_dr"] = np.log(DR_RESOLUTION)
  features = np.asarray(lorentz.pair_features(p4, kind))
  for name in lorentz.PAIR_FEATURES[kind]:
    found = column(features, kind, name)
    np.testing.assert_allclose(found[1, 2], collinear[name], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(found[0, 0], padded.get(name, floor), rtol=1e-6, err_msg=name)


def test_gradients_are_finite_at_the_edges(edge_momenta, kind):
  p4 = np.concatenate([edge_momenta, edge_momenta])  # every particle has a collinear twin

  def total(p4):
    return lorentz.pair_features(p4, kind).sum()

  value, gradient = jax.jit(jax.value_and_grad(total))(p4)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_gradients_are_the_derivatives(x64, smooth_momenta, kind):
  @jax.jit
  def off_diagonal(p4):
    return lorentz.pair_features(p4, kind)[np.triu_indices(len(p4), 1)]

  check_grads(off_diagonal, (smooth_momenta,), order=1, modes=["rev"], rtol=1e-6)


def test_a_tile_is_a_part_of_the_whole(jets, kind):
  """Two broadcast sets of particles give the block of pairs that they span."""
  p4, _ = jets(4, num_jets=1)
  # Not in one program, where the roundings of sums of products depend on the shape.
  whole = np.asarray(eager.pair_features(p4[0], kind))
  i = eager.pair_momenta(p4[0, 2:5, None], kind)
  j = eager.pair_momenta(p4[0, None, 5:], kind)
  tile = np.stack(eager.pairwise_features(i, j, kind), axis=-1)
  np.testing.assert_array_equal(tile, whole[2:5, 5:])


def test_float32_agrees_with_float64(jets, kind):
  p4, mask = jets(5, num_jets=20)
  p4 = p4.astype(np.float32)
  single = np.asarray(lorentz.pair_features(p4, kind))
  assert single.dtype == np.float32
  with jax.enable_x64(True):
    double = np.asarray(lorentz.pair_features(p4.astype(np.float64), kind))
  pairs = real_pairs(mask)
  # Angles are known to about 1e-6, masses squared to a few roundings of the energy squared.
  energy = (p4[:, :, None, 0] + p4[:, None, :, 0])[pairs].astype(np.float64)
  for name in lorentz.PAIR_FEATURES[kind]:
    found, exact = column(single, kind, name)[pairs], column(double, kind, name)[pairs]
    slack = 1e-6 + 1e-6 * np.abs(exact)
    if name in ("ln_dr", "ln_kt"):
      slack = slack + 1e-6 / np.exp(column(double, kind, "ln_dr")[pairs])
    elif name in ("ln_m2", "m"):
      found, exact = found.astype(np.float64), exact.astype(np.float64)
      found, exact = (np.exp(x) if name == "ln_m2" else x**2 for x in (found, exact))
      slack = 4 * np.finfo(np.float32).eps * energy**2
    assert (np.abs(found - exact) <= slack).all(), name


@pytest.mark.parametrize("seed", range(3))
def test_the_rounding_of_momenta_moves_no_feature_far(jets, kind, seed):
  """Massless particles, pairs of them parallel: m2 and dR there are nothing but rounding."""
  p4, mask = jets(seed, num_jets=20, massless=True)
  p4[:, 1::2] = p4[:, ::2] * np.linspace(0.3, 3, p4.shape[1] // 2)[:, None]
  half_a_unit = np.random.default_rng(seed).uniform(-0.5, 0.5, p4.shape) * np.finfo(np.float32).eps
  moved = p4 * (1 + half_a_unit)
  before, after = (
    np.asarray(lorentz.pair_features(x.astype(np.float32), kind)) for x in (p4, moved)
  )
  change = np.abs(after - before)[mask[:, :, None] & mask[:, None, :]]
  assert change.max() < 0.5


def test_unknown_kind_names_the_nearest(jets):
  with pytest.raises(ValueError, match="'parts'; the nearest is 'part'"):
    lorentz.pair_features(jets(0)[0], "parts")
