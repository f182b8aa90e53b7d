"""Pure loss functions: per-event sums first, one function of their global totals after."""

from jetfm.objectives.averages import absolute, at_least_float32, ratio, weighted_mean, weighted_sum
from jetfm.objectives.conservation import (
  Conservation,
  conservation_loss,
  mse_cosine_loss,
  residual_sums,
)
from jetfm.objectives.contrastive import (
  nearest_is_positive,
  nt_xent,
  supervised_contrastive,
)
from jetfm.objectives.invariant_mass import (
  JET_SCALE,
  PARTICLE_SCALE,
  invariant_mass_loss,
  mass_residual_sums,
)
from jetfm.objectives.likelihoods import (
  Angle,
  Categorical,
  GaussianMixture,
  Likelihood,
  UnitGaussian,
  ZeroInflatedLogNormal,
  likelihood_of,
)
from jetfm.objectives.measurements import HybridLikelihood
from jetfm.objectives.sets import (
  chamfer_distance,
  existence_cross_entropy,
  particle_distance,
  wasserstein_1d,
)
from jetfm.objectives.supervised import REGRESSION_ERRORS, cross_entropy, regression_error
from jetfm.objectives.variational import gaussian_kl, warm_up, with_free_bits

__all__ = [
  # averages
  "absolute",
  "at_least_float32",
  "ratio",
  "weighted_mean",
  "weighted_sum",
  # reconstruction
  "Conservation",
  "conservation_loss",
  "mse_cosine_loss",
  "residual_sums",
  "JET_SCALE",
  "PARTICLE_SCALE",
  "invariant_mass_loss",
  "mass_residual_sums",
  # supervised
  "REGRESSION_ERRORS",
  "cross_entropy",
  "regression_error",
  # sets
  "chamfer_distance",
  "existence_cross_entropy",
  "particle_distance",
  "wasserstein_1d",
  # densities of measurements
  "Angle",
  "Categorical",
  "GaussianMixture",
  "HybridLikelihood",
  "Likelihood",
  "UnitGaussian",
  "ZeroInflatedLogNormal",
  "likelihood_of",
  # contrastive
  "nearest_is_positive",
  "nt_xent",
  "supervised_contrastive",
  # variational
  "gaussian_kl",
  "warm_up",
  "with_free_bits",
]
