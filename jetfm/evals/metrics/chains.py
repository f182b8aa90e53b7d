"""Metrics of classes that are decay chains: what the final state alone would tell, and what not.

Classes of one final state differ only in the resonances between; classes of leptons are alone in
theirs, and easy. So a classifier is shown beside an oracle that knows the true final state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.decay_chains import final_states, is_leptonic
from jetfm.evals.metrics.classification import accuracy, accuracy_error, confusion_matrix
from jetfm.evals.metrics.measurement import Measurement, measure
from jetfm.evals.metrics.weighting import counted, weighted_mean

ORACLE = "final-state oracle"


def oracle_accuracy(
  label: np.ndarray, states: Sequence[str], weight: np.ndarray | None = None
) -> float:
  """Best accuracy of what sees only the true final state: it answers its most frequent class.

      A = sum_s max_{c in s} W_c / sum_c W_c

  Shapes: label (B,); states: the final state of each class. Frequencies W are those of these very
  events, so that nothing that sees only the final state can be better on them.
  """
  weight, label = counted(weight, label)
  share = np.bincount(label, weights=weight, minlength=len(states)) / weight.sum()
  best: dict[str, float] = {}
  for state, value in zip(states, share, strict=True):
    best[state] = max(best.get(state, 0.0), float(value))
  return sum(best.values())


def chain_summary(
  probabilities: np.ndarray,
  label: np.ndarray,
  classes: Sequence[str],
  weight: np.ndarray | None = None,
) -> dict[str, Measurement]:
  """Accuracy without leptonic classes, accuracy of the final state, and the oracle of both kinds.

  Shapes: probabilities (B, C), label (B,), C names of classes. Empty when the names are no chains.
  The accuracy without leptonic classes is that of events whose true class is none; any of all
  classes may be answered.
  """
  states = final_states(classes)
  if not states:
    return {}
  weight, probabilities, label = counted(weight, probabilities, label)
  number = np.unique(states, return_inverse=True)[1]
  right = number[probabilities.argmax(axis=1)] == number[label]
  out = {
    "final_state_accuracy": Measurement(weighted_mean(right, weight)),
    "oracle_accuracy": Measurement(oracle_accuracy(label, states, weight)),
  }
  rows = ~np.array([is_leptonic(state) for state in states])[label]
  if not rows.any():
    reason = "all test events are leptonic"
    return out | {"accuracy_hadronic": Measurement(None, reason=reason)}
  some = probabilities[rows], label[rows], weight[rows]
  oracle = oracle_accuracy(label[rows], states, weight[rows])
  out["accuracy_hadronic"] = measure(
    lambda: accuracy(*some),
    error=accuracy_error(*some),
    reference=1 / len(classes),
    reference_kind="chance",
    baseline=oracle,
    baseline_kind=ORACLE,
  )
  out["oracle_accuracy_hadronic"] = Measurement(oracle)
  return out


def class_table(
  probabilities: np.ndarray,
  label: np.ndarray,
  classes: Sequence[str],
  weight: np.ndarray | None = None,
) -> list[dict[str, str | float | None]]:
  """Precision, recall and F1 of each class, the most frequent ones first.

  None where a class was never answered, or never occurs.
  """
  matrix = confusion_matrix(probabilities, label, weight)
  true, called, both = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
  return [
    {
      "class": classes[c],
      "events": float(true[c]),
      "precision": float(both[c] / called[c]) if called[c] else None,
      "recall": float(both[c] / true[c]) if true[c] else None,
      "f1": float(2 * both[c] / (called[c] + true[c])) if called[c] + true[c] else None,
    }
    for c in np.argsort(-true, kind="stable")
  ]


def worst_confusions(
  matrix: np.ndarray, classes: Sequence[str], most: int = 10, fewest: float = 20
) -> list[dict[str, str | float]]:
  """Pairs of classes with the largest share of the true one taken for the other.

  Shapes: matrix (C, C), rows of true classes. Classes of less than `fewest` events do not count:
  their shares are chance.
  """
  total = matrix.sum(axis=1, keepdims=True)
  share = np.divide(matrix, total, where=total >= max(fewest, 1e-12), out=np.zeros(matrix.shape))
  np.fill_diagonal(share, 0)
  order = np.argsort(-share, axis=None, kind="stable")[:most]
  pairs = np.stack(np.unravel_index(order, share.shape), axis=1)
  return [
    {
      "true": classes[i],
      "called": classes[j],
      "share": float(share[i, j]),
      "events": float(matrix[i, j]),
    }
    for i, j in pairs
    if share[i, j] > 0
  ]
