"""Classification metrics. C classes; label (B,) counts from 0, -1 is not allowed here.

`confusion_matrix` adds over chunks of data, and accuracy and F1 follow from it. AUC needs all
scores at once: float32 (B, C) is 40 bytes per jet of ten classes, 0.8 GB for the 20 M jets of
JetClass's test set; each AUC sorts one column, 40 bytes per event on top.
"""

from __future__ import annotations

import itertools

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric
from jetfm.evals.metrics.weighting import counted, weighted_mean


def _checked(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  probabilities = np.asarray(probabilities)
  if probabilities.ndim != 2 or probabilities.shape[1] < 2:
    raise ValueError(f"probabilities have shape {probabilities.shape}, expected (B, C), C >= 2")
  weight, probabilities, label = counted(weight, probabilities, label)
  if label.ndim != 1 or not np.issubdtype(label.dtype, np.integer):
    raise ValueError(f"label is {label.dtype}{label.shape}, expected integers (B,)")
  if label.min() < 0 or label.max() >= probabilities.shape[1]:
    raise ValueError(
      f"labels run from {label.min()} to {label.max()}, but there are "
      f"{probabilities.shape[1]} classes; drop unlabelled events first"
    )
  if not np.isfinite(probabilities).all():
    raise ValueError("probabilities hold NaN or infinity: look at the model, not at the metric")
  return probabilities, label, weight


def confusion_matrix(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
  """Weight of events of true class i (row) whose largest probability is class j, (B, C) -> (C, C).

  Equal largest probabilities count for the first class. Sums over chunks of a data set add.
  """
  probabilities, label, weight = _checked(probabilities, label, weight)
  num_classes = probabilities.shape[1]
  cell = label * num_classes + probabilities.argmax(axis=1)
  matrix = np.bincount(cell, weights=weight, minlength=num_classes**2)
  return matrix.reshape(num_classes, num_classes)


def accuracy(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Share of the weight whose most probable class is the true one, (B, C), (B,) -> [0, 1]."""
  return top_k_accuracy(probabilities, label, weight, k=1)


def top_k_accuracy(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None, *, k: int = 3
) -> float:
  """Share of the weight whose true class is among the k most probable, (B, C), (B,) -> [0, 1].

  Among equal probabilities the lower class number comes first.
  """
  probabilities, label, weight = _checked(probabilities, label, weight)
  own = np.take_along_axis(probabilities, label[:, None], axis=1)
  earlier = np.arange(probabilities.shape[1]) < label[:, None]
  rank = np.sum((probabilities > own) | ((probabilities == own) & earlier), axis=1)
  return weighted_mean(rank < k, weight)


def accuracy_error(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None, *, k: int = 1
) -> float:
  """Binomial standard deviation of the (top-k) accuracy; weighted events count less."""
  a = top_k_accuracy(probabilities, label, weight, k=k)
  weight, _ = counted(weight, label)
  return float(np.sqrt(a * (1 - a) * np.sum(weight**2)) / weight.sum())


def macro_f1(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean over classes of F1 = 2 TP/(2 TP + FP + FN), (B, C), (B,) -> [0, 1].

  Over the classes that occur as label or as prediction, as scikit-learn does.
  """
  matrix = confusion_matrix(probabilities, label, weight)
  size = matrix.sum(axis=0) + matrix.sum(axis=1)
  return float(np.mean(2 * np.diag(matrix)[size > 0] / size[size > 0]))


def binary_auc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> float:
  """Probability that a positive event scores above a negative one, ties half, (B,), (B,) bool.

  Raises: UndefinedMetric when one of the two kinds is missing; ValueError for a score that is not
    finite, which has no order.
  """
  weight, score, positive = counted(weight, score, positive)
  if not np.isfinite(score).all():
    raise ValueError("scores hold NaN or infinity: look at the model, not at the metric")
  positive = positive.astype(bool)
  order = np.argsort(score, kind="stable")
  score, positive, weight = score[order], positive[order], weight[order]
  start = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
  ups = np.add.reduceat(np.where(positive, weight, 0.0), start)
  downs = np.add.reduceat(np.where(positive, 0.0, weight), start)
  if ups.sum() == 0 or downs.sum() == 0:
    kind = "positive" if ups.sum() == 0 else "negative"
    raise UndefinedMetric(f"AUC needs both kinds of events, there is no {kind} one")
  below = np.cumsum(downs) - downs
  return float(np.sum(ups * (below + downs / 2)) / (ups.sum() * downs.sum()))


def present_classes(label: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
  """Class numbers that occur with a positive weight, sorted.

  Raises: UndefinedMetric when it is only one: no AUC is defined then.
  """
  _, label = counted(weight, label)
  classes = np.unique(label)
  if len(classes) < 2:
    raise UndefinedMetric(
      f"AUC needs at least two classes, the test set holds only class {classes[0]}"
    )
  return classes


def auc_ovr(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean over the classes that occur of the AUC of p_c between class c and all others.

  Shapes: (B, C), (B,) -> [0, 1]. Raises: UndefinedMetric for a single class.
  """
  probabilities, label, weight = _checked(probabilities, label, weight)
  classes = present_classes(label)
  return float(np.mean([binary_auc(probabilities[:, c], label == c, weight) for c in classes]))


def auc_ovo(
  probabilities: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """Mean over ordered pairs (i, j) of the AUC of p_i between the events of class i and of j.

  Shapes: (B, C), (B,) -> [0, 1]. The AUC of the ParT paper, arXiv:2202.03772.
  Raises: UndefinedMetric for a single class.
  Source: D. J. Hand, R. J. Till, Mach. Learn. 45 (2001) 171.
  """
  probabilities, label, weight = _checked(probabilities, label, weight)
  values = []
  for i, j in itertools.combinations(present_classes(label), 2):
    rows = (label == i) | (label == j)
    for c in (i, j):
      values.append(binary_auc(probabilities[rows, c], label[rows] == c, weight[rows]))
  return float(np.mean(values))


def expected_calibration_error(
  probabilities: np.ndarray,
  label: np.ndarray,
  weight: np.ndarray | None = None,
  *,
  bins: int = 15,
) -> float:
  """Mean |accuracy - confidence| over equal bins of the largest probability, (B, C), (B,).

  0 for a calibrated classifier of infinitely many events. Source: arXiv:1706.04599.
  """
  probabilities, label, weight = _checked(probabilities, label, weight)
  confidence = probabilities.max(axis=1).astype(np.float64)
  right = probabilities.argmax(axis=1) == label
  which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
  gap = np.bincount(which, weights=weight * (right - confidence), minlength=bins)
  return float(np.sum(np.abs(gap)) / weight.sum())


def classification_chance(
  label: np.ndarray, num_classes: int, weight: np.ndarray | None = None
) -> dict[str, float]:
  """What guessing reaches, and always answering the largest class: label (B,) -> named numbers.

  accuracy, top3, macro_f1: each class guessed equally often; auc: 0.5; majority: the share of the
  largest class.
  """
  weight, label = counted(weight, label)
  share = np.bincount(label, weights=weight, minlength=num_classes) / weight.sum()
  guess = 1 / num_classes
  return {
    "accuracy": guess,
    "top3": min(3 * guess, 1.0),
    "macro_f1": float(np.mean(2 * share * guess / (share + guess))),
    "auc": 0.5,
    "majority": float(share.max()),
  }
