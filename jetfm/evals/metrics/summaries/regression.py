"""All metrics of one regression target at once."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from jetfm.evals.metrics import regression
from jetfm.evals.metrics.measurement import Measurement, measure
from jetfm.evals.metrics.summaries import errors
from jetfm.evals.metrics.weighting import counted, weighted_mean


def regression_summary(
  target: str,
  predicted: np.ndarray,
  true: np.ndarray,
  mean: float,
  std: float,
  weight: np.ndarray | None = None,
  *,
  baselines: Mapping[str, np.ndarray] | None = None,
  bootstrap: int = 0,
) -> dict[str, Measurement]:
  """R2, MSE, MAE, resolution, 68 % half-width of one target, in GeV and standardised.

  Shapes: predicted and true (B,) in GeV; mean and std (GeV) standardise as in training. `baselines`
  holds predictions (B,) by name, such as the analytic constituent mass; the first is the baseline,
  more are `others`. The reference is what the mean of the true values reaches.
  """
  baselines = dict(baselines or {})
  weight, predicted, true, *rest = counted(weight, predicted, true, *baselines.values())
  trivial = dict(zip(baselines, rest, strict=True))
  constant = np.full(len(true), weighted_mean(true, weight))
  out: dict[str, Measurement] = {}

  def add(name, metric, scale=lambda x: x):
    def value(of, w=weight):
      return metric(scale(of), scale(true), w)

    about: dict = {
      "reference": errors.or_none(lambda: value(constant)),
      "reference_kind": "the mean",
    }
    reached = {kind: errors.or_none(functools.partial(value, x)) for kind, x in trivial.items()}
    if reached:
      about["baseline_kind"] = next(iter(reached))
      about["baseline"] = reached.pop(about["baseline_kind"])
      about["others"] = {kind: x for kind, x in reached.items() if x is not None}
    error = errors.bootstrap(lambda w: value(predicted, w), weight, bootstrap)
    out[f"{target}_{name}"] = measure(lambda: value(predicted), error=error, **about)

  def standardised(x):
    return (x - mean) / std

  add("r2", regression.r2)
  add("mse_gev2", regression.mean_squared_error)
  add("mae_gev", regression.mean_absolute_error)
  add("resolution_gev", regression.resolution)
  add("half_width", regression.response_half_width)
  add("mse", regression.mean_squared_error, standardised)
  add("mae", regression.mean_absolute_error, standardised)
  add("resolution", regression.resolution, standardised)
  return out
