"""Section of regression: each target against its truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jetfm.evals.metrics import Measurement, jet_mass, regression_summary
from jetfm.evals.sections.jets import Jets, Section

CONSTITUENTS = ("mass", "gen_mass")
"""Targets that the mass of the jet's particles estimates without any training."""

CALIBRATED = ("gen_mass",)
"""Those of which it is a biased estimate: what the detector loses, a straight line gives back."""

WORDS = {"mass": "mass", "gen_mass": "particle-level mass", "seed_mass": "seed's mass"}


def regression_section(
  jets: Jets,
  predicted: Mapping[str, np.ndarray],
  scales: Mapping[str, tuple[float, float]],
  training: Jets | None = None,
  *,
  bootstrap: int = 0,
  figures: bool = True,
) -> Section:
  """Metrics of each target, over the jets that have it.

  Shapes: predicted target -> (B,) in its unit; scales target -> mean and standard deviation that
  standardised it in training. The baseline is the mass of the jet's particles where it estimates
  the target; with `training`, other jets than the true ones, on the best straight line there.
  """
  section = Section({})
  mass = jet_mass(jets.p4, jets.mask) if set(predicted) & set(CONSTITUENTS) else jets.pt
  for target, values in predicted.items():
    # Data may lack it as a whole, as published files lack what generated ones have.
    true = jets.targets.get(target, np.full(len(jets), np.nan))
    some = np.isfinite(true)
    if not some.any():
      reason = f"no test jet has a {target}"
      section.metrics[f"{target}_r2"] = Measurement(None, reason=reason)
      continue
    weight = jets.weight[some]
    baselines = {}
    if target in CONSTITUENTS:
      if target in CALIBRATED and (line := _line(training, target)):
        baselines["mass of the particles, calibrated"] = line[0] * mass[some] + line[1]
      baselines["mass of the particles"] = mass[some]
    mean, std = scales.get(target, (0.0, 1.0))
    section.metrics.update(
      regression_summary(
        target,
        values[some],
        true[some],
        mean,
        std,
        weight,
        baselines=baselines,
        bootstrap=bootstrap,
      )
    )
    section.details[target] = {"jets": int(some.sum()), "mean": mean, "std": std}
    if figures:
      from jetfm.evals import plots

      figure = plots.response_figure(
        values[some], true[some], weight, name=WORDS.get(target, target)
      )
      section.figures.append(("response", target, figure))
  return section


def _line(jets: Jets | None, target: str) -> tuple[float, float] | None:
  """Slope and intercept (GeV) of the target in the mass of the particles, by least squares.

  None without two jets that have the target and different masses.
  """
  if jets is None or target not in jets.targets:
    return None
  jets = jets.select(np.isfinite(jets.targets[target]))
  mass = jet_mass(jets.p4, jets.mask)
  if len(np.unique(mass)) < 2:
    return None
  slope, intercept = np.polyfit(mass, jets.targets[target], 1, w=np.sqrt(jets.weight))
  return float(slope), float(intercept)
