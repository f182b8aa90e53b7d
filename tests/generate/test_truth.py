"""Truth matching on event records and jets made by hand."""

import numpy as np
import pytest

from jetfm.generate.processes import CLASS_NAMES, PROCESSES, process_of_file
from jetfm.generate.pythia import EventRecords
from jetfm.generate.truth import find_resonances, match


def record(*events):
  """Events as lists of (pid, daughter1, daughter2, pt, eta, phi); daughters within the event."""
  offsets = np.concatenate([[0], np.cumsum([len(event) for event in events])])
  rows = np.array([row for event in events for row in event], dtype=float)
  first = np.repeat(offsets[:-1], np.diff(offsets))
  pid, daughter1, daughter2, pt, eta, phi = rows.T
  daughters = [np.where(d > 0, d + first, -1).astype(int) for d in (daughter1, daughter2)]
  zero = np.zeros(len(rows))
  px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
  return EventRecords(
    offsets,
    pid.astype(int),
    zero.astype(int),
    (zero - 1).astype(int),
    *daughters,
    px,
    py,
    pz,
    pt * np.cosh(eta),
    *[zero] * 4,
  )


HBB = [
  (90, 0, 0, 1, 0, 0),
  (25, 2, 2, 600, 0.5, 3.0),  # recoils into its last copy
  (25, 3, 4, 610, 0.5, 3.0),
  (5, 5, 6, 300, 0.6, 3.1),
  (-5, 0, 0, 310, 0.4, -3.1),  # on the other side of the seam in phi
  (5, 0, 0, 200, 2.0, 0.0),  # what radiation leaves of the quark does not count
  (21, 0, 0, 100, 2.0, 0.0),
]

TOP = [
  (90, 0, 0, 1, 0, 0),
  (-6, 2, 3, 700, 0.0, 0.0),
  (-24, 4, 4, 400, 0.1, 0.0),
  (-5, 0, 0, 300, -0.2, 0.0),
  (-24, 5, 6, 400, 0.1, 0.0),
  (3, 0, 0, 200, 0.3, 0.1),
  (-4, 0, 0, 200, 0.0, -0.1),
]

LEPTONIC_TOP = [
  *TOP[:5],
  (11, 7, 7, 200, 0.3, 0.1),
  (-12, 0, 0, 200, 3.0, 3.0),
  (11, 0, 0, 190, 0.3, 0.1),
]


def matched(records, process, event, eta, phi):
  return match(np.array(event), np.array(eta), np.array(phi), find_resonances(records, process))


def test_last_copy_and_direct_daughters():
  found = find_resonances(record(HBB), PROCESSES["Hbb"])
  assert len(found) == 1 and found.code[0] == 41
  assert found.pt[0] == pytest.approx(610)
  np.testing.assert_array_equal(found.product_pid, [[5, 0, -5, 0]])


@pytest.mark.parametrize(
  "eta, phi, inside",
  [(0.5, 3.1, True), (0.5, -3.1, True), (1.19, 3.12, True), (1.25, 3.12, False), (0.5, 2.2, False)],
)
def test_jet_contains_all_products(eta, phi, inside):
  found = matched(record(HBB), PROCESSES["Hbb"], [0], [eta], [phi])
  assert (found[0] == 0) == inside


def test_jets_see_only_their_own_event():
  found = matched(record(TOP, HBB), PROCESSES["Hbb"], [0, 1], [0.5, 0.5], [3.1, 3.1])
  assert found.tolist() == [-1, 0]


def test_second_resonance_of_an_event():
  other = [
    (pid, d1 and d1 + 6, d2 and d2 + 6, pt, eta, phi + 3) for pid, d1, d2, pt, eta, phi in TOP[1:]
  ]
  records = record([*TOP, *other])
  found = matched(records, PROCESSES["Tbqq"], [0, 0], [0.0, 0.0], [3.0, 0.0])
  assert found.tolist() == [1, 0]


@pytest.mark.parametrize(
  "w_daughters, code", [((3, -4), 11), ((1, -2), 12), ((5, -4), 11)], ids=["cs", "ud", "cb"]
)
def test_codes_of_hadronic_tops(w_daughters, code):
  event = [*TOP[:5], *((pid, *TOP[5][1:]) for pid in w_daughters)]
  assert find_resonances(record(event), PROCESSES["Tbqq"]).code.tolist() == [code]


def test_leptonic_top_needs_its_lepton_but_not_its_neutrino():
  records = record(LEPTONIC_TOP)
  found = find_resonances(records, PROCESSES["Tbl"])
  assert found.code.tolist() == [15]
  assert matched(records, PROCESSES["Tbl"], [0, 0], [0.0, -0.8], [0.0, 0.0]).tolist() == [0, -1]
  # It is no hadronic top.
  assert len(find_resonances(records, PROCESSES["Tbqq"])) == 0


@pytest.mark.parametrize("pid, code", [(5, 31), (4, 32), (1, 33), (12, None)])
def test_z_decays(pid, code):
  event = [
    (90, 0, 0, 1, 0, 0),
    (23, 2, 3, 600, 0, 0),
    (pid, 0, 0, 300, 0, 0),
    (-pid, 0, 0, 300, 0, 0),
  ]
  assert find_resonances(record(event), PROCESSES["Zqq"]).code.tolist() == ([code] if code else [])


def test_class_ids_follow_the_published_order_and_prefixes_are_found_longest_first():
  assert [PROCESSES[name].class_id for name in CLASS_NAMES] == list(range(10))
  for process in PROCESSES.values():
    assert process_of_file(f"{process.prefix}_007.root") is process
  assert process_of_file("Other_000.root") is None
