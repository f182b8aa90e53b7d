"""Coordinates, masses and derived features of particles."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.compiled import lorentz

SCALARS = (
  lorentz.transverse_momentum,
  lorentz.azimuth,
  lorentz.pseudorapidity,
  lorentz.rapidity,
  lorentz.mass_squared,
  lorentz.mass,
)
JET_FUNCTIONS = {
  "features": lambda p4, mask: lorentz.particle_features(
    tuple(lorentz.PARTICLE_FEATURES), p4, mask
  ),
  "jet": lorentz.jet_momentum,
  "mass": lorentz.constituent_mass,
  "seed_mass": lorentz.seed_mass,
  "frame": lorentz.to_jet_frame,
}


def name_of(f):
  return f.__name__


@pytest.mark.parametrize("seed", range(3))
def test_coordinates_round_trip(x64, jets, seed):
  p4, _ = jets(seed)
  back = lorentz.from_pt_eta_phi_e(lorentz.to_pt_eta_phi_e(p4))
  np.testing.assert_allclose(back, p4, rtol=1e-12, atol=1e-12)


def test_coordinates_are_the_textbook_ones(x64):
  pt, eta, phi, m = 30.0, -1.7, 2.9, 4.0
  pz = pt * np.sinh(eta)
  energy = np.sqrt(m**2 + pt**2 + pz**2)
  p4 = np.array([energy, pt * np.cos(phi), pt * np.sin(phi), pz])
  np.testing.assert_allclose(lorentz.to_pt_eta_phi_e(p4), [pt, eta, phi, energy], rtol=1e-13)
  np.testing.assert_allclose(lorentz.mass(p4), m, rtol=1e-12)
  y = 0.5 * np.log((energy + pz) / (energy - pz))
  np.testing.assert_allclose(lorentz.rapidity(p4), y, rtol=1e-13)


def test_rapidity_is_pseudorapidity_without_mass(x64, jets):
  p4, mask = jets(3, massless=True)
  rapidity, eta = np.asarray(lorentz.rapidity(p4)), np.asarray(lorentz.pseudorapidity(p4))
  np.testing.assert_allclose((rapidity - eta)[mask], 0.0, atol=1e-12)


def test_wrapped_angles_are_equivalent_and_in_range(x64):
  angles = np.concatenate([np.linspace(-50.0, 50.0, 1001), np.pi * np.arange(-4, 5)])
  wrapped = np.asarray(lorentz.wrap_angle(angles))
  assert wrapped.min() > -np.pi and wrapped.max() <= np.pi
  np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angles), atol=1e-13)
  np.testing.assert_array_equal(lorentz.wrap_angle([np.pi, -np.pi]), [np.pi, np.pi])


@pytest.mark.parametrize("function", SCALARS, ids=name_of)
def test_values_and_gradients_are_finite_at_the_edges(edge_momenta, function):
  value, gradient = jax.jit(jax.vmap(jax.value_and_grad(function)))(edge_momenta)
  assert np.isfinite(value).all()
  assert np.isfinite(gradient).all()
  assert not np.asarray(gradient)[0].any()  # padding


@pytest.mark.parametrize("function", SCALARS, ids=name_of)
def test_gradients_are_the_derivatives(x64, smooth_momenta, function):
  check_grads(function, (smooth_momenta,), order=1, modes=["rev"], rtol=1e-6)


def test_mass_where_there_is_none():
  """Light-like and space-like momenta: mass 0, not NaN."""
  np.testing.assert_array_equal(lorentz.mass(np.array([[5.0, 3, 4, 0], [4.9, 3, 4, 0]])), 0.0)


def test_constituent_mass_is_the_mass_of_the_sum(x64, jets):
  p4, mask = jets(5)
  expected = lorentz.mass(lorentz.jet_momentum(p4, mask))
  np.testing.assert_allclose(lorentz.constituent_mass(p4, mask), expected, rtol=1e-10, atol=1e-6)


def test_constituent_mass_in_float32(jets):
  """Rounding costs about eps E^2 in m^2; sums of E + pz and E - pz only about eps mT^2."""
  p4, mask = jets(6, num_jets=50, num_particles=40)
  p4 = p4.astype(np.float32)
  single = np.asarray(lorentz.constituent_mass(p4, mask), np.float64)
  with jax.enable_x64(True):
    jet = lorentz.jet_momentum(p4.astype(np.float64), mask)
    double = np.asarray(lorentz.constituent_mass(p4.astype(np.float64), mask))
    mt2 = double**2 + np.asarray(lorentz.transverse_momentum(jet)) ** 2
  assert (np.abs(single**2 - double**2) < 8 * np.finfo(np.float32).eps * mt2).all()


def test_features_are_their_definitions(x64, jets):
  p4, mask = jets(7)
  names = tuple(lorentz.PARTICLE_FEATURES)
  columns = np.moveaxis(np.asarray(lorentz.particle_features(names, p4, mask)), -1, 0)
  found = dict(zip(names, columns, strict=True))
  jet = p4.sum(1, keepdims=True)
  pt = np.hypot(p4[..., 1], p4[..., 2])
  jet_pt = np.hypot(jet[..., 1], jet[..., 2])
  with np.errstate(divide="ignore", invalid="ignore"):
    eta, jet_eta = (
      np.arctanh(p4[..., 3] / np.linalg.norm(p4[..., 1:], axis=-1)),
      np.arcsinh(jet[..., 3] / jet_pt),
    )
    deta = np.sign(jet_eta) * (eta - jet_eta)
    turn = (p4[..., 1] + 1j * p4[..., 2]) / (jet[..., 1] + 1j * jet[..., 2])
    expected = {
      "pt": pt,
      "eta": eta,
      "phi": np.arctan2(p4[..., 2], p4[..., 1]),
      "energy": p4[..., 0],
      "deta": deta,
      "dphi": np.angle(turn),
      "log_pt": np.log(pt),
      "log_e": np.log(p4[..., 0]),
      "log_pt_rel": np.log(pt / jet_pt),
      "log_e_rel": np.log(p4[..., 0] / jet[..., 0]),
      "dr": np.hypot(deta, np.angle(turn)),
    }
  assert set(found) == set(expected)
  for name, values in expected.items():
    np.testing.assert_allclose(found[name][mask], values[mask], atol=1e-10, err_msg=name)
    assert not found[name][~mask].any(), name


def test_feature_order_follows_the_names(jets):
  p4, mask = jets(8)
  both = np.asarray(lorentz.particle_features(("dphi", "pt"), p4, mask))
  np.testing.assert_array_equal(
    both[..., ::-1], lorentz.particle_features(("pt", "dphi"), p4, mask)
  )
  assert lorentz.particle_features((), p4, mask).shape == (*mask.shape, 0)


def test_features_relative_to_a_given_jet(x64, jets):
  p4, mask = jets(9)
  jet = np.asarray(lorentz.from_pt_eta_phi_e(np.array([500.0, -1.0, 0.5, 900.0])))
  found = np.asarray(lorentz.particle_features(("deta", "log_e_rel"), p4, mask, jet=jet))
  eta = np.asarray(lorentz.pseudorapidity(p4))[mask]
  np.testing.assert_allclose(found[..., 0][mask], -(eta + 1.0), atol=1e-12)
  np.testing.assert_allclose(found[..., 1][mask], np.log(p4[mask][:, 0] / 900.0), atol=1e-12)


def test_unknown_feature_names_the_nearest(jets):
  p4, mask = jets(0)
  with pytest.raises(ValueError, match="'log_pT_rel'; the nearest is 'log_pt_rel'"):
    lorentz.particle_features(("log_pT_rel",), p4, mask)


@pytest.mark.parametrize("name", JET_FUNCTIONS)
@pytest.mark.parametrize("content", [1e4, np.nan, np.inf])
def test_padding_changes_no_bit(jets, name, content):
  p4, mask = jets(10)
  filled = np.where(mask[..., None], p4, content)
  function = JET_FUNCTIONS[name]
  jax.tree.map(np.testing.assert_array_equal, function(p4, mask), function(filled, mask))


@pytest.mark.parametrize("name", JET_FUNCTIONS)
def test_jet_functions_are_finite_at_edges_and_without_particles(edge_momenta, name):
  p4 = np.stack([edge_momenta, edge_momenta, np.roll(edge_momenta, 1, axis=0)])
  mask = np.array([[True] * 7, [False] * 7, [True] + [False] * 6])

  def total(p4):
    return sum(x.sum() for x in jax.tree.leaves(JET_FUNCTIONS[name](p4, mask)))

  value, gradient = jax.jit(jax.value_and_grad(total))(p4)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()
  assert not np.asarray(gradient)[~mask].any()


def test_seed_mass_is_the_mass_when_the_jet_is_central(x64, jets):
  """At jet eta = 0 the pseudo-momenta of the seed are the momenta turned about the beam."""
  p4, mask = jets(11)
  p4, mask = np.concatenate([p4, p4 * [1, 1, 1, -1]], axis=1), np.concatenate([mask, mask], axis=1)
  expected = lorentz.constituent_mass(p4, mask)
  np.testing.assert_allclose(lorentz.seed_mass(p4, mask), expected, rtol=1e-10)


def test_seed_mass_is_its_published_formula(x64, jets):
  p4, mask = jets(12)
  names = ("pt", "deta", "dphi", "energy")
  features = np.asarray(lorentz.particle_features(names, p4, mask))
  pt, deta, dphi, energy = np.moveaxis(features, -1, 0)
  m2 = (
    energy.sum(1) ** 2
    - (pt * np.cos(dphi)).sum(1) ** 2
    - (pt * np.sin(dphi)).sum(1) ** 2
    - (pt * np.sinh(deta)).sum(1) ** 2
  )
  np.testing.assert_allclose(lorentz.seed_mass(p4, mask), np.sqrt(np.maximum(m2, 0)), rtol=1e-9)


def test_features_in_float32_agree_with_float64(jets):
  p4, mask = jets(13, num_jets=30)
  p4 = p4.astype(np.float32)
  names = tuple(lorentz.PARTICLE_FEATURES)
  single = np.asarray(lorentz.particle_features(names, p4, mask))
  assert single.dtype == np.float32
  with jax.enable_x64(True):
    double = np.asarray(lorentz.particle_features(names, p4.astype(np.float64), mask))
  np.testing.assert_allclose(single, double, rtol=2e-6, atol=3e-6)
