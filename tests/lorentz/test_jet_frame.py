"""The frame where the jet is at phi = 0 and rapidity 0."""

import jax
import numpy as np
import pytest

from tests.compiled import lorentz

MINKOWSKI = np.diag([1.0, -1.0, -1.0, -1.0])


def close(a, b, atol=1e-10):
  np.testing.assert_allclose(a, b, atol=atol)


@pytest.fixture
def sample(x64, jets):
  """Momenta in units where the hardest particle has energy 1: tolerances are relative to it."""
  p4, mask = jets(0, num_jets=20)
  return p4 / p4[..., 0].max(), mask


def test_jet_is_at_rapidity_and_phi_zero(sample):
  p4, mask = sample
  moved, _ = lorentz.to_jet_frame(p4, mask)
  jet = lorentz.jet_momentum(moved, mask)
  close(lorentz.rapidity(jet), 0.0)
  close(lorentz.azimuth(jet), 0.0)
  assert (np.asarray(jet)[:, 1] > 0).all()


def test_masses_and_transverse_momenta_stay(sample):
  p4, mask = sample
  moved, _ = lorentz.to_jet_frame(p4, mask)
  # Squares of energies of up to 1e3 GeV cancel, and the root is taken of what is left.
  close(lorentz.mass_squared(moved), lorentz.mass_squared(p4), atol=1e-9)
  close(lorentz.constituent_mass(moved, mask), lorentz.constituent_mass(p4, mask), atol=1e-8)
  close(lorentz.transverse_momentum(moved), lorentz.transverse_momentum(p4))


def test_it_is_one_lorentz_transformation(sample):
  p4, mask = sample
  moved, matrix = map(np.asarray, lorentz.to_jet_frame(p4, mask))
  close(np.swapaxes(matrix, -1, -2) @ MINKOWSKI @ matrix, np.broadcast_to(MINKOWSKI, matrix.shape))
  close(moved, lorentz.transform_vectors(matrix, p4))
  close(lorentz.transform_vectors(lorentz.inverse_lorentz(matrix), moved), p4)
  reflected = np.asarray(lorentz.jet_momentum(p4, mask))[:, 3] < 0
  assert reflected.any() and not reflected.all()
  np.testing.assert_array_equal(np.linalg.det(matrix) < 0, reflected)


def test_longitudinal_axis_points_as_deta(x64, jets):
  """Without mass, rapidity in the frame and deta differ by one number for each jet."""
  p4, mask = jets(1, massless=True)
  moved, _ = lorentz.to_jet_frame(p4, mask)
  features = np.asarray(lorentz.particle_features(("deta", "dphi"), p4, mask))
  deta, dphi = np.moveaxis(features, -1, 0)
  shift = np.where(mask, deta - np.asarray(lorentz.rapidity(moved)), np.nan)
  close(np.nanmax(shift, axis=1), np.nanmin(shift, axis=1))
  close(np.where(mask, lorentz.azimuth(moved), 0), dphi)


@pytest.mark.parametrize("angle", [0.0, 2.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_about_the_beam_and_mirror_change_nothing(sample, angle, mirrored):
  p4, mask = sample
  matrix = np.asarray(lorentz.rotation([0, 0, 1], angle))
  if mirrored:
    matrix = matrix @ np.asarray(lorentz.mirror([0, 0, 1]))
  before, _ = lorentz.to_jet_frame(p4, mask)
  after, _ = lorentz.to_jet_frame(lorentz.transform_vectors(matrix, p4), mask)
  close(after, before)


def test_boost_along_the_beam_changes_at_most_the_reflection(sample):
  p4, mask = sample
  before, _ = lorentz.to_jet_frame(p4, mask)
  boosted = lorentz.transform_vectors(lorentz.boost(0.7, [0, 0, 1]), p4)
  after = np.asarray(lorentz.to_jet_frame(boosted, mask)[0])
  pz, boosted_pz = (np.asarray(lorentz.jet_momentum(x, mask))[:, 3] for x in (p4, boosted))
  reflected = (pz * boosted_pz < 0)[:, None, None]
  close(np.where(reflected, after * np.array([1, 1, 1, -1.0]), after), before)


def test_frame_of_a_given_jet(sample):
  """The frame of the visible particles serves for the hidden ones."""
  p4, mask = sample
  visible = mask & (np.arange(mask.shape[1]) % 2 == 0)
  jet = lorentz.jet_momentum(p4, visible)
  all_moved, matrix = lorentz.to_jet_frame(p4, mask, jet=jet)
  visible_moved, visible_matrix = lorentz.to_jet_frame(p4, visible)
  close(matrix, visible_matrix)
  close(np.where(visible[..., None], all_moved, 0), visible_moved)


def test_padding_stays_zero_and_an_empty_jet_stays(sample):
  p4, mask = sample
  mask = mask & (np.arange(len(mask)) > 0)[:, None]
  moved, matrix = lorentz.to_jet_frame(p4, mask)
  assert not np.asarray(moved)[~mask].any()
  np.testing.assert_array_equal(matrix[0], np.eye(4))


@pytest.mark.parametrize("eta", [-2.5, 2.5])
def test_float32_is_accurate_for_a_forward_jet(eta):
  """pT = 500 at |eta| = 2.5: E of a particle in the frame to a few float32 roundings."""
  rng = np.random.default_rng(0)
  pt = 500 * rng.dirichlet(np.full(40, 0.3))
  coordinates = [pt, eta + rng.normal(0, 0.2, 40), rng.normal(0, 0.2, 40)]
  energy = pt * np.cosh(coordinates[1])
  momenta = np.asarray(lorentz.from_pt_eta_phi_e(np.stack([*coordinates, energy], -1)))
  p4, mask = momenta.astype(np.float32)[None], np.ones((1, 40), bool)
  single, _ = lorentz.to_jet_frame(p4, mask)
  with jax.enable_x64(True):
    double = np.asarray(lorentz.to_jet_frame(p4.astype(np.float64), mask)[0])
    scale = double[..., :1]
  assert (np.abs(single - double) < 2e-6 * scale).all()
  jet = lorentz.jet_momentum(single, mask)
  assert np.abs(lorentz.rapidity(jet)).max() < 1e-6
  assert np.abs(lorentz.azimuth(jet)).max() < 1e-6
