"""Section of pretraining: hidden particles against their reconstruction."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jetfm.evals.metrics import Measurement, UndefinedMetric, bootstrap_error, measure
from jetfm.evals.metrics.ranks import rank_guesses
from jetfm.evals.metrics.weighting import event_weights, weighted_mean
from jetfm.evals.sections.jets import Section

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
COORDINATES = ("pt", "eta", "phi", "energy")
PHI = 2
TOLD_BY_RANK = (0, 3)
"""pT and E: the rank in pT says nothing of directions."""

ROUNDING = 1e-24
"""Squared error, standardised, below which a guess is exact."""

MEAN, RANK, NEIGHBOURS = "the mean", "the mean at its rank", "interpolation between ranks"


@dataclasses.dataclass(frozen=True)
class Reconstructed:
  """All P particles of a sample of jets, M of which were hidden and predicted.

  Attributes:
    true: (P, 4) standardised (pT, eta, phi, E), phi in radians.
    predicted: (M, 4), of the hidden ones in their order.
    hidden: (P,) bool.
    rank: (P,) rank in pT within the jet, from 0; it is all that the model knows of a hidden one.
    event: (P,) number of the jet; weight: (P,) of the jet.
  """

  true: np.ndarray
  predicted: np.ndarray
  hidden: np.ndarray
  rank: np.ndarray
  event: np.ndarray
  weight: np.ndarray


def pretraining_section(
  particles: Reconstructed,
  loss: Loss,
  physical: tuple[np.ndarray, np.ndarray] | None = None,
  *,
  bootstrap: int = 0,
  seed: int = 0,
) -> Section:
  """How much better than without a network hidden particles are reconstructed.

      gain = 1 - loss(predicted)/loss(guess),      gain_x = 1 - <(x' - x)^2>/<(x - guess)^2>

  The guess is the mean of each standardised coordinate over all hidden particles (of phi the
  direction of the mean vector, and its gain is in 1 - cos); over the rank and over interpolation
  pT and E are those of `rank_guesses` instead. The baselines are the gains of these guesses.

  loss(predicted, true, weight) of (M, 4), (M, 4) and (M,) is the task's own objective over all
  hidden particles; `physical`, for the figure, true and predicted in GeV and rad.
  """
  some = particles.hidden
  if not some.any():
    reason = "no jet has two particles, so none is hidden"
    return Section({"reconstruction_gain": Measurement(None, reason=reason)})
  weight = event_weights(particles.weight[some], int(some.sum()))
  true = np.asarray(particles.true[some], np.float64)
  predicted = np.asarray(particles.predicted, np.float64)
  mean = _mean(true, weight)
  guesses = {MEAN: np.broadcast_to(mean, true.shape)} | _by_rank(particles, mean, seed)
  number = np.unique(particles.event[some], return_inverse=True)[1]

  def of_losses(made: np.ndarray, guess: np.ndarray, w: np.ndarray) -> float:
    return _gain(loss(made, true, w), loss(guess, true, w))

  def of(i: int, made: np.ndarray, guess: np.ndarray, w: np.ndarray) -> float:
    return _gain_of_means(_residual(made, true, i), _residual(guess, true, i), w)

  def measured(gain: Callable[..., float], kind: str, **about: Any) -> Measurement:
    if kind not in guesses:
      return Measurement(None, reason="too few jets with hidden particles for a mean at each rank")

    # Particles of one jet are not independent: whole jets are resampled.
    def resampled(w: np.ndarray) -> float:
      return gain(predicted, guesses[kind], weight * w[number])

    jets = np.ones(number.max() + 1)
    error = None
    if bootstrap > 1:
      with contextlib.suppress(UndefinedMetric):
        error = bootstrap_error(resampled, jets, replicas=bootstrap, seed=seed)
    about = {"reference": 0.0, "reference_kind": kind} | about
    return measure(lambda: resampled(jets), error=error, **about)

  def beside_the_rank(gain: Callable[..., float]) -> Measurement:
    about: dict = {}
    with contextlib.suppress(UndefinedMetric):
      reached = {k: gain(g, guesses[MEAN], weight) for k, g in guesses.items() if k != MEAN}
      if RANK in reached:
        about = {"baseline": reached.pop(RANK), "baseline_kind": RANK, "others": reached}
    return measured(gain, MEAN, **about)

  metrics = {
    "reconstruction_gain": beside_the_rank(of_losses),
    "gain_over_rank": measured(of_losses, RANK),
    "gain_over_interpolation": measured(of_losses, NEIGHBOURS),
  }
  for i, name in enumerate(COORDINATES):
    gain = functools.partial(of, i)
    metrics[f"{name}_gain"] = beside_the_rank(gain) if i in TOLD_BY_RANK else measured(gain, MEAN)
  metrics["pt_gain_over_rank"] = measured(functools.partial(of, 0), RANK)
  metrics["pt_gain_over_interpolation"] = measured(functools.partial(of, 0), NEIGHBOURS)
  details = {
    "hidden particles": len(true),
    "loss": loss(predicted, true, weight),
    **{f"loss of {kind}": loss(guess, true, weight) for kind, guess in guesses.items()},
    "mean": dict(zip(COORDINATES, mean.tolist(), strict=True)),
  }
  section = Section(metrics, details)
  if physical is not None:
    from jetfm.evals import plots

    section.figures.append(("true_predicted", "", plots.true_predicted_figure(*physical, weight)))
  return section


def _by_rank(p: Reconstructed, mean: np.ndarray, seed: int) -> dict[str, np.ndarray]:
  """(M, 4) each: the mean, but for pT and E; empty where the jets are too few."""
  try:
    found = rank_guesses(p.true[:, TOLD_BY_RANK], p.event, p.rank, p.hidden, p.weight, seed=seed)
  except UndefinedMetric:
    return {}
  out = {}
  for kind, told in zip((RANK, NEIGHBOURS), found, strict=True):
    out[kind] = np.tile(mean, (len(told), 1))
    out[kind][:, TOLD_BY_RANK] = told
  return out


def _mean(true: np.ndarray, weight: np.ndarray) -> np.ndarray:
  mean = weight @ true / weight.sum()
  mean[PHI] = np.arctan2(weight @ np.sin(true[:, PHI]), weight @ np.cos(true[:, PHI]))
  return mean


def _residual(x: np.ndarray, true: np.ndarray, i: int) -> np.ndarray:
  d = x[:, i] - true[:, i]
  return 2 * np.sin(d / 2) ** 2 if i == PHI else d**2


def _gain(reached: float, level: float) -> float:
  if not level > ROUNDING:
    raise UndefinedMetric("all hidden particles are equal to the guess")
  return 1 - reached / level


def _gain_of_means(left: np.ndarray, spread: np.ndarray, weight: np.ndarray) -> float:
  if not weight.any():
    raise UndefinedMetric("no hidden particle")
  return _gain(weighted_mean(left, weight), weighted_mean(spread, weight))
