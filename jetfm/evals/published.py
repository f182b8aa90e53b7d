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

  `other` holds a second published figure of the same metric; `of` says what the numbers are of,
  jets or events.
  """

  name: str
  source: str
  setting: str
  numbers: dict[str, float]
  other: dict[str, float] = dataclasses.field(default_factory=dict)
  of: str = "jets"


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

CLEAR_STRATEGIES = {
  "knn": 0.5433,
  "probe_1": 0.5979,
  "probe_2": 0.6114,
  "probe_3": 0.6116,
  "class_attention": 0.6527,
  "differential": 0.6911,
  "multi_task": 0.6929,
  "two_stage": 0.6853,
}
"""Accuracy of 100 classes by stage of configs/clear.py, and of the k-NN probe."""

CLEAR = Published(
  "CLEAR",
  "BESIII foundation model, talk of April 2026",
  "3 M simulated events of BESIII, 100 classes, which are not those of the generator here; the "
  "accuracy is that of training everything with learning rates that fall block by block. Others: "
  "class attention 0.6527, with the tasks of pretraining 0.6929, in two stages 0.6853. Probes are "
  "trained on all events",
  {
    "accuracy": CLEAR_STRATEGIES["differential"],
    "knn": CLEAR_STRATEGIES["knn"],
    "mlp1": CLEAR_STRATEGIES["probe_1"],
    "mlp2": CLEAR_STRATEGIES["probe_2"],
    "mlp3": CLEAR_STRATEGIES["probe_3"],
  },
  of="events",
)

CLEAR_CLASSES = {
  "J/psi -> pi+ (rho- -> pi- pi0)": {
    "model": (0.85, 0.88, 0.87),
    "traditional": (0.72, 0.74, 0.73),
  },
  "J/psi -> pi- (rho+ -> pi+ pi0)": {
    "model": (0.83, 0.90, 0.86),
    "traditional": (0.71, 0.74, 0.72),
  },
  "J/psi -> pi0 (rho0 -> pi+ pi-)": {
    "model": (0.87, 0.92, 0.90),
    "traditional": (0.82, 0.82, 0.82),
  },
  "J/psi -> pi+ pi- pi0": {
    "model": (0.74, 0.76, 0.74),
    "traditional": (0.74, 0.70, 0.71),
  },
}
"""Precision, recall and F1 of four classes: of the model of the talk, and of a traditional
selection."""

PUBLISHED = (SEED, PART, CLEAR)
