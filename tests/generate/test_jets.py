"""Clustering, substructure and the columns of a jet table, on jets made by hand."""

import numpy as np
import pytest

from jetfm.generate.clustering import cluster, substructure
from jetfm.generate.energy_flow import FlowObjects
from jetfm.generate.generator import generate_jets, take
from jetfm.generate.jet_table import JET_BRANCHES, PARTICLE_BRANCHES
from jetfm.generate.jets import MAX_ETA, PT_MAX, PT_MIN
from jetfm.generate.table import concatenate

pytest.importorskip("fastjet")


def objects(event, pt, eta, phi):
  """Massless neutral objects."""
  event, pt, eta, phi = map(np.asarray, (event, pt, eta, phi))
  zero = np.zeros(len(pt))
  momenta = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)
  return FlowObjects(event, zero.astype(int), zero, *momenta, zero, zero, zero, zero)


def pair_mass(pt1, pt2, d_eta, d_phi):
  return np.sqrt(2 * pt1 * pt2 * (np.cosh(d_eta) - np.cos(d_phi)))


TWO_PRONGS = objects(
  [0, 0, 0, 2, 2],
  [300.0, 300.0, 3.0, 600.0, 20.0],
  [0.0, 0.4, 0.3, 1.0, -1.0],
  [3.1, 3.1, -2.6, 0.0, 2.0],
)


def test_jets_know_their_event_and_constituents():
  jets = cluster(TWO_PRONGS, 4, 100.0)
  assert jets.event.tolist() == [0, 2]
  parts = [
    sorted(jets.constituents[a:b]) for a, b in zip(jets.offsets, jets.offsets[1:], strict=False)
  ]
  assert parts == [[0, 1, 2], [3]]
  assert jets.pt[1] == pytest.approx(600) and jets.eta[1] == pytest.approx(1.0)
  taken = jets.take(np.array([1]))
  assert taken.constituents.tolist() == [3] and taken.offsets.tolist() == [0, 1]


def test_no_jet_gives_no_jet():
  jets = cluster(TWO_PRONGS, 4, 5000.0)
  assert len(jets) == 0 and jets.offsets.tolist() == [0]


def test_soft_drop_keeps_the_prongs_and_drops_soft_radiation():
  jets = cluster(TWO_PRONGS, 4, 100.0)
  mass, tau = substructure(TWO_PRONGS, jets)
  prongs = pair_mass(300, 300, 0.4, 0.0)
  assert mass[0] == pytest.approx(prongs, rel=1e-6)
  assert jets.mass[0] > prongs
  # Two prongs: tau2 is only the soft particle, tau3 nothing.
  assert tau[0, 0] > 0.1 and tau[0, 1] < 0.01 and tau[0, 2] == pytest.approx(0, abs=1e-9)
  assert mass[1] == pytest.approx(0, abs=1e-3)


@pytest.fixture(scope="module")
def table():
  pytest.importorskip("pythia8mc")
  return concatenate(list(take(generate_jets("Zqq", seed=4), 40)))


def test_table_has_every_branch_with_its_type(table):
  assert {name: values.dtype.name for name, values in table.events.items()} == JET_BRANCHES
  assert {name: v.dtype.name for name, v in table.particles.items()} == PARTICLE_BRANCHES
  assert len(table) == 40


def test_jets_pass_the_selection(table):
  jets = table.events
  assert ((jets["jet_pt"] > PT_MIN) & (jets["jet_pt"] < PT_MAX)).all()
  assert (np.abs(jets["jet_eta"]) < MAX_ETA).all()
  assert jets["label_Zqq"].all() and sum(v.sum() for k, v in jets.items() if "label" in k) == 40
  assert set(jets["aux_truth_match"].tolist()) <= {31, 32, 33}
  assert (jets["aux_genpart_pid"] == 23).all()
  assert (np.diff(jets["event_number"]) >= 0).all()


def test_constituents_make_up_their_jet(table):
  jet = np.repeat(np.arange(len(table)), np.diff(table.offsets))
  np.testing.assert_array_equal(table.events["jet_nparticles"], np.diff(table.offsets))
  for branch, total in (("part_energy", "jet_energy"),):
    summed = np.bincount(jet, table.particles[branch])
    np.testing.assert_allclose(summed, table.events[total], rtol=1e-5)
  px, py = (np.bincount(jet, table.particles[f"part_{c}"]) for c in ("px", "py"))
  np.testing.assert_allclose(np.hypot(px, py), table.events["jet_pt"], rtol=1e-5)
  # Sorted by falling pT inside every jet.
  pt = np.hypot(table.particles["part_px"], table.particles["part_py"])
  assert (np.diff(pt)[np.diff(jet) == 0] <= 1e-4).all()


def test_angles_follow_the_published_signs(table):
  jet = np.repeat(np.arange(len(table)), np.diff(table.offsets))
  p = {name: values.astype(np.float64) for name, values in table.particles.items()}
  eta = np.arcsinh(p["part_pz"] / np.hypot(p["part_px"], p["part_py"]))
  jet_eta, jet_phi = table.events["jet_eta"][jet], table.events["jet_phi"][jet]
  assert (jet_eta > 0).any() and (jet_eta < 0).any()
  np.testing.assert_allclose(p["part_deta"], np.sign(jet_eta) * (eta - jet_eta), atol=1e-4)
  turned = np.arctan2(p["part_py"], p["part_px"]) - jet_phi
  np.testing.assert_allclose(np.cos(p["part_dphi"]), np.cos(turned), atol=1e-5)
  np.testing.assert_allclose(np.sin(p["part_dphi"]), np.sin(turned), atol=1e-5)
  assert (np.abs(p["part_dphi"]) < 1.7).all()


def test_flags_and_impact_parameters_belong_to_charged_particles(table):
  p = table.particles
  flags = ["ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon"]
  assert (sum(p[f"part_is{name}"] for name in flags) == 1).all()
  neutral = p["part_charge"] == 0
  np.testing.assert_array_equal(neutral, (p["part_isNeutralHadron"] + p["part_isPhoton"]) == 1)
  for name in ("d0val", "d0err", "dzval", "dzerr"):
    assert not p[f"part_{name}"][neutral].any() and p[f"part_{name}"][~neutral].any()


def test_particle_level_mass_follows_the_measured_one(table):
  jet = np.repeat(np.arange(len(table)), np.diff(table.offsets))
  total = [
    np.bincount(jet, table.particles[f"part_{c}"].astype(np.float64))
    for c in ("energy", "px", "py", "pz")
  ]
  mass = np.sqrt(np.maximum(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2, 0))
  particle_level = table.events["jet_genmass"]
  assert (particle_level > 0).all()
  assert np.corrcoef(particle_level, mass)[0, 1] > 0.5
  # Lost tracks and cells below threshold cost mass; nothing in the detector adds any on average.
  assert 1.0 < np.median(particle_level / mass) < 1.25


def test_same_seed_same_jets_other_file_other_jets(table):
  again = concatenate(list(take(generate_jets("Zqq", seed=4), 5)))
  np.testing.assert_array_equal(again.events["jet_pt"], table.events["jet_pt"][:5])
  other = concatenate(list(take(generate_jets("Zqq", seed=4, file_number=1), 5)))
  assert not np.isin(other.events["jet_pt"], table.events["jet_pt"]).any()
