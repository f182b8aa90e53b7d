"""The response of the BESIII-like detector, on particles made by hand and on J/psi events."""

import numpy as np
import pytest

from jetfm.generate import OBJECT_BRANCHES, generate_events, make_files, plan_event_files
from jetfm.generate import bes_calorimeter as emc
from jetfm.generate.bes_identification import HYPOTHESES, MASSES, identify
from jetfm.generate.bes_muons import reach
from jetfm.generate.bes_objects import GROUPS, simulate
from jetfm.generate.bes_showers import Showers, match, merge, pairs
from jetfm.generate.bes_tracks import efficiency, pt_resolution
from jetfm.generate.energy_flow import Particles
from jetfm.generate.jpsi_events import MIN_OBJECTS

CHAINS = (
  "J/psi -> e+ e-",
  "J/psi -> mu+ mu-",
  "J/psi -> pi+ pi- pi0",
  "J/psi -> pi+ pi+ pi- pi- pi0",
)


def particles(pid, momentum, cosine=0.0, events=4000, at=(0.0, 0.0, 0.0), phi=0.3):
  """One particle per event."""
  size = abs(pid)
  mass = {11: 0.000511, 22: 0.0, 130: 0.4976, 2112: 0.9396}.get(size)
  mass = MASSES[HYPOTHESES.index(size)] if mass is None else mass
  charge = 0 if size in (22, 130, 2112) else (np.sign(pid) * (-1 if size < 20 else 1))
  sine = np.sqrt(1 - cosine**2)
  direction = sine * np.cos(phi), sine * np.sin(phi), cosine
  columns = (pid, charge, *(momentum * d for d in direction), np.hypot(momentum, mass), mass, *at)
  return Particles(np.arange(events), *(np.full(events, x) for x in columns))


def respond(*arguments, seed=0, **settings):
  made = particles(*arguments, **settings)
  offsets, columns = simulate(np.random.default_rng(seed), made, len(made))
  return made, np.diff(offsets), columns


def rows(columns, flag):
  return {name: x[columns[flag] > 0] for name, x in columns.items()}


@pytest.fixture(scope="module")
def table():
  return next(generate_events(CHAINS, seed=5))


@pytest.mark.parametrize("momentum", [0.3, 1.0, 1.5])
def test_momentum_resolution_follows_its_formula(momentum):
  made, _, columns = respond(211, momentum)
  tracks = rows(columns, "has_MDC")
  pt = np.hypot(tracks["mdc_p3_px"], tracks["mdc_p3_py"])
  expected = momentum * pt_resolution(np.array(momentum), momentum / made.energy[0])
  assert np.mean(pt) == pytest.approx(momentum, abs=5 * expected / np.sqrt(len(pt)))
  assert np.std(pt) == pytest.approx(expected, rel=5 / np.sqrt(2 * len(pt)))
  assert np.std(tracks["mdc_p3_pz"] / pt) == pytest.approx(2e-3, rel=5 / np.sqrt(2 * len(pt)))


@pytest.mark.parametrize("momentum", [0.06, 0.1, 0.17, 0.8])
def test_efficiency_of_tracks(momentum):
  made, _, columns = respond(211, momentum)
  expected = efficiency(np.array(momentum))
  found = columns["has_MDC"].sum() / len(made)
  assert found == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / len(made)))


@pytest.mark.parametrize("energy", [0.1, 0.5, 1.5])
def test_photons_keep_energy_and_direction_within_the_resolution(energy):
  made, _, columns = respond(22, energy, cosine=0.4)
  own = columns["true_pid"] == 22
  measured = columns["emc_energy"][own]
  assert own.sum() > 0.95 * len(made)
  middle = np.abs(measured / energy - 1) < 0.3  # without noise that joined
  sigma = emc.energy_resolution(np.array(energy)) * energy
  assert np.std(measured[middle]) == pytest.approx(sigma, rel=0.1)
  point = np.stack([columns[f"emc_{x}"][own] for x in "xyz"], axis=1)
  true = np.array([made.px[0], made.py[0], made.pz[0]]) / energy
  along = point @ true
  away = np.linalg.norm(point - along[:, None] * true, axis=1)
  assert np.median(away) < 3 * 0.6 / np.sqrt(energy)
  assert np.all(columns["has_MDC"] == 0)


def test_the_edges_of_the_calorimeter():
  for cosine, seen in ((0.5, True), (0.84, False), (0.89, True), (0.95, False)):
    _, _, columns = respond(22, 1.0, cosine=cosine, events=500)
    assert (columns["true_pid"] == 22).any() == seen
  for energy, cosine in ((0.015, 0.0), (0.035, 0.89)):
    _, _, columns = respond(22, energy, cosine=cosine, events=500)
    assert (columns["true_pid"] == 22).sum() < 5


def test_slow_tracks_never_reach_the_barrel():
  for pt, cosine in ((0.13, 0.0), (0.13, 0.2), (0.10, 0.6)):
    _, _, columns = respond(211, pt / np.sqrt(1 - cosine**2), cosine=cosine)
    # But for noise that happens to be where they would be.
    assert columns["has_EMC_track"].sum() < 0.01 * columns["has_MDC"].sum()


def test_what_each_kind_of_particle_leaves():
  _, _, electrons = respond(11, 1.2)
  assert np.median(rows(electrons, "has_EMC_track")["EoP"]) == pytest.approx(1, abs=0.02)
  assert electrons["has_MUC"].sum() == 0
  _, _, muons = respond(13, 1.2)
  assert np.median(rows(muons, "has_EMC_track")["EoP"]) < 0.25
  assert rows(muons, "has_MUC")["muc_dpt"].mean() > 40
  made, _, pions = respond(-211, 1.2)
  assert 0.005 < pions["has_MUC"].sum() / len(made) < 0.1
  assert rows(pions, "has_MUC")["muc_dpt"].mean() < 15
  made, _, kaons = respond(130, 0.8)
  assert 0.3 < (kaons["true_pid"] == 130).sum() / len(made) < 0.6
  _, _, antineutrons = respond(-2112, 0.8)
  assert antineutrons["emc_energy"].max() > 1
  assert np.quantile(kaons["emc_energy"], 0.99) < 0.52


@pytest.mark.parametrize("cosine", [0.0, 0.88])
def test_identification(cosine):
  """Where dE/dx and time of flight separate, and where nothing does."""
  n, made = 2000, {}
  for place, pid in enumerate(HYPOTHESES):
    p = np.full(n, 0.5)
    rng = np.random.default_rng(place)
    found = identify(rng, np.full(n, pid), p, p * np.sqrt(1 - cosine**2), p * cosine)
    made[place] = np.bincount(found, minlength=5) / n
  for place in (0, 3, 4):
    assert made[place][place] > 0.9
  assert made[1][1] + made[1][2] > 0.9 and made[2][1] + made[2][2] > 0.9


def test_only_fast_central_muons_reach_their_counter():
  size = np.full(1000, 13)
  rng = np.random.default_rng(0)
  for momentum, cosine in ((0.4, 0.0), (1.0, 0.95)):
    hit, depth, dof = reach(rng, size, np.full(1000, momentum), np.full(1000, cosine))
    assert not hit.any() and not depth.any() and not dof.any()


def test_decays_in_flight_make_the_tail_of_vr0():
  _, _, prompt = respond(211, 0.5)
  vr0 = rows(prompt, "has_MDC")["vr0"]
  assert (vr0 == 0).mean() > 0.99 and vr0.max() < 0.5
  # Sideways from a point 3 cm away from the beam line.
  _, _, late = respond(211, 0.5, at=(30.0, 0.0, 0.0), phi=np.pi / 2)
  assert rows(late, "has_MDC")["vr0"].mean() == pytest.approx(3.0, abs=0.1)
  _, _, lost = respond(211, 0.5, at=(150.0, 0.0, 0.0), phi=np.pi / 2)
  assert lost["has_MDC"].sum() == 0


def test_groups_are_consistent_with_the_kind_of_object(table):
  has = {flag: table.particles[flag] for flag in GROUPS}
  track, shower = has["has_MDC"] > 0, has["has_EMC"] > 0
  assert all(set(np.unique(values)) <= {0, 1} for values in has.values())
  assert np.all(track | shower)
  np.testing.assert_array_equal(has["has_PID"] > 0, track)
  np.testing.assert_array_equal(has["has_EMC_track"] > 0, track & shower)
  assert not np.any((has["has_MUC"] > 0) & ~track)
  assert not np.any((has["has_EMC_shape"] > 0) & ~shower)
  # All combinations that the physics allows do come.
  for some in (track & ~shower, ~track, track & shower, shower & (has["has_EMC_shape"] == 0)):
    assert some.any()
  for flag, names in GROUPS.items():
    for name in names:
      assert np.all(table.particles[name][has[flag] == 0] == 0)
  assert set(np.unique(table.particles["q"][track])) == {-1, 1}
  assert table.particles["vr0"].min() == 0
  assert np.all((table.particles["emc_time"] >= 0) & (table.particles["emc_time"] <= 700))
  inner, outer = table.particles["emc_e3x3"], table.particles["emc_e5x5"]
  assert np.all((inner <= outer) & (outer <= table.particles["emc_energy"]))
  assert {name: x.dtype.name for name, x in table.particles.items()} == OBJECT_BRANCHES


def test_events_are_of_the_chains_and_recorded(table):
  counts = np.diff(table.offsets)
  assert counts.min() >= MIN_OBJECTS
  assert set(np.unique(table.events["chain"])) == set(range(len(CHAINS)))
  assert np.all(np.diff(table.events["event_number"]) > 0)
  muons = np.repeat(table.events["chain"] == 1, counts)
  assert set(np.unique(table.particles["true_pid"][muons])) <= {0, 13, -13}


def showers(event, energy, points):
  event = np.array(event)
  zero = np.zeros(len(event), int)
  return Showers(event, np.arange(len(event)), zero, np.array(energy), np.array(points, float))


def test_near_showers_merge_at_their_common_centre():
  points = [[100, 0, 0], [100, 4, 0], [100, 8, 0], [100, 0, 0], [100, 50, 0]]
  merged = merge(showers([0, 0, 0, 1, 1], [1.0, 0.5, 0.1, 0.3, 0.3], points), 2)
  assert merged.event.tolist() == [0, 1, 1]
  assert merged.energy.tolist() == pytest.approx([1.6, 0.3, 0.3])
  np.testing.assert_allclose(merged.points[0], [100, 2.8 / 1.6, 0])
  assert merged.particle.tolist() == [0, 3, 4]


def test_a_track_takes_the_nearest_shower_and_no_shower_has_two_tracks():
  found = showers([0, 0, 1, 1], [1.0] * 4, [[100, 0, 0], [100, 5, 0], [100, 0, 0], [0, 100, 0]])
  ends = np.array([[100, 1, 0], [100, 40, 0], [100, 2, 0], [100, -3, 0]])
  own = match(np.array([0, 0, 1, 1]), ends, found, 2)
  assert own.tolist() == [0, -1, 2, -1]


def test_pairs_are_those_of_the_same_event():
  first, second = pairs(np.array([0, 0, 2, 3]), np.array([0, 1, 1, 2, 2]), 4)
  found = list(zip(first.tolist(), second.tolist(), strict=True))
  assert found == [(0, 0), (1, 0), (2, 3), (2, 4)]


def test_same_seed_same_events_and_other_seeds_others(table):
  again = next(generate_events(CHAINS, seed=5))
  for name, values in table.particles.items():
    np.testing.assert_array_equal(values, again.particles[name])
  for other in (generate_events(CHAINS, seed=6), generate_events(CHAINS, 5, file_number=1)):
    assert not np.isin(next(other).particles["mdc_p3_px"], table.particles["mdc_p3_px"][:20]).all()


def test_chains_that_are_left_out_change_no_number_of_an_event(table):
  """A longer list keeps more events; numbers say which generated event each one is."""
  few = next(generate_events(CHAINS[:1], seed=5))
  many = table.events["event_number"][table.events["chain"] == 0]
  assert np.isin(few.events["event_number"], many).mean() > 0.9


def arrays_of(folder):
  uproot = pytest.importorskip("uproot")
  found = {}
  for path in sorted(folder.glob("*.root")):
    with uproot.open(path) as file:
      found[path.name] = file["tree"].arrays().to_list()
  return found


@pytest.mark.slow
def test_processes_do_not_change_events(tmp_path):
  for processes in (1, 2):
    files = plan_event_files(tmp_path / str(processes), CHAINS, 250, 100, seed=3)
    assert [file.count for file in files] == [100, 100, 50]
    make_files(files, processes)
    assert make_files(files) == []
  one, two = arrays_of(tmp_path / "1"), arrays_of(tmp_path / "2")
  assert one == two and len(one) == 3
