"""Figures from arrays: each function returns a matplotlib Figure, writes nothing, shows nothing."""

from jetfm.evals.plots.classification import (
  confusion_figure,
  confusions_figure,
  pt_dependence_figure,
  roc_figure,
  sculpting_figure,
)
from jetfm.evals.plots.directions import directions_figure
from jetfm.evals.plots.embedding import embedding_figure, embedding_map
from jetfm.evals.plots.features import (
  densities_figure,
  features_figure,
  reconstruction_figure,
)
from jetfm.evals.plots.generation import spectra_figure
from jetfm.evals.plots.jets import jet_display_figure
from jetfm.evals.plots.likelihoods import likelihood_figure
from jetfm.evals.plots.regression import response_figure, true_predicted_figure
from jetfm.evals.plots.style import png, style
from jetfm.evals.plots.training import training_figure

__all__ = [
  "features_figure",
  "reconstruction_figure",
  "densities_figure",
  "roc_figure",
  "confusion_figure",
  "confusions_figure",
  "pt_dependence_figure",
  "sculpting_figure",
  "response_figure",
  "true_predicted_figure",
  "spectra_figure",
  "jet_display_figure",
  "directions_figure",
  "likelihood_figure",
  "embedding_map",
  "embedding_figure",
  "training_figure",
  "png",
  "style",
]
