"""Errors of a summary's metrics, where the data define them."""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric, bootstrap_error


def or_none(metric) -> float | None:
  try:
    return float(metric())
  except UndefinedMetric:
    return None


def bootstrap(metric, weight: np.ndarray, replicas: int) -> float | None:
  if replicas < 2:
    return None
  return or_none(lambda: bootstrap_error(metric, weight, replicas=replicas))
