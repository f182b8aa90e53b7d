"""Sections of a report: the outputs of one task on a sample of jets -> numbers and figures.

Each function takes arrays, of true jets as `Jets`, and returns a `Section`. Where the outputs come
from is not known here.
"""

from jetfm.evals.sections.classification import MASS_EDGES, classification_section
from jetfm.evals.sections.directions import DirectionMaps, Located, directions_section
from jetfm.evals.sections.embedding import embedding_section
from jetfm.evals.sections.features import Guesses, features_section
from jetfm.evals.sections.generation import generation_section
from jetfm.evals.sections.jets import Jets, Section, of_different_classes
from jetfm.evals.sections.pretraining import Reconstructed, pretraining_section
from jetfm.evals.sections.regression import regression_section
from jetfm.evals.sections.super_resolution import super_resolution_section

__all__ = [
  "DirectionMaps",
  "Guesses",
  "Jets",
  "Located",
  "MASS_EDGES",
  "Reconstructed",
  "Section",
  "classification_section",
  "directions_section",
  "embedding_section",
  "features_section",
  "generation_section",
  "of_different_classes",
  "pretraining_section",
  "regression_section",
  "super_resolution_section",
]
