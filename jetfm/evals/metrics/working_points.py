"""A tagger at its working points: background rejection, its pT dependence, mass sculpting.

Everything here is binary: a score, larger for signal, of signal and of background events.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jetfm.evals.metrics.histograms import jensen_shannon_distance
from jetfm.evals.metrics.histograms import probabilities as histogram
from jetfm.evals.metrics.measurement import Measurement, UndefinedMetric
from jetfm.evals.metrics.weighting import counted

WORKING_POINTS = {"Hqql": 0.99, "Tbl": 0.995}
"""Signal efficiency of the published rejections where it is not 50 % (arXiv:2202.03772)."""

DEFAULT_WORKING_POINT = 0.5

BACKGROUND = "QCD"
"""Class that published rejections are of; the names of others' metrics say which."""

AGAINST = "_against_"


def working_point_of(class_name: str) -> float:
  """Signal efficiency at which the rejection of this class is quoted."""
  return WORKING_POINTS.get(class_name, DEFAULT_WORKING_POINT)


def metric_name(kind: str, signal: str, background: str) -> str:
  """`rejection_Hbb`; `rejection_Hbb_against_top` where the background is not the usual one."""
  return f"{kind}_{signal}" + ("" if background == BACKGROUND else f"{AGAINST}{background}")


def discriminant(probabilities: np.ndarray, signal: int, background: int) -> np.ndarray:
  """ln(p_S/p_B), (B, C) -> (B,): orders events as p_S/(p_S + p_B) does, and does not saturate.

  Probabilities below 1e-45 count as that.
  """
  p = np.maximum(np.asarray(probabilities)[:, [signal, background]].astype(np.float64), 1e-45)
  return np.log(p[:, 0]) - np.log(p[:, 1])


def roc_curve(
  score: np.ndarray,
  is_signal: np.ndarray,
  weight: np.ndarray | None = None,
  *,
  max_points: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Efficiencies of `score >= threshold` at every threshold, from none to all events.

  Shapes: score (B,), is_signal (B,) bool -> background efficiency, signal efficiency, threshold,
  (P,) each; the first threshold is infinity. `max_points` thins the curve evenly in signal
  efficiency for plots.
  Raises: UndefinedMetric when there is no signal or no background.
  """
  weight, score, is_signal = counted(weight, score, is_signal)
  is_signal = is_signal.astype(bool)
  order = np.argsort(-score, kind="stable")
  score, is_signal, weight = score[order], is_signal[order], weight[order]
  last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])
  signal = np.cumsum(np.where(is_signal, weight, 0.0))[last]
  background = np.cumsum(np.where(is_signal, 0.0, weight))[last]
  if signal[-1] == 0 or background[-1] == 0:
    raise UndefinedMetric(f"no {'signal' if signal[-1] == 0 else 'background'} event")
  eff_b = np.r_[0.0, background / background[-1]]
  eff_s = np.r_[0.0, signal / signal[-1]]
  threshold = np.r_[np.inf, score[last]]
  if max_points is not None and len(eff_s) > max_points:
    keep = np.unique(np.searchsorted(eff_s, np.linspace(0, 1, max_points)).clip(0, len(eff_s) - 1))
    eff_b, eff_s, threshold = eff_b[keep], eff_s[keep], threshold[keep]
  return eff_b, eff_s, threshold


def threshold_at(score: np.ndarray, efficiency: float, weight: np.ndarray | None = None) -> float:
  """Highest cut that keeps at least this share of the signal, score (B,) of signal events."""
  if not 0 < efficiency <= 1:
    raise ValueError(f"signal efficiency {efficiency} is not in (0, 1]")
  weight, score = counted(weight, score)
  order = np.argsort(-score, kind="stable")
  kept = np.cumsum(weight[order])
  first = np.searchsorted(kept, efficiency * kept[-1] * (1 - 1e-12))
  return float(score[order][min(first, len(kept) - 1)])


def efficiency(passes: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
  """Share of the weight that passes and its binomial error, (B,) bool -> value, error.

  With unit weights the error is sqrt(e (1 - e)/B); with weights it is the standard deviation of
  the ratio, sqrt((1 - e)^2 sum_pass w^2 + e^2 sum_fail w^2)/sum w.
  """
  weight, passes = counted(weight, passes)
  passes = passes.astype(bool)
  total = weight.sum()
  e = weight[passes].sum() / total
  variance = (1 - e) ** 2 * np.sum(weight[passes] ** 2) + e**2 * np.sum(weight[~passes] ** 2)
  return float(e), float(np.sqrt(variance) / total)


def background_rejection(
  score: np.ndarray,
  is_signal: np.ndarray,
  signal_efficiency: float,
  weight: np.ndarray | None = None,
) -> Measurement:
  """1/e_B at a signal efficiency and its error, (B,), (B,) bool -> measurement.

      var e_B = e_B (1 - e_B)/N_B + var e_B(u),      u ~ Beta(e_S N_S, (1 - e_S) N_S + 1)

  The second term is the threshold's, which the finite signal sample sets: u is the true efficiency
  at that order statistic, and e_B(u) the ROC curve; where it is straight, this is its slope squared
  times e_S (1 - e_S)/N_S. With weights N are the effective numbers of events. Chance is 1/e_S.
  Undefined, with a 95 % lower limit in the reason, when no background event passes; and without
  signal or background.
  """
  chance: dict[str, Any] = {"reference": 1 / signal_efficiency, "reference_kind": "chance"}
  is_signal = np.asarray(is_signal, bool)
  weight = np.ones(len(is_signal)) if weight is None else np.asarray(weight, np.float64)
  for kind, some in (("signal", is_signal), ("background", ~is_signal)):
    if not weight[some].any():
      return Measurement(None, reason=f"no {kind} event in the test set", **chance)
  score = np.asarray(score)
  cut = threshold_at(score[is_signal], signal_efficiency, weight[is_signal])
  w = weight[~is_signal]
  value, error = efficiency(score[~is_signal] >= cut, w)
  if value == 0:
    limit = 1 / -np.expm1(np.log(0.05) / _effective(w))
    reason = f"none of {_effective(w):.0f} background events passes: above {limit:.3g} (95 % CL)"
    return Measurement(None, reason=reason, **chance)
  of_cut = _spread_of_the_cut(score, is_signal, signal_efficiency, weight)
  return Measurement(1 / value, np.hypot(error, of_cut) / value**2, **chance)


def _effective(weight: np.ndarray) -> float:
  return float(weight.sum() ** 2 / np.sum(weight**2))


def _spread_of_the_cut(score, is_signal, signal_efficiency: float, weight) -> float:
  from scipy.stats import beta

  number = _effective(weight[is_signal])
  share = (np.arange(200) + 0.5) / 200
  true = beta.ppf(share, signal_efficiency * number, (1 - signal_efficiency) * number + 1)
  eff_b, eff_s, _ = roc_curve(score, is_signal, weight)
  return float(np.std(np.interp(true, eff_s, eff_b)))


@dataclasses.dataclass(frozen=True)
class BinnedEfficiency:
  """Efficiencies at one cut in K bins of a variable; NaN where a bin is empty.

  Attributes: edges (K + 1,); signal, background and their binomial errors (K,), those of the cut as
  it is; rejection (K,) is 1/background, infinity where nothing passes, with rejection_error (K,).
  """

  edges: np.ndarray
  signal: np.ndarray
  signal_error: np.ndarray
  background: np.ndarray
  background_error: np.ndarray

  @property
  def rejection(self) -> np.ndarray:
    with np.errstate(divide="ignore"):
      return 1 / self.background

  @property
  def rejection_error(self) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
      return self.background_error / self.background**2


def binned_efficiency(
  score: np.ndarray,
  is_signal: np.ndarray,
  signal_efficiency: float,
  variable: np.ndarray,
  edges: np.ndarray,
  weight: np.ndarray | None = None,
) -> BinnedEfficiency:
  """Efficiencies in bins, at the one cut that keeps `signal_efficiency` of all signal events.

  Shapes: score, is_signal, variable (B,) (jet pT in GeV, say); edges (K + 1,). Bins hold their
  lower edge, the last one also its upper edge.
  """
  weight, score, is_signal, variable = counted(weight, score, is_signal, variable)
  is_signal, edges = is_signal.astype(bool), np.asarray(edges, np.float64)
  cut = threshold_at(score[is_signal], signal_efficiency, weight[is_signal])
  where = np.searchsorted(edges, variable, side="right") - 1
  where[variable == edges[-1]] = len(edges) - 2
  columns: list[tuple[float, ...]] = []
  for kind in (is_signal, ~is_signal):
    rows = [kind & (where == k) for k in range(len(edges) - 1)]
    columns += zip(
      *(efficiency(score[r] >= cut, weight[r]) if r.any() else (np.nan, np.nan) for r in rows),
      strict=True,
    )
  return BinnedEfficiency(edges, *(np.array(c) for c in columns))


@dataclasses.dataclass(frozen=True)
class MassSculpting:
  """Shape of the background's mass before and after a cut on the tagger.

  Attributes: edges (K + 1,) in GeV; before, after (K,) of sum 1; distance: Jensen-Shannon, between
  the two; floor: the mean distance when as many events are kept at random; passed: the effective
  number (sum w)^2/sum w^2 of background events after the cut.
  """

  edges: np.ndarray
  before: np.ndarray
  after: np.ndarray
  distance: float
  floor: float
  passed: float


def mass_sculpting(
  score: np.ndarray,
  is_signal: np.ndarray,
  signal_efficiency: float,
  mass: np.ndarray,
  edges: np.ndarray,
  weight: np.ndarray | None = None,
  *,
  replicas: int = 20,
  seed: int = 0,
) -> MassSculpting:
  """How a cut at a signal efficiency shapes the background's mass spectrum.

  Shapes: score, is_signal, mass (B,) in GeV; edges (K + 1,). A distance far above its floor means
  that a bump hunt in the mass would see the tagger instead of a particle.
  Raises: UndefinedMetric when no background passes the cut.
  """
  weight, score, is_signal, mass = counted(weight, score, is_signal, mass)
  is_signal = is_signal.astype(bool)
  if is_signal.all() or not is_signal.any():
    raise UndefinedMetric("mass sculpting needs signal and background events")
  cut = threshold_at(score[is_signal], signal_efficiency, weight[is_signal])
  passes, mass, weight = score[~is_signal] >= cut, mass[~is_signal], weight[~is_signal]
  if not passes.any():
    raise UndefinedMetric("no background event passes the working point")
  before = histogram(mass, edges, weight)
  after = histogram(mass[passes], edges, weight[passes])
  rng = np.random.default_rng(seed)
  by_chance = []
  for _ in range(replicas):
    kept = rng.permutation(passes)
    by_chance.append(jensen_shannon_distance(before, histogram(mass[kept], edges, weight[kept])))
  distance = jensen_shannon_distance(before, after)
  kept = weight[passes]
  passed = float(kept.sum() ** 2 / np.sum(kept**2))
  return MassSculpting(
    np.asarray(edges), before, after, distance, float(np.mean(by_chance)), passed
  )
