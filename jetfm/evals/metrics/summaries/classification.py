"""All metrics of classification at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from jetfm.evals.metrics import classification as cls
from jetfm.evals.metrics import working_points as wp
from jetfm.evals.metrics.chains import chain_summary
from jetfm.evals.metrics.measurement import Measurement, measure
from jetfm.evals.metrics.summaries import errors
from jetfm.evals.metrics.weighting import counted

MANY_CLASSES = 20
"""With more, pairs of classes are too many to be resampled, and to be drawn."""


def classification_summary(
  probabilities: np.ndarray,
  label: np.ndarray,
  classes: Sequence[str],
  weight: np.ndarray | None = None,
  *,
  background: str = wp.BACKGROUND,
  bootstrap: int = 0,
) -> dict[str, Measurement]:
  """Accuracy, top-3, macro F1, AUC (ovr, ovo), ECE, rejection of `background` by each class.

  Of classes that are decay chains also what `chain_summary` gives.

  Shapes: probabilities (B, C), label (B,), C names of classes. Accuracies have binomial errors;
  `bootstrap` resamplings give errors to F1 and the AUCs (0: none; to auc_ovo not with more than
  `MANY_CLASSES`). Rejections are left out when `background` is not a class.
  Raises: ValueError when the names do not match the probabilities.
  """
  if len(classes) != np.shape(probabilities)[1]:
    raise ValueError(f"{len(classes)} class names for probabilities {np.shape(probabilities)}")
  weight, probabilities, label = counted(weight, probabilities, label)
  chance = cls.classification_chance(label, len(classes), weight)
  absent = [name for i, name in enumerate(classes) if not (label == i).any()]
  note = f"no test event of {', '.join(absent)}" if absent else ""
  if len(absent) == len(classes) - 1:
    note = f"all test events are {classes[int(label[0])]}"

  def guess(value: float) -> dict:
    return {"reference": value, "reference_kind": "chance", "note": note}

  out = {
    "accuracy": measure(
      lambda: cls.accuracy(probabilities, label, weight),
      error=cls.accuracy_error(probabilities, label, weight),
      baseline=chance["majority"],
      baseline_kind="always the largest class",
      **guess(chance["accuracy"]),
    ),
    "top3": measure(
      lambda: cls.top_k_accuracy(probabilities, label, weight, k=3),
      error=cls.accuracy_error(probabilities, label, weight, k=3),
      **guess(chance["top3"]),
    ),
  }
  out |= chain_summary(probabilities, label, classes, weight)

  def replicas(name: str) -> int:
    return 0 if name == "auc_ovo" and len(classes) > MANY_CLASSES else bootstrap

  for name, metric, level in (
    ("macro_f1", cls.macro_f1, chance["macro_f1"]),
    ("auc_ovr", cls.auc_ovr, chance["auc"]),
    ("auc_ovo", cls.auc_ovo, chance["auc"]),
  ):
    out[name] = measure(
      functools.partial(metric, probabilities, label, weight),
      error=errors.bootstrap(
        functools.partial(metric, probabilities, label), weight, replicas(name)
      ),
      **guess(level),
    )
  out["ece"] = measure(
    lambda: cls.expected_calibration_error(probabilities, label, weight),
    reference=0.0,
    reference_kind="floor",
  )
  if background in classes:
    b = list(classes).index(background)
    for s, name in enumerate(classes):
      if s != b:
        rows = (label == s) | (label == b)
        out[wp.metric_name("rejection", name, background)] = wp.background_rejection(
          wp.discriminant(probabilities[rows], s, b),
          label[rows] == s,
          wp.working_point_of(name),
          weight[rows],
        )
  return out
