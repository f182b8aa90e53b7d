"""Metrics: pure functions from numpy arrays to numbers. Definitions in the docstrings.

Every function takes event weights, or says why not. A weight of 2 equals two equal events, one of 0
no event, and the order of events never matters. What the data do not define raises
`UndefinedMetric`; the summaries turn that into a `Measurement` without a value, with the reason.

Data larger than memory: what is a sum over events adds over chunks (confusion matrices, histograms
of fixed edges, per-jet distances); what needs all scores takes arrays, and its module says how
large they are.
"""

from jetfm.evals.metrics.chains import (
  chain_summary,
  class_table,
  oracle_accuracy,
  worst_confusions,
)
from jetfm.evals.metrics.classification import (
  accuracy,
  accuracy_error,
  auc_ovo,
  auc_ovr,
  binary_auc,
  classification_chance,
  confusion_matrix,
  expected_calibration_error,
  macro_f1,
  top_k_accuracy,
)
from jetfm.evals.metrics.directions import direction_guesses
from jetfm.evals.metrics.distances import (
  frechet_distance,
  mmd_rbf,
  wasserstein_1d,
  wasserstein_rows,
)
from jetfm.evals.metrics.energy_flow import energy_flow_polynomials
from jetfm.evals.metrics.generation import (
  Particles,
  flat_particles,
  gaussian_baseline,
  generation_histogram_mse,
  generation_kl,
  generation_kl_equiprobable,
  generation_mmd,
  histogram_sampling_baseline,
  split_jets,
)
from jetfm.evals.metrics.histograms import (
  equiprobable_edges,
  histogram_mse,
  jensen_shannon_distance,
  joint_edges,
  kl_divergence,
  probabilities,
)
from jetfm.evals.metrics.jetnet import fpd, kpd, physics_features
from jetfm.evals.metrics.measurement import (
  Measurement,
  UndefinedMetric,
  bootstrap_error,
  combine_seeds,
  measure,
)
from jetfm.evals.metrics.particles import jet_mass, jet_seed_mass, particle_coordinates
from jetfm.evals.metrics.precision import (
  PrecisionPoint,
  precision_point,
  selection_quality,
  threshold_at_precision,
)
from jetfm.evals.metrics.ranks import rank_guesses
from jetfm.evals.metrics.regression import (
  mean_absolute_error,
  mean_squared_error,
  r2,
  resolution,
  response_half_width,
  response_quantiles,
)
from jetfm.evals.metrics.seed import (
  generation_seed,
  seed_constants,
  seed_coordinates,
  seed_multivector,
  super_resolution_seed,
)
from jetfm.evals.metrics.summaries import (
  MANY_CLASSES,
  classification_summary,
  generation_summary,
  regression_summary,
  super_resolution_summary,
)
from jetfm.evals.metrics.super_resolution import another_jet, chamfer, multiplicity_error, pt_emd
from jetfm.evals.metrics.weighting import event_weights, random_halves
from jetfm.evals.metrics.working_points import (
  BinnedEfficiency,
  MassSculpting,
  background_rejection,
  binned_efficiency,
  discriminant,
  mass_sculpting,
  roc_curve,
  threshold_at,
  working_point_of,
)

__all__ = [
  "MANY_CLASSES",
  "chain_summary",
  "class_table",
  "oracle_accuracy",
  "worst_confusions",
  # what a number carries
  "Measurement",
  "UndefinedMetric",
  "measure",
  "bootstrap_error",
  "combine_seeds",
  "event_weights",
  "random_halves",
  # whole tasks
  "classification_summary",
  "regression_summary",
  "generation_summary",
  "super_resolution_summary",
  # classification
  "accuracy",
  "accuracy_error",
  "top_k_accuracy",
  "macro_f1",
  "confusion_matrix",
  "binary_auc",
  "auc_ovr",
  "auc_ovo",
  "expected_calibration_error",
  "classification_chance",
  # working points
  "discriminant",
  "roc_curve",
  "threshold_at",
  "working_point_of",
  "background_rejection",
  "BinnedEfficiency",
  "binned_efficiency",
  "MassSculpting",
  "mass_sculpting",
  "selection_quality",
  "threshold_at_precision",
  "PrecisionPoint",
  "precision_point",
  # hidden particles
  "direction_guesses",
  "rank_guesses",
  # regression
  "mean_squared_error",
  "mean_absolute_error",
  "r2",
  "resolution",
  "response_half_width",
  "response_quantiles",
  # generation
  "Particles",
  "flat_particles",
  "particle_coordinates",
  "jet_mass",
  "generation_mmd",
  "generation_kl",
  "generation_kl_equiprobable",
  "generation_histogram_mse",
  "split_jets",
  "histogram_sampling_baseline",
  "gaussian_baseline",
  "energy_flow_polynomials",
  "physics_features",
  "fpd",
  "kpd",
  # super-resolution
  "chamfer",
  "pt_emd",
  "multiplicity_error",
  "another_jet",
  # distances of samples and of histograms
  "mmd_rbf",
  "wasserstein_1d",
  "wasserstein_rows",
  "frechet_distance",
  "joint_edges",
  "equiprobable_edges",
  "probabilities",
  "kl_divergence",
  "histogram_mse",
  "jensen_shannon_distance",
  # as the 2026 seed measured
  "seed_constants",
  "seed_coordinates",
  "jet_seed_mass",
  "seed_multivector",
  "generation_seed",
  "super_resolution_seed",
]
