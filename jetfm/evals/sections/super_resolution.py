"""Section of super-resolution: whole jets from their leading particles."""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics import (
  Measurement,
  particle_coordinates,
  seed_constants,
  seed_coordinates,
  super_resolution_seed,
  super_resolution_summary,
)
from jetfm.evals.metrics.seed import SUPER_RESOLVED_SLOTS
from jetfm.evals.metrics.weighting import weighted_mean
from jetfm.evals.sections.jets import Jets, Section, of_different_classes, packed_by_pt

CHUNK_JETS = 2048
SHOWN = 3
"""Jets in the display."""


def super_resolution_section(
  jets: Jets,
  predicted: Jets,
  given: int,
  training: Jets | None,
  classes: tuple[str, ...] = (),
  *,
  seed: int = 0,
  figures: bool = True,
) -> Section:
  """Per-jet distances to the truth, beside those of the copied input.

  `predicted` are the same jets in the same order; the input is the `given` particles of largest pT.
  The seed's variants need jets of training, for their standardisation.
  """
  low = packed_by_pt(jets.p4, jets.mask, given)
  metrics = super_resolution_summary(
    predicted.p4,
    predicted.mask,
    jets.p4,
    jets.mask,
    *low,
    jets.label,
    jets.weight,
    seed=seed,
  )
  if training is not None:
    metrics |= _as_the_seed(jets, predicted, low, training)
  section = Section(metrics, {"given": given})
  if figures:
    section.figures.append(("jets", "", _draw(jets, predicted, low, classes)))
  return section


def _as_the_seed(jets: Jets, predicted: Jets, low, training: Jets) -> dict[str, Measurement]:
  """Over as many slots as there, padding included, however long the arrays are here."""
  mean, std = seed_constants(training.p4, training.mask)

  def seen(p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return seed_coordinates(*packed_by_pt(p4, mask, SUPER_RESOLVED_SLOTS), mean, std)

  found: dict[str, dict[str, list[np.ndarray]]] = {"value": {}, "baseline": {}}
  for i in range(0, len(jets), CHUNK_JETS):
    part = slice(i, i + CHUNK_JETS)
    true = seen(jets.p4[part], jets.mask[part])
    for kind, (p4, mask) in (("value", (predicted.p4, predicted.mask)), ("baseline", low)):
      for name, values in super_resolution_seed(seen(p4[part], mask[part]), true).items():
        found[kind].setdefault(name, []).append(values)
  mean_of = {
    kind: {name: weighted_mean(np.concatenate(v), jets.weight) for name, v in names.items()}
    for kind, names in found.items()
  }
  return {
    name: Measurement(value, baseline=mean_of["baseline"][name], baseline_kind="copied input")
    for name, value in mean_of["value"].items()
  }


def _draw(jets: Jets, predicted: Jets, low, classes: tuple[str, ...]):
  from jetfm.evals import plots

  # Of those that lost most.
  lost = jets.mask.sum(axis=1) - low[1].sum(axis=1)
  rows = of_different_classes(jets.label, np.argsort(-lost, kind="stable"), SHOWN)
  eta, phi = jets.axis

  def around_axis(p4: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    coordinates = particle_coordinates(p4[rows], mask[rows])
    shown = []
    for k, i in enumerate(rows):
      pt, e, f, _ = coordinates[k][mask[i]].T
      dphi = np.remainder(f - phi[i] + np.pi, 2 * np.pi) - np.pi
      shown.append(np.stack([pt, e - eta[i], dphi], axis=1))
    return shown

  views = {
    "input": around_axis(*low),
    "super-resolved": around_axis(predicted.p4, predicted.mask),
    "true": around_axis(jets.p4, jets.mask),
  }
  titles = [classes[jets.label[i]] if 0 <= jets.label[i] < len(classes) else "" for i in rows]
  return plots.jet_display_figure(views, titles)
