"""Section of pretraining: hidden particles against their reconstruction."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import numpy as np

from jetfm.evals.metrics import Measurement, UndefinedMetric, bootstrap_error, measure
from jetfm.evals.metrics.weighting import event_weights, weighted_mean
from jetfm.evals.sections.jets import Section

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
COORDINATES = ("pt", "eta", "phi", "energy")
PHI = 2


def pretraining_section(
  predicted: np.ndarray,
  true: np.ndarray,
  weight: np.ndarray,
  event: np.ndarray,
  loss: Loss,
  physical: tuple[np.ndarray, np.ndarray] | None = None,
  *,
  bootstrap: int = 0,
  seed: int = 0,
) -> Section:
  """How much better than their mean hidden particles are reconstructed.

      gain = 1 - loss(predicted)/loss(mean),      gain_x = 1 - <(x' - x)^2>/<(x - <x>)^2>

  The mean is that of each standardised coordinate over all hidden particles; of phi it is the
  direction of the mean vector, and its gain is in 1 - cos.

  Shapes: predicted and true (M, 4) standardised (pT, eta, phi, E), phi in radians; weight (M,) of
  the event and its number `event` (M,), for the errors; loss(predicted, true, weight) is the task's
  own objective over all particles; `physical`, for the figure, true and predicted in GeV and rad.
  """
  if not len(true):
    reason = "no jet has two particles, so none is hidden"
    return Section({"reconstruction_gain": Measurement(None, reason=reason)})
  weight = event_weights(weight, len(true))
  true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
  mean = _mean(true, weight)
  trivial = np.broadcast_to(mean, true.shape)
  number = np.unique(event, return_inverse=True)[1]

  def measured(gain: Callable[[np.ndarray], float]) -> Measurement:
    # Particles of one jet are not independent: whole jets are resampled.
    def resampled(w: np.ndarray) -> float:
      return gain(weight * w[number])

    jets = np.ones(number.max() + 1)
    error = None
    if bootstrap > 1:
      with contextlib.suppress(UndefinedMetric):
        error = bootstrap_error(resampled, jets, replicas=bootstrap, seed=seed)
    about: dict = {"reference": 0.0, "reference_kind": "the mean"}
    return measure(lambda: resampled(jets), error=error, **about)

  def of_losses(w: np.ndarray) -> float:
    return _gain(loss(predicted, true, w), loss(trivial, true, w))

  metrics = {"reconstruction_gain": measured(of_losses)}
  for i, name in enumerate(COORDINATES):
    left, spread = (_residual(x, true, i) for x in (predicted, trivial))
    metrics[f"{name}_gain"] = measured(functools.partial(_gain_of_means, left, spread))
  details = {
    "hidden particles": len(true),
    "loss": loss(predicted, true, weight),
    "loss of the mean": loss(trivial, true, weight),
    "mean": dict(zip(COORDINATES, mean.tolist(), strict=True)),
  }
  section = Section(metrics, details)
  if physical is not None:
    from jetfm.evals import plots

    section.figures.append(("true_predicted", "", plots.true_predicted_figure(*physical, weight)))
  return section


def _mean(true: np.ndarray, weight: np.ndarray) -> np.ndarray:
  mean = weight @ true / weight.sum()
  mean[PHI] = np.arctan2(weight @ np.sin(true[:, PHI]), weight @ np.cos(true[:, PHI]))
  return mean


def _residual(x: np.ndarray, true: np.ndarray, i: int) -> np.ndarray:
  d = x[:, i] - true[:, i]
  return 2 * np.sin(d / 2) ** 2 if i == PHI else d**2


def _gain(reached: float, level: float) -> float:
  if not level > 0:
    raise UndefinedMetric("all hidden particles are equal")
  return 1 - reached / level


def _gain_of_means(left: np.ndarray, spread: np.ndarray, weight: np.ndarray) -> float:
  if not weight.any():
    raise UndefinedMetric("no hidden particle")
  return _gain(weighted_mean(left, weight), weighted_mean(spread, weight))
