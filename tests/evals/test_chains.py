"""Classes that are decay chains: what an oracle of the final state reaches, and single classes."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from jetfm.decay_chains import final_states, is_leptonic
from jetfm.evals import metrics

CLASSES = (
  "J/psi -> e+ e-",
  "J/psi -> pi+ pi- pi0",
  "J/psi -> pi0 (rho0 -> pi+ pi-)",
  "J/psi -> pi+ (rho- -> pi- pi0)",
  "J/psi -> K+ K- pi0",
)


@pytest.fixture(scope="module")
def sample():
  rng = np.random.default_rng(0)
  label = rng.choice(len(CLASSES), 400, p=(0.3, 0.1, 0.2, 0.15, 0.25))
  p = rng.dirichlet(np.ones(len(CLASSES)), 400) + 0.5 * np.eye(len(CLASSES))[label]
  return p / p.sum(axis=1, keepdims=True), label, rng.uniform(0.5, 2, 400)


def values(found):
  return {name: m.value for name, m in found.items()}


def test_no_function_of_the_final_state_is_better_than_the_oracle(sample):
  _, label, weight = sample
  states = final_states(CLASSES)
  names = sorted(set(states))
  number = np.array([names.index(s) for s in states])[label]
  answers = itertools.product(range(len(CLASSES)), repeat=len(names))
  best = max(np.average(np.array(a)[number] == label, weights=weight) for a in answers)
  assert metrics.oracle_accuracy(label, states, weight) == pytest.approx(best, rel=1e-12)


def test_perfect_answers_are_better_than_the_oracle(sample):
  _, label, weight = sample
  found = values(metrics.chain_summary(np.eye(len(CLASSES))[label], label, CLASSES, weight))
  assert found["final_state_accuracy"] == pytest.approx(1)
  assert found["accuracy_hadronic"] == pytest.approx(1)
  assert found["oracle_accuracy_hadronic"] < found["oracle_accuracy"] < 1


def test_leptonic_events_do_not_count(sample):
  p, label, weight = sample
  rows = label != 0
  whole = metrics.chain_summary(p, label, CLASSES, weight)
  alone = metrics.accuracy(p[rows], label[rows], weight[rows])
  assert whole["accuracy_hadronic"].value == pytest.approx(alone)
  assert whole["accuracy_hadronic"].baseline == whole["oracle_accuracy_hadronic"].value
  only = metrics.chain_summary(p[~rows], label[~rows], CLASSES)
  assert only["accuracy_hadronic"].value is None and only["accuracy_hadronic"].reason


def test_resonances_of_one_final_state_are_the_same_to_it(sample):
  _, label, _ = sample
  swapped = np.array([0, 2, 3, 1, 4])[label]
  found = values(metrics.chain_summary(np.eye(len(CLASSES))[swapped], label, CLASSES))
  assert found["final_state_accuracy"] == 1 > found["accuracy_hadronic"]


def test_names_that_are_no_chains_have_no_final_state(sample):
  p, label, _ = sample
  assert metrics.chain_summary(p, label, ("QCD", "Hbb", "Hcc", "Hgg", "H4q")) == {}


@pytest.mark.parametrize(
  ("state", "leptonic"),
  [("e+ e-", True), ("e+ e- gamma", True), ("gamma gamma", False), ("e+ e- pi0", False)],
)
def test_leptonic_states(state, leptonic):
  assert is_leptonic(state) is leptonic


def test_single_classes_as_scikit_learn(sample):
  p, label, weight = sample
  table = metrics.class_table(p, label, CLASSES, weight)
  expected = precision_recall_fscore_support(label, p.argmax(axis=1), sample_weight=weight)
  for row in table:
    c = CLASSES.index(row["class"])
    got = [row[name] for name in ("precision", "recall", "f1", "events")]
    others = [column[c] for column in expected[:3]] + [weight[label == c].sum()]
    np.testing.assert_allclose(got, others)
  assert [row["events"] for row in table] == sorted((r["events"] for r in table), reverse=True)


def test_worst_confusions_are_the_largest_shares_of_frequent_classes():
  matrix = np.array([[50, 40, 10], [0, 100, 0], [9, 0, 1]])
  first, second = metrics.worst_confusions(matrix, "abc", fewest=20)
  assert (first["true"], first["called"], first["share"]) == ("a", "b", 0.4)
  assert (second["true"], second["called"], second["events"]) == ("a", "c", 10)
  assert metrics.worst_confusions(matrix, "abc", fewest=0)[0]["true"] == "c"
