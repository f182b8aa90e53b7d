"""Decays of the J/psi: table, chains, four-momenta and angles."""

import re

import numpy as np
import pytest

from jetfm.decay_chains import final_state, parse_chain
from jetfm.generate import read_chains, share_of_chains
from jetfm.generate.jpsi_angles import (
  LEPTONS,
  RHO_PI,
  PolarisedJpsi,
  angular_weight,
  enlarged_channels,
)
from jetfm.generate.jpsi_chains import chain_code, chain_codes, chain_text
from jetfm.generate.jpsi_classes import ChainList, count_chains, write_chains
from jetfm.generate.jpsi_decays import TOTAL_ENERGY, TOTAL_PX, find_decays, is_balanced
from jetfm.generate.jpsi_events import particles_of
from jetfm.generate.jpsi_table import (
  ADDED,
  MAX_PRODUCTS,
  conjugate_id,
  jpsi_channels,
  pythia_settings,
)
from jetfm.generate.pythia import EventRecords
from jetfm.generate.root_files import OutputError

pytest.importorskip("pythia8mc")
pytest.importorskip("decaylanguage")


@pytest.fixture(scope="module")
def sample():
  """About 2,600 decays and the codes of their chains."""
  source = PolarisedJpsi(np.random.SeedSequence(1))
  return [source.next_decays() for _ in range(3)]


def test_fractions_sum_to_one_and_no_channel_is_too_long_for_pythia():
  channels = jpsi_channels()
  assert sum(channel.fraction for channel in channels) == pytest.approx(1, abs=1e-12)
  assert all(0 < channel.fraction < 1 for channel in channels)
  assert max(len(channel.products) for channel in channels) <= MAX_PRODUCTS
  assert len({channel.products for channel in channels}) == len(channels)


def test_what_the_table_lacks_is_taken_from_three_gluons():
  from jetfm.generate.jpsi_table import _published

  published, now = dict(_published()), {c.products: c.fraction for c in jpsi_channels()}
  (long,) = (products for products in published if len(products) > MAX_PRODUCTS)
  assert len(long) == 9 and long not in now
  moved = published[long] - sum(fraction for _, fraction in ADDED)
  assert now[21, 21, 21] == pytest.approx(published[21, 21, 21] + moved)
  for products, fraction in ADDED:
    products = tuple(sorted(products))
    assert now[products] == pytest.approx(published.get(products, 0) + fraction)


def test_every_channel_has_its_charge_conjugate_with_the_same_fraction():
  from jetfm.generate.jpsi_table import _published

  published, now = dict(_published()), {c.products: c.fraction for c in jpsi_channels()}

  def conjugate(products):
    return tuple(sorted(map(conjugate_id, products)))

  split = [p for p in published if conjugate(p) not in published]
  assert len(split) == 5
  for products in split:
    assert now[products] == now[conjugate(products)] == pytest.approx(published[products] / 2)
  assert {conjugate(products) for products in now} == set(now)


def test_settings_name_every_channel_once_and_keep_the_proportions():
  lines = pythia_settings(enlarged_channels())
  assert lines[0].startswith("443:oneChannel")
  assert all(line.startswith("443:addChannel") for line in lines[1:])
  fractions = {}
  for line in lines:
    _, fraction, mode, *products = re.sub(".*= ", "", line).split()
    fractions[tuple(sorted(map(int, products)))] = float(fraction)
    assert int(mode) == (92 if "21" in products else 43 if "82" in products else 0)
  for channel in jpsi_channels():
    factor = enlarged_channels().get(channel.products, 1)
    assert fractions[channel.products] == pytest.approx(factor * channel.fraction)


def test_decays_keep_four_momentum_and_charge(sample):
  for decays, _ in sample:
    particles = particles_of(decays)
    totals = np.zeros((len(decays), 4))
    momenta = (particles.energy, particles.px, particles.py, particles.pz)
    np.add.at(totals, particles.event, np.stack(momenta, axis=1))
    # The rare neutrino is not among them.
    complete = np.abs(totals[:, 0] - TOTAL_ENERGY) < 1e-3
    assert complete.mean() > 0.99
    expected = (TOTAL_ENERGY, TOTAL_PX, 0, 0)
    np.testing.assert_allclose(totals[complete], np.tile(expected, (complete.sum(), 1)), atol=2e-4)
    charge = np.bincount(particles.event, particles.charge, len(decays))
    np.testing.assert_array_equal(charge[complete], 0)
    assert np.all(np.diff(particles.event) >= 0)


def record(*rows):
  """Decays from rows (pid, mother1); stable where nothing has it for a mother. Masses are zero."""
  pid, mother = (np.array(column) for column in zip((90, -1), *rows, strict=True))
  status = np.where(np.isin(np.arange(len(pid)), mother), -91, 91)
  none = np.full(len(pid), -1)
  offsets = np.array([0, len(pid)])
  return EventRecords(offsets, pid, status, mother, none, none, *np.zeros((8, len(pid))))


def texts(*rows):
  decays = find_decays(record(*rows))
  codes = chain_codes(decays)
  found = [chain_text(decays, number) for number in range(len(decays))]
  assert [chain_code(text) for text in found] == codes.tolist()
  return found


def test_order_of_daughters_does_not_matter_and_conjugates_differ():
  one = texts((443, -1), (211, 1), (-213, 1), (-211, 3), (111, 3), (22, 5), (22, 5))
  other = texts((443, -1), (-213, 1), (211, 1), (111, 2), (-211, 2), (22, 4), (22, 4))
  conjugate = texts((443, -1), (-211, 1), (213, 1), (211, 3), (111, 3), (22, 5), (22, 5))
  assert one == other == ["J/psi -> pi+ (rho- -> pi- pi0)"]
  assert conjugate == ["J/psi -> pi- (rho+ -> pi+ pi0)"]


def test_kaons_collapse_strings_are_seen_through_and_eta_is_expanded():
  kaons = texts((443, -1), (313, 1), (-311, 1), (310, 3), (321, 2), (-211, 2), (211, 4), (-211, 4))
  assert kaons == ["J/psi -> (K*0 -> K+ pi-) (K_S0 -> pi+ pi-)"]
  strings = texts((443, -1), (22, 1), (21, 1), (21, 1), (21, 3), (21, 4), (221, 5), (111, 5))
  assert strings == ["J/psi -> eta gamma pi0"]
  eta = texts((443, -1), (22, 1), (221, 1), (22, 3), (22, 3))
  assert eta == ["J/psi -> gamma (eta -> gamma gamma)"]


def test_decays_in_one_record_are_kept_apart():
  found = texts((443, -1), (443, -1), (11, 1), (13, 2), (-13, 2), (-11, 1))
  assert found == ["J/psi -> e+ e-", "J/psi -> mu+ mu-"]


def test_equal_products_at_different_places_are_different_chains():
  same = [
    "J/psi -> (eta -> gamma gamma) (eta' -> pi+ pi- (eta -> pi0 pi0 pi0))",
    "J/psi -> (eta -> pi0 pi0 pi0) (eta' -> pi+ pi- (eta -> gamma gamma))",
  ]
  assert chain_code(same[0]) != chain_code(same[1])
  assert final_state(same[0]) == final_state(same[1]) == "gamma gamma pi+ pi- pi0 pi0 pi0"


def test_codes_of_generated_chains_are_those_of_their_texts(sample):
  for decays, codes in sample[:1]:
    for number in range(100):
      assert chain_code(chain_text(decays, number)) == codes[number]


@pytest.mark.parametrize(
  "text", ["J/psi", "J/psi -> (eta gamma", "J/psi -> pi+ )", "J/psi ->", "J/psi -> nonsense pi+"]
)
def test_what_is_no_chain_says_so(text):
  with pytest.raises(ValueError, match=r"no decay chain|no particle"):
    chain_code(text)
  assert parse_chain("J/psi -> e+ e-") == ("J/psi", ["e+", "e-"])


def test_unbalanced_decays_are_found():
  records = record((443, -1), (443, -1), (11, 1), (-11, 1), (13, 2), (-13, 2))
  half = TOTAL_ENERGY / 2
  records.energy[3:] = half, half, half, half + 0.01
  records.px[3:] = TOTAL_PX / 2
  assert is_balanced(find_decays(records)).tolist() == [True, False]


def test_angles_of_a_polarised_jpsi(sample):
  """Moments of cos^2: 0.4 for leptons and, of the normal of rho pi, 0.2; flat would be 1/3."""
  leptons = [chain_code(text) for text in LEPTONS.values()]
  square, normals = [], []
  for decays, codes in sample:
    weight = angular_weight(decays, codes)
    assert np.all((weight >= 0) & (weight <= 1))
    of_leptons, of_rho = (
      np.isin(codes, chosen) for chosen in (leptons, [chain_code(text) for text in RHO_PI.values()])
    )
    assert np.all(weight[~(of_leptons | of_rho)] == 1)
    square += (2 * weight[of_leptons] - 1).tolist()
    particles = particles_of(decays.select(of_rho))
    momentum = np.stack([particles.px, particles.py, particles.pz], axis=1)
    plus, minus = (momentum[particles.pid == pid] for pid in (211, -211))
    normal = np.cross(plus, minus)
    normals += (normal[:, 2] ** 2 / (normal**2).sum(axis=1)).tolist()
  assert len(square) > 200 and len(normals) > 20
  assert np.mean(square) == pytest.approx(0.4, abs=4 * 0.31 / np.sqrt(len(square)))
  assert np.mean(normals) == pytest.approx(0.2, abs=4 * 0.24 / np.sqrt(len(normals)))


def test_enlarged_channels_come_as_often_as_the_table_says(sample):
  codes = np.concatenate([codes for _, codes in sample])
  now = {c.products: c.fraction for c in jpsi_channels()}
  for products, text in LEPTONS.items():
    expected = now[products] * len(codes)
    assert abs((codes == chain_code(text)).sum() - expected) < 4 * np.sqrt(expected)


def test_the_list_of_classes_is_sorted_and_canonical():
  counts = read_chains()
  assert len(counts) == 100
  assert list(counts.values()) == sorted(counts.values(), reverse=True)
  for name in counts:
    leaves = final_state(name)
    assert leaves.split() == sorted(leaves.split())
  known = ChainList(tuple(counts))
  codes = np.array([chain_code(name) for name in counts], np.uint64)
  np.testing.assert_array_equal(known.find(codes), np.arange(100))
  assert known.find(codes[:3] + np.uint64(1)).tolist() == [-1] * 3


def test_counted_chains_can_be_written_and_read(tmp_path):
  counts = count_chains(3, 0, 800)
  assert counts.total() >= 800
  assert counts == count_chains(3, 0, 800) != count_chains(3, 1, 800)
  write_chains(tmp_path / "chains.csv", counts, 5)
  read = read_chains(tmp_path / "chains.csv")
  assert len(read) == 5 and all(counts[name] == n for name, n in read.items())
  share = share_of_chains(tmp_path / "chains.csv")
  assert share == sum(read.values()) / counts.total() < 1


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "chain,count\nJ/psi -> what,3\n"])
def test_a_file_that_is_no_list_of_chains_is_one_line(tmp_path, content):
  path = tmp_path / "list.csv"
  path.write_text(content)
  with pytest.raises(OutputError, match="is no list of decay chains") as caught:
    read_chains(path)
  assert "\n" not in str(caught.value)
