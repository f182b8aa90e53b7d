"""Section of a tagger: metrics, working points, their dependence on pT, sculpting of the mass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.evals.metrics import (
  MANY_CLASSES,
  BinnedEfficiency,
  MassSculpting,
  Measurement,
  UndefinedMetric,
  binned_efficiency,
  class_table,
  classification_summary,
  confusion_matrix,
  discriminant,
  jet_mass,
  mass_sculpting,
  roc_curve,
  working_point_of,
  worst_confusions,
)
from jetfm.evals.metrics.working_points import BACKGROUND, metric_name
from jetfm.evals.sections.jets import Jets, Section, json_numbers

MASS_EDGES = np.arange(0.0, 301.0, 10.0)
"""Bins in GeV of the mass whose sculpting is measured: fixed, for the distance depends on them."""

CURVE_POINTS = 500


def classification_section(
  jets: Jets,
  probabilities: np.ndarray,
  classes: Sequence[str],
  *,
  background: str = BACKGROUND,
  bootstrap: int = 0,
  pt_bins: int = 5,
  seed: int = 0,
  figures: bool = True,
) -> Section:
  """Metrics, and efficiency, rejection and sculpting at the working point of each class.

  Shapes: probabilities (B, C). Jets without a label do not count. Bins of jet pT hold equally many
  jets; the mass is the soft-drop mass where the data set has it. The details hold the confusion
  matrix, its largest entries, precision, recall and F1 of each class, and the binned efficiencies.
  """
  labelled = jets.label >= 0
  if not labelled.any():
    return Section({"accuracy": Measurement(None, reason="no test jet has a label")})
  jets, probabilities = jets.select(labelled), np.asarray(probabilities)[labelled]
  metrics = classification_summary(
    probabilities, jets.label, classes, jets.weight, background=background, bootstrap=bootstrap
  )
  matrix = confusion_matrix(probabilities, jets.label, jets.weight)
  details: dict = {
    "classes": list(classes),
    "confusion": matrix.tolist(),
    "worst_confusions": worst_confusions(matrix, classes),
    "per_class": class_table(probabilities, jets.label, classes, jets.weight),
  }
  curves: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}
  binned: dict[str, BinnedEfficiency | None] = {}
  sculpted: dict[str, MassSculpting | None] = {}
  if background in classes:
    pt = jets.spectators.get("jet_pt", jets.pt)
    softdrop = jets.spectators.get("jet_sdmass")
    mass = jet_mass(jets.p4, jets.mask) if softdrop is None else softdrop
    edges = np.unique(np.quantile(pt, np.linspace(0, 1, pt_bins + 1)))
    b = list(classes).index(background)
    for s, name in enumerate(classes):
      if s == b:
        continue
      rows = (jets.label == s) | (jets.label == b)
      score, is_signal = discriminant(probabilities[rows], s, b), jets.label[rows] == s
      weight, point = jets.weight[rows], working_point_of(name)
      curves[name], binned[name] = None, None
      if is_signal.any() and not is_signal.all():
        curve = roc_curve(score, is_signal, weight, max_points=CURVE_POINTS)
        curves[name] = curve[:2]
        if len(edges) > 1:
          binned[name] = binned_efficiency(score, is_signal, point, pt[rows], edges, weight)
      sculpted[name], metrics[metric_name("sculpting", name, background)] = _sculpting(
        score, is_signal, point, mass[rows], weight, seed
      )
    details["pt_dependence"] = {name: _bins(b) for name, b in binned.items() if b is not None}
    details["mass"] = "constituents" if softdrop is None else "soft drop"
  section = Section(metrics, details)
  if figures:
    section.figures.extend(_draw(curves, binned, sculpted, matrix, details, background))
  return section


def _sculpting(score, is_signal, point, mass, weight, seed):
  try:
    s = mass_sculpting(score, is_signal, point, mass, MASS_EDGES, weight, seed=seed)
  except UndefinedMetric as error:
    return None, Measurement(None, reason=str(error))
  note = f"from {s.passed:.0f} jets" if s.passed < 100 else ""
  return s, Measurement(s.distance, reference=s.floor, reference_kind="floor", note=note)


def _bins(b: BinnedEfficiency) -> dict[str, list[float | None]]:
  return {
    "edges": json_numbers(b.edges),
    "efficiency": json_numbers(b.signal),
    "efficiency_error": json_numbers(b.signal_error),
    "background_efficiency": json_numbers(b.background),
    "rejection": json_numbers(b.rejection),
    "rejection_error": json_numbers(b.rejection_error),
  }


def _draw(curves, binned, sculpted, matrix, details, background):
  from jetfm.evals import plots

  classes = details["classes"]
  if len(classes) > MANY_CLASSES:
    drawn = [
      ("confusions", "", plots.confusions_figure(details["worst_confusions"])),
      ("confusion", "", plots.confusion_figure(matrix, classes, written=False)),
    ]
  else:
    drawn = [("confusion", "", plots.confusion_figure(matrix, classes))]
  if any(curve is not None for curve in curves.values()):
    drawn += [
      ("roc", "", plots.roc_figure(curves, background)),
      ("pt_dependence", "", plots.pt_dependence_figure(binned)),
      ("sculpting", "", plots.sculpting_figure(sculpted, background)),
    ]
  return drawn
