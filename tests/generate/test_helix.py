"""Laws of motion in a solenoid."""

import numpy as np
import pytest

from jetfm.generate.helix import CMS_SOLENOID, CURVATURE, propagate, wrap


def draw(count=500, seed=0, spread=0.0, pt=(0.2, 100.0)):
  """Random momenta and vertices: px, py, pz, charge, x, y, z."""
  rng = np.random.default_rng(seed)
  pt = np.exp(rng.uniform(*np.log(pt), count))
  phi, eta = rng.uniform(-np.pi, np.pi, count), rng.uniform(-2, 2, count)
  vertex = spread * rng.standard_normal((3, count))
  charge = rng.choice([-1.0, 1.0], count)
  return pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), charge, *vertex


def test_track_from_the_origin_has_no_impact_parameter():
  flight = propagate(*draw())
  np.testing.assert_allclose(flight.d0, 0, atol=1e-8)
  np.testing.assert_allclose(flight.dz, 0, atol=1e-8)


def test_curvature_is_that_of_the_field():
  # A chord from the origin to radius R deviates from the tangent by asin(R / 2r).
  px, py, pz, charge, *vertex = draw(pt=(2.0, 50.0))
  flight = propagate(px, py, 0 * pz, charge, *vertex)
  r = 1e3 * np.hypot(px, py) / (CURVATURE * CMS_SOLENOID.field)
  expected = -charge * np.arcsin(CMS_SOLENOID.radius / (2 * r))
  np.testing.assert_allclose(wrap(flight.phi - np.arctan2(py, px)), expected, atol=1e-9)


def test_fast_charged_particles_fly_straight():
  px, py, pz, charge, *vertex = draw(spread=20.0, pt=(1e6, 1e7))
  bent = propagate(px, py, pz, charge, *vertex)
  straight = propagate(px, py, pz, 0 * charge, *vertex)
  np.testing.assert_allclose(bent.eta, straight.eta, atol=1e-5)
  np.testing.assert_allclose(wrap(bent.phi - straight.phi), 0, atol=1e-5)
  x, y, z = vertex
  pt = np.hypot(px, py)
  np.testing.assert_allclose(bent.d0, (x * py - y * px) / pt, atol=1e-2)
  np.testing.assert_allclose(bent.dz, z - pz / pt * (x * px + y * py) / pt, atol=1e-1)


def test_reflection_with_opposite_charge_is_a_symmetry():
  px, py, pz, charge, x, y, z = draw(spread=30.0)
  one = propagate(px, py, pz, charge, x, y, z)
  other = propagate(px, -py, pz, -charge, x, -y, z)
  np.testing.assert_allclose(other.d0, -one.d0, rtol=1e-9, atol=1e-7)
  np.testing.assert_allclose(other.dz, one.dz, rtol=1e-9, atol=1e-6)
  np.testing.assert_allclose(other.eta, one.eta, rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(wrap(other.phi + one.phi), 0, atol=1e-9)


def test_impact_parameter_is_the_distance_of_the_circle_from_the_beam():
  px, py, pz, charge, x, y, z = draw(spread=30.0, pt=(0.2, 2.0))
  flight = propagate(px, py, pz, charge, x, y, z)
  pt = np.hypot(px, py)
  r = 1e3 * pt / (CURVATURE * CMS_SOLENOID.field)
  # The centre lies to the right of a positive particle's momentum.
  xc, yc = x + charge * r * py / pt, y - charge * r * px / pt
  angle = np.linspace(0, 2 * np.pi, 20001)
  for i in range(20):
    nearest = np.hypot(xc[i] + r[i] * np.cos(angle), yc[i] + r[i] * np.sin(angle)).min()
    assert abs(flight.d0[i]) == pytest.approx(nearest, abs=1e-2)


def test_slow_particles_curl_up_and_leave_through_an_end():
  px, py, pz, charge, *vertex = draw(pt=(0.05, 0.3))
  pz += np.copysign(0.01, pz)
  r = 1e3 * np.hypot(px, py) / (CURVATURE * CMS_SOLENOID.field)
  flight = propagate(px, py, pz, charge, *vertex)
  # At the end of the tracker they are no further from the axis than their own diameter.
  assert (2 * r < CMS_SOLENOID.radius).all()
  assert (np.abs(np.sinh(flight.eta)) >= CMS_SOLENOID.half_length / (2 * r) - 1e-9).all()
  np.testing.assert_array_equal(np.sign(flight.eta), np.sign(pz))


def test_neutral_particles_from_the_origin_keep_their_direction():
  px, py, pz, charge, *vertex = draw()
  flight = propagate(px, py, pz, 0 * charge, *vertex)
  np.testing.assert_allclose(flight.eta, np.arcsinh(pz / np.hypot(px, py)), atol=1e-9)
  np.testing.assert_allclose(flight.phi, np.arctan2(py, px), atol=1e-9)
  assert not flight.d0.any() and not flight.dz.any()


def test_particles_made_outside_the_tracker_are_not_seen():
  px, py, pz, charge, _, y, _ = draw(count=3)
  far = np.array([0.0, CMS_SOLENOID.radius + 1, 0.0])
  flight = propagate(px, py, pz, charge, far, y, np.array([0.0, 0.0, -1e4]))
  np.testing.assert_array_equal(flight.inside, [True, False, False])
