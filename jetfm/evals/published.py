"""Published numbers, by source and by the metric of ours that measures the same.

A number stands beside ours only where the definitions agree: regression of the seed beside
`seed_mass` on the standardised target, its generation and super-resolution beside the `*_seed`
variants. Where its README and its results file disagree, both are given.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
  """name: column of a table; source: where from; setting: data and training; numbers by metric.

  `other` holds a second published figure of the same metric.
  """

  name: str
  source: str
  setting: str
  numbers: dict[str, float]
  other: dict[str, float] = dataclasses.field(default_factory=dict)


SEED = Published(
  "seed",
  "outputs/eval_all_results.json of ranjeet258/Specific-Tasks-2a-FM-for-E2E-EventReconstruction "
  "(in brackets: its README)",
  "80,000 JetClass jets for training, pT, deta, dphi and E only, 2.4 M parameters",
  {
    "accuracy": 0.4905,
    "top3": 0.8005,
    "macro_f1": 0.4798,
    "auc_ovr": 0.8756,
    "seed_mass_mse": 0.0600,
    "seed_mass_mae": 0.1689,
    "seed_mass_r2": 0.9403,
    "seed_mass_resolution": 0.3084,
    "mmd_seed": 0.1465,
    "pt_kl_seed": 3.5464,
    "histogram_mse_seed": 0.0024,
    "chamfer_seed": 0.2169,
    "pt_emd_seed": 0.1479,
    "multiplicity_error_seed": 0.2237,
  },
  {
    "pt_kl_seed": 3.7953,
    "chamfer_seed": 0.1970,
    "pt_emd_seed": 0.1056,
    "multiplicity_error_seed": 0.1768,
  },
)

PART = Published(
  "ParT",
  "arXiv:2202.03772",
  "100 M JetClass jets for training, all 17 inputs, 2.1 M parameters",
  {"accuracy": 0.861},
)

PUBLISHED = (SEED, PART)
