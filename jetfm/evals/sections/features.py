"""Section of masked features: hidden measurements against their guesses, feature by feature."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jetfm.evals.catalogue import FEATURE_GAIN
from jetfm.evals.metrics import Measurement, UndefinedMetric, bootstrap_error, measure
from jetfm.evals.sections.jets import Section


@dataclasses.dataclass(frozen=True)
class Guesses:
  """The hidden measurements of one feature, (M,) each.

  Attributes:
    true, guessed, sampled: on one scale; numbers of categories where `categorical`. Sampled are
      draws from the predicted density; None draws no picture of them.
    nll: negative log density of the truth in nats.
    event: number of the event, for the errors.
    weight: of the event.
  """

  true: np.ndarray
  guessed: np.ndarray
  nll: np.ndarray
  event: np.ndarray
  weight: np.ndarray
  categorical: bool = False
  sampled: np.ndarray | None = None


def features_section(
  features: Mapping[str, Guesses], *, bootstrap: int = 0, seed: int = 0, figures: bool = True
) -> Section:
  """How much better than a constant the hidden measurements of each feature are guessed.

      gain = 1 - <(x' - x)^2>/<(x - <x>)^2>

  Of a categorical feature 1 - (rate of wrong guesses)/(that of the most frequent category). The
  mean gain is over the features that have one. The details hold the number of measurements and
  their mean negative log density.
  """
  metrics: dict[str, Measurement] = {}
  details = {}
  for name, guesses in features.items():
    metrics[f"{FEATURE_GAIN}{name}"] = _measured(guesses, bootstrap, seed)
    if len(guesses.true):
      nll = float(np.average(guesses.nll, weights=guesses.weight))
      details[name] = {"measurements": len(guesses.true), "nll": nll}
  gains = [m.value for m in metrics.values() if m.value is not None]
  reason = "" if gains else "no measurement was hidden"
  mean = Measurement(float(np.mean(gains)) if gains else None, reason=reason)
  section = Section({"feature_gain": mean} | metrics, {"features": details})
  if figures and gains:
    from jetfm.evals import plots

    shown = {name: metrics[f"{FEATURE_GAIN}{name}"].value for name in features}
    section.figures.append(("features", "", plots.features_figure(shown)))
    drawn = {name: g for name, g in features.items() if len(g.true)}
    section.figures.append(("reconstruction", "", plots.reconstruction_figure(drawn)))
    drawn = {name: g for name, g in drawn.items() if g.sampled is not None}
    if drawn:
      section.figures.append(("densities", "", plots.densities_figure(drawn)))
  return section


def _measured(g: Guesses, bootstrap: int, seed: int) -> Measurement:
  if not len(g.true):
    return Measurement(None, reason="no such measurement was hidden")
  number = np.unique(g.event, return_inverse=True)[1]
  gain = _gain_of_categories if g.categorical else _gain_of_numbers

  # Measurements of one event are not independent: whole events are resampled.
  def resampled(w: np.ndarray) -> float:
    return gain(g, g.weight * w[number])

  events = np.ones(number.max() + 1)
  error = None
  if bootstrap > 1:
    with contextlib.suppress(UndefinedMetric):
      error = bootstrap_error(resampled, events, replicas=bootstrap, seed=seed)
  kind = "the most frequent one" if g.categorical else "the mean"
  return measure(lambda: resampled(events), error=error, reference=0.0, reference_kind=kind)


def _gain_of_numbers(g: Guesses, weight: np.ndarray) -> float:
  total = _positive(weight.sum(), "no such measurement was hidden")
  true, guessed = np.asarray(g.true, np.float64), np.asarray(g.guessed, np.float64)
  spread = weight @ (true - weight @ true / total) ** 2
  return float(1 - weight @ (guessed - true) ** 2 / _positive(spread, "all are equal"))


def _gain_of_categories(g: Guesses, weight: np.ndarray) -> float:
  total = _positive(weight.sum(), "no such measurement was hidden")
  count = np.bincount(g.true.astype(int), weights=weight)
  wrong = _positive(total - count.max(), "all are of one category")
  return float(1 - weight @ (g.guessed != g.true) / wrong)


def _positive(value: Any, otherwise: str) -> float:
  if not value > 0:
    raise UndefinedMetric(otherwise)
  return float(value)
