"""Laws of the tracker, the calorimeters and the energy flow."""

import numpy as np
import pytest

from jetfm.generate import calorimeter, tracks
from jetfm.generate.energy_flow import NEUTRAL_HADRON, PHOTON, Particles, cell_flow, simulate
from jetfm.generate.pythia import charge_of


def gun(pid, pt, eta, count=20_000, seed=0):
  """One particle per event from the origin, in random azimuth."""
  rng = np.random.default_rng(seed)
  phi = rng.uniform(-np.pi, np.pi, count)
  ids = np.full(count, pid)
  px, py, pz = pt * np.cos(phi), pt * np.sin(phi), np.full(count, pt * np.sinh(eta))
  mass = np.zeros(count)
  energy = np.sqrt(px**2 + py**2 + pz**2)
  zero = np.zeros(count)
  charge = charge_of(ids)
  return Particles(np.arange(count), ids, charge, px, py, pz, energy, mass, zero, zero, zero)


def within_binomial_errors(seen, count, probability):
  return abs(seen - count * probability) < 5 * np.sqrt(count * probability * (1 - probability))


@pytest.mark.parametrize(
  "pid, pt, eta, expected",
  [
    (211, 50.0, 0.5, 0.95),
    (-2212, 50.0, 2.0, 0.85),
    (11, 50.0, 0.5, 0.95),
    (-11, 150.0, 2.0, 0.90),
    (13, 0.5, 0.0, 0.75),
    (-13, 5.0, 2.2, 0.98),
  ],
)
def test_efficiency(pid, pt, eta, expected):
  particles = gun(pid, pt, eta)
  objects = simulate(np.random.default_rng(1), particles)
  found = int((objects.charge != 0).sum())
  assert within_binomial_errors(found, len(particles), expected)
  assert (objects.pid[objects.charge != 0] == pid).all()


def test_no_track_below_threshold_or_outside_the_tracker():
  kind = np.zeros(3, int)
  pt, eta = np.array([0.1, 5.0, 5.0]), np.array([0.0, 2.51, -3.0])
  np.testing.assert_array_equal(tracks.efficiency(kind, pt, eta), 0)


def test_track_momentum_stays_true_and_impact_parameters_have_their_errors():
  particles = gun(13, 10.0, 0.5)
  objects = simulate(np.random.default_rng(2), particles)
  np.testing.assert_allclose(np.hypot(objects.px, objects.py), 10.0, rtol=1e-9)
  for value, error in ((objects.d0, objects.d0_error), (objects.dz, objects.dz_error)):
    pull = value / error
    assert abs(pull.mean()) < 5 / np.sqrt(len(pull))
    assert pull.std() == pytest.approx(1, abs=5 / np.sqrt(2 * len(pull)))


def test_impact_resolution_table():
  pt = np.array([0.18, 0.2, 200.0, 1.0, 5.0])
  eta = np.array([0.0, 0.0, -0.5, 2.6, -2.4])
  d0, dz = tracks.impact_resolution(pt, eta)
  # The first and the last row of the central region, and nothing outside the table.
  assert d0[0] == dz[0] == d0[3] == dz[3] == 0
  np.testing.assert_allclose(d0[[1, 2]], [0.3543, 0.0110])
  assert d0[4] > 0 and dz[4] > d0[4]


def test_log_normal_has_its_mean_and_width():
  rng = np.random.default_rng(3)
  for mean, sigma in ((10.0, 1.0), (5.0, 4.0)):
    drawn = tracks.log_normal(rng, np.full(400_000, mean), np.full(400_000, sigma))
    assert drawn.mean() == pytest.approx(mean, rel=0.01)
    assert drawn.std() == pytest.approx(sigma, rel=0.03)
  assert tracks.log_normal(rng, np.zeros(3), np.ones(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("detector", [calorimeter.ecal(), calorimeter.hcal()], ids=["ecal", "hcal"])
def test_measured_energy_has_the_resolution_of_its_cell(detector):
  count, deposit = 200_000, 80.0
  eta = np.full(count, 0.7)
  energy, sigma = detector.measure(np.random.default_rng(4), np.full(count, deposit), eta)
  expected = detector.sigma(np.array([deposit]), eta[:1])[0]
  assert energy.mean() == pytest.approx(deposit, rel=0.01)
  assert energy.std() == pytest.approx(expected, rel=0.02)
  np.testing.assert_allclose(sigma, detector.sigma(energy, eta))


@pytest.mark.parametrize("detector", [calorimeter.ecal(), calorimeter.hcal()], ids=["ecal", "hcal"])
def test_cells_tile_the_detector(detector):
  rng = np.random.default_rng(5)
  grid = detector.grid
  every = np.arange(grid.size)
  np.testing.assert_array_equal(grid.index(*grid.draw_inside(rng, every)), every)
  eta, phi = rng.uniform(-4.99, 4.99, 10_000), rng.uniform(-np.pi, np.pi, 10_000)
  assert (grid.index(eta, phi) >= 0).all()
  assert grid.index(np.array([5.01, -5.01]), np.zeros(2)).tolist() == [-1, -1]
  np.testing.assert_allclose(grid.eta_edges, -grid.eta_edges[::-1])


def test_every_visible_particle_leaves_all_its_energy_somewhere():
  pid = np.array([11, -22, 111, 211, -2112, 130, 310, 3122, 13, 14])
  in_ecal, in_hcal = calorimeter.fractions(pid)
  np.testing.assert_allclose((in_ecal + in_hcal)[:8], 1)
  np.testing.assert_allclose((in_ecal + in_hcal)[8:], 0)


def perfect_calorimeter():
  grid = calorimeter.ecal().grid
  return calorimeter.Calorimeter(grid, lambda energy, eta: 1e-9 * (energy + 1), 0.5, 2.0)


@pytest.mark.parametrize(
  "deposits, tracked, neutral, scale",
  [
    ([8.0, 2.0], [False, False], 10.0, 1.0),  # no tracks: all that was measured
    ([8.0, 2.0], [True, True], 0.0, 1.0),  # the tracks explain everything
    ([6.0, 4.0], [True, False], 4.0, 1.0),  # a significant excess leaves the tracks alone
    ([6.0, 0.3], [True, False], 0.0, 6.3 / 6.0),  # one below threshold scales them
    ([0.4, 0.05], [True, False], 0.0, 0.0),  # a cell that measures nothing drops them
  ],
)
def test_energy_flow_of_a_cell(deposits, tracked, neutral, scale):
  flow = cell_flow(
    np.random.default_rng(0),
    perfect_calorimeter(),
    np.zeros(2, int),
    np.full(2, 1000),
    np.array(deposits),
    np.array(tracked),
  )
  assert flow.energy.sum() == pytest.approx(neutral, rel=1e-6)
  np.testing.assert_allclose(flow.scale[np.array(tracked)], scale, rtol=1e-6)


def test_cells_of_different_events_stay_apart():
  flow = cell_flow(
    np.random.default_rng(0),
    perfect_calorimeter(),
    np.array([0, 1]),
    np.full(2, 1000),
    np.array([5.0, 7.0]),
    np.zeros(2, bool),
  )
  assert flow.event.tolist() == [0, 1]
  np.testing.assert_allclose(flow.energy, [5.0, 7.0], rtol=1e-6)


@pytest.mark.parametrize(
  "pid, seen_as", [(22, PHOTON), (130, NEUTRAL_HADRON), (2112, NEUTRAL_HADRON)]
)
def test_neutral_particles(pid, seen_as):
  objects = simulate(np.random.default_rng(6), gun(pid, 50.0, 0.4, count=2000))
  assert (objects.pid == seen_as).all() and len(objects) > 1900
  for name in ("charge", "d0", "d0_error", "dz", "dz_error"):
    assert not getattr(objects, name).any()
  assert objects.energy.mean() == pytest.approx(50 * np.cosh(0.4), rel=0.02)
  # Massless, and within a cell of the true direction.
  np.testing.assert_allclose(
    objects.energy**2, objects.px**2 + objects.py**2 + objects.pz**2, rtol=1e-9
  )
  np.testing.assert_allclose(
    np.arcsinh(objects.pz / np.hypot(objects.px, objects.py)), 0.4, atol=0.1
  )


def test_lost_tracks_still_leave_energy():
  # Beyond the tracker charged hadrons become neutral ones.
  objects = simulate(np.random.default_rng(7), gun(211, 50.0, 2.8, count=500))
  assert (objects.pid == NEUTRAL_HADRON).all() and len(objects) > 450


def test_objects_are_ordered_by_event():
  particles = gun(211, 20.0, 0.0, count=300)
  objects = simulate(np.random.default_rng(8), particles)
  assert (np.diff(objects.event) >= 0).all()
