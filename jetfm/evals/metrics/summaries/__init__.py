"""All metrics of a task at once: arrays -> named measurements, with errors, references, baselines.

Names are keys of `jetfm.evals.catalogue`, where they are explained. Metrics that the data do not
define come back without a value and with a reason.
"""

from jetfm.evals.metrics.summaries.classification import MANY_CLASSES, classification_summary
from jetfm.evals.metrics.summaries.generation import generation_summary
from jetfm.evals.metrics.summaries.regression import regression_summary
from jetfm.evals.metrics.summaries.super_resolution import super_resolution_summary

__all__ = [
  "MANY_CLASSES",
  "classification_summary",
  "generation_summary",
  "regression_summary",
  "super_resolution_summary",
]
