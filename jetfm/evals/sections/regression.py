"""Section of regression: each target against its truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jetfm.evals.metrics import Measurement, jet_mass, regression_summary
from jetfm.evals.sections.jets import Jets, Section

CONSTITUENTS = ("mass", "gen_mass")
"""Targets that the mass of the jet's particles estimates without any training."""

WORDS = {"mass": "mass", "gen_mass": "particle-level mass", "seed_mass": "seed's mass"}


def regression_section(
  jets: Jets,
  predicted: Mapping[str, np.ndarray],
  scales: Mapping[str, tuple[float, float]],
  *,
  bootstrap: int = 0,
  figures: bool = True,
) -> Section:
  """Metrics of each target, over the jets that have it.

  Shapes: predicted target -> (B,) in its unit; scales target -> mean and standard deviation that
  standardised it in training.
  """
  section = Section({})
  mass = jet_mass(jets.p4, jets.mask) if set(predicted) & set(CONSTITUENTS) else jets.pt
  for target, values in predicted.items():
    true = jets.targets[target]
    some = np.isfinite(true)
    if not some.any():
      reason = f"no test jet has a {target}"
      section.metrics[f"{target}_r2"] = Measurement(None, reason=reason)
      continue
    weight = jets.weight[some]
    baselines = {}
    if target in CONSTITUENTS:
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
