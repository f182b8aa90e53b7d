"""All metrics of a task at once: arrays -> named measurements, with errors, references, baselines.

Names are keys of `jetfm.evals.catalogue`, where they are explained. Metrics that the data do not
define come back without a value and with a reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jetfm.evals.metrics import classification as cls
from jetfm.evals.metrics import generation as gen
from jetfm.evals.metrics import jetnet, regression
from jetfm.evals.metrics import super_resolution as sr
from jetfm.evals.metrics import working_points as wp
from jetfm.evals.metrics.chains import chain_summary
from jetfm.evals.metrics.distances import wasserstein_1d
from jetfm.evals.metrics.measurement import (
  Measurement,
  UndefinedMetric,
  bootstrap_error,
  measure,
)
from jetfm.evals.metrics.particles import COORDINATES, RELATIVE, jet_mass, particle_coordinates
from jetfm.evals.metrics.weighting import counted, weighted_mean, weighted_std

Results = dict[str, Measurement]
Jets = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""p4 (B, N, 4) in GeV, mask (B, N), weight (B,) or None."""
MANY_CLASSES = 20
"""With more, pairs of classes are too many to be resampled, and to be drawn."""


def classification_summary(
  probabilities: np.ndarray,
  label: np.ndarray,
  classes: Sequence[str],
  weight: np.ndarray | None = None,
  *,
  background: str = "QCD",
  bootstrap: int = 0,
) -> Results:
  """Accuracy, top-3, macro F1, AUC (ovr, ovo), ECE, rejection of `background` by each class.

  Of classes that are decay chains also what `chain_summary` gives.

  Shapes: probabilities (B, C), label (B,), C names of classes. Accuracies have binomial errors;
  `bootstrap` resamplings give errors to F1 and the AUCs (0: none; to auc_ovo not with more than
  `MANY_CLASSES`). Rejections are left out when `background` is not a class.
  Raises: ValueError when the names do not match the probabilities.
  """
  if len(classes) != np.shape(probabilities)[1]:
    raise ValueError(f"{len(classes)} class names for probabilities {np.shape(probabilities)}")
  weight, probabilities, label = counted(weight, probabilities, label)
  chance = cls.classification_chance(label, len(classes), weight)
  absent = [name for i, name in enumerate(classes) if not (label == i).any()]
  note = f"no test event of {', '.join(absent)}" if absent else ""
  if len(absent) == len(classes) - 1:
    note = f"all test events are {classes[int(label[0])]}"

  def guess(value: float) -> dict:
    return {"reference": value, "reference_kind": "chance", "note": note}

  out = {
    "accuracy": measure(
      lambda: cls.accuracy(probabilities, label, weight),
      error=cls.accuracy_error(probabilities, label, weight),
      baseline=chance["majority"],
      baseline_kind="always the largest class",
      **guess(chance["accuracy"]),
    ),
    "top3": measure(
      lambda: cls.top_k_accuracy(probabilities, label, weight, k=3),
      error=cls.accuracy_error(probabilities, label, weight, k=3),
      **guess(chance["top3"]),
    ),
  }
  out |= chain_summary(probabilities, label, classes, weight)

  def replicas(name: str) -> int:
    return 0 if name == "auc_ovo" and len(classes) > MANY_CLASSES else bootstrap

  for name, metric, level in (
    ("macro_f1", cls.macro_f1, chance["macro_f1"]),
    ("auc_ovr", cls.auc_ovr, chance["auc"]),
    ("auc_ovo", cls.auc_ovo, chance["auc"]),
  ):
    out[name] = measure(
      functools.partial(metric, probabilities, label, weight),
      error=_bootstrap(functools.partial(metric, probabilities, label), weight, replicas(name)),
      **guess(level),
    )
  out["ece"] = measure(
    lambda: cls.expected_calibration_error(probabilities, label, weight),
    reference=0.0,
    reference_kind="floor",
  )
  if background in classes:
    b = list(classes).index(background)
    for s, name in enumerate(classes):
      if s != b:
        rows = (label == s) | (label == b)
        out[f"rejection_{name}"] = wp.background_rejection(
          wp.discriminant(probabilities[rows], s, b),
          label[rows] == s,
          wp.working_point_of(name),
          weight[rows],
        )
  return out


def _or_none(metric) -> float | None:
  try:
    return float(metric())
  except UndefinedMetric:
    return None


def _bootstrap(metric, weight: np.ndarray, replicas: int) -> float | None:
  if replicas < 2:
    return None
  return _or_none(lambda: bootstrap_error(metric, weight, replicas=replicas))


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
) -> Results:
  """R2, MSE, MAE, resolution, 68 % half-width of one target, in GeV and standardised.

  Shapes: predicted and true (B,) in GeV; mean and std (GeV) standardise as in training. `baselines`
  holds predictions (B,) by name, such as the analytic constituent mass; the first is the baseline,
  more are `others`. The reference is what the mean of the true values reaches.
  """
  baselines = dict(baselines or {})
  weight, predicted, true, *rest = counted(weight, predicted, true, *baselines.values())
  trivial = dict(zip(baselines, rest, strict=True))
  constant = np.full(len(true), weighted_mean(true, weight))
  out: Results = {}

  def add(name, metric, scale=lambda x: x):
    def value(of, w=weight):
      return metric(scale(of), scale(true), w)

    about: dict = {"reference": _or_none(lambda: value(constant)), "reference_kind": "the mean"}
    reached = {kind: _or_none(functools.partial(value, x)) for kind, x in trivial.items()}
    if reached:
      about["baseline_kind"] = next(iter(reached))
      about["baseline"] = reached.pop(about["baseline_kind"])
      about["others"] = {kind: x for kind, x in reached.items() if x is not None}
    error = _bootstrap(lambda w: value(predicted, w), weight, bootstrap)
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


def generation_summary(
  true: Jets,
  generated: Jets,
  other: Jets,
  *,
  baselines: Mapping[str, gen.Particles] | None = None,
  jetnet_samples: tuple[int, int] | None = None,
  jetnet_jets: int = 0,
  seed: int = 0,
) -> Results:
  """MMD, pT KL, histogram MSE, W1 of particles, of jet mass and multiplicity, FPD, KPD; floors.

  The floor is the distance of `other` true jets. A generator that knows true jets is to be told
  those, and not the ones that it is compared with: handing back what it knows then gives the floor.

  Shapes: p4 (B, N, 4) in GeV, mask (B, N) and weights (B,) or None of each sample; `generated` and
  `other` of about as many jets. `baselines` are particles of trivial generators, by name; the first
  is the baseline shown. FPD and KPD look at `jetnet_jets` random jets of each sample (0: all). With
  50,000 they are as published, with draws of 20,000 to 50,000; with fewer, draws are of half to all
  of them, without replacement, and the note says so. `jetnet_samples`: other sizes of draws.
  """
  samples = {"true": true, "value": generated, "reference": other}
  cleaned = {}
  for kind, (p4, mask, weight) in samples.items():
    weight, p4, mask = counted(weight, p4, mask)
    cleaned[kind] = p4, np.asarray(mask, bool), weight

  def particles(names: tuple[str, ...]) -> dict[str, gen.Particles]:
    return {
      kind: gen.flat_particles(particle_coordinates(p4, mask, names), mask, weight)
      for kind, (p4, mask, weight) in cleaned.items()
    }

  def compared(metric: Callable[[Any, Any], float], of: Mapping[str, Any], **about) -> Measurement:
    about |= {"reference": metric(of["true"], of["reference"]), "reference_kind": "floor"}
    return measure(lambda: metric(of["true"], of["value"]), **about)

  sides, trivial = particles(COORDINATES), dict(baselines or {})
  out: Results = {}
  distances: dict[str, Callable[[gen.Particles, gen.Particles], float]] = {
    "mmd": functools.partial(gen.generation_mmd, seed=seed),
    "pt_kl": gen.generation_kl,
    "histogram_mse": gen.generation_histogram_mse,
  }
  for i, feature in enumerate(COORDINATES):
    distances[f"w1_{feature}"] = functools.partial(_w1_feature, i)
  for name, metric in distances.items():
    about: dict = {}
    reached = {kind: metric(sides["true"], sample) for kind, sample in trivial.items()}
    if reached:
      about["baseline_kind"] = next(iter(reached))
      about["baseline"] = reached.pop(about["baseline_kind"])
      about["others"] = reached
    out[name] = compared(metric, sides, **about)
  # A jet points where the generator was told: its shape is seen around its axis only.
  around_axis = particles(RELATIVE[:2])
  for i, feature in enumerate(RELATIVE[:2]):
    out[f"w1_{feature}"] = compared(functools.partial(_w1_feature, i), around_axis)
  masses = {
    kind: gen.Particles(jet_mass(p4, mask)[:, None], weight)
    for kind, (p4, mask, weight) in cleaned.items()
  }
  out["w1_mass"] = compared(functools.partial(_w1_feature, 0), masses)
  multiplicities = {
    kind: gen.Particles(mask.sum(axis=1)[:, None].astype(np.float64), weight)
    for kind, (_, mask, weight) in cleaned.items()
  }
  out["w1_multiplicity"] = compared(functools.partial(_w1_feature, 0), multiplicities)
  rng = np.random.default_rng(seed)
  # As many jets of each: the noise of the floor is then that of the value.
  size = min(len(weight) for *_, weight in cleaned.values())
  size = min(size, jetnet_jets or size)
  features = {}
  for kind, (p4, mask, _) in cleaned.items():
    rows = np.sort(rng.choice(len(p4), size, replace=False))
    features[kind] = _physics_features(p4[rows], mask[rows])
  return out | _physics_distances(features, jetnet_samples)


def _w1_feature(i: int, x: gen.Particles, y: gen.Particles) -> float:
  return wasserstein_1d(x.values[:, i], y.values[:, i], x.weight, y.weight)


def _physics_features(p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
  relative = particle_coordinates(p4, mask, RELATIVE)
  total = relative[..., 2].sum(axis=1, keepdims=True)
  pt = relative[..., 2] / np.where(total > 0, total, 1)
  return jetnet.physics_features(pt, relative[..., 0], relative[..., 1], mask)


def _physics_distances(
  features: Mapping[str, np.ndarray], samples: tuple[int, int] | None
) -> Results:
  """FPD and KPD on energy flow polynomials; they resample jets and know no weights."""
  jets = len(features["true"])
  if jets < 100:
    reason = f"FPD and KPD need at least 100 jets on each side, got {jets}"
    return {name: Measurement(None, reason=reason) for name in ("fpd", "kpd")}
  published = jets >= jetnet.PUBLISHED_JETS
  low, high = samples or ((20_000, 50_000) if published else (jets // 2, jets))
  note = "" if published and not samples else f"from draws of {low} to {high} jets"
  out: Results = {}
  for name, metric in (
    ("fpd", functools.partial(jetnet.fpd, min_samples=low, max_samples=high)),
    ("kpd", functools.partial(jetnet.kpd, batch_size=min(low, 5_000))),
  ):
    value, error = metric(features["true"], features["value"], replace=published)
    floor, _ = metric(features["true"], features["reference"], replace=published)
    out[name] = Measurement(value, error, reference=floor, reference_kind="floor", note=note)
  return out


def super_resolution_summary(
  predicted_p4: np.ndarray,
  predicted_mask: np.ndarray,
  true_p4: np.ndarray,
  true_mask: np.ndarray,
  input_p4: np.ndarray,
  input_mask: np.ndarray,
  label: np.ndarray,
  weight: np.ndarray | None = None,
  *,
  seed: int = 0,
) -> Results:
  """Chamfer, pT EMD and multiplicity error, means over jets with their errors.

  Shapes: p4 (B, N, 4) in GeV, mask (B, N), each of its own N; label (B,). The baseline copies the
  input; the chance level takes another true jet of the same class. Both Chamfer distances also come
  over that of the input, with the error of a ratio of means over the same jets.
  """
  weight, *arrays = counted(
    weight, predicted_p4, predicted_mask, true_p4, true_mask, input_p4, input_mask, label
  )
  predicted_p4, predicted_mask, true_p4, true_mask, input_p4, input_mask, label = arrays
  true = particle_coordinates(true_p4, true_mask)
  # Another jet is compared relative to the two axes: where a jet points says nothing of it.
  relative = particle_coordinates(true_p4, true_mask, ("pt", "deta", "dphi"))
  partner = sr.another_jet(label, seed=seed)
  candidates = {
    "value": (particle_coordinates(predicted_p4, predicted_mask), predicted_mask),
    "baseline": (particle_coordinates(input_p4, input_mask), input_mask),
    "reference": (relative[partner], true_mask[partner]),
  }
  origin = {"value": true, "baseline": true, "reference": relative}
  out: Results = {}
  for name, metric in (
    ("chamfer", functools.partial(_chamfer, true_mask)),
    ("chamfer_dr", functools.partial(_chamfer, true_mask, squared=False)),
    ("pt_emd", lambda x, m, t: sr.pt_emd(x[..., 0], t[..., 0], m, true_mask)),
    ("multiplicity_error", lambda x, m, t: sr.multiplicity_error(m, true_mask)),
  ):
    per_jet = {kind: metric(*candidates[kind], origin[kind]) for kind in candidates}
    about: dict = {"baseline_kind": "copied input", "reference_kind": "another jet"}
    for kind in ("baseline", "reference"):
      some = np.isfinite(per_jet[kind])
      about[kind] = weighted_mean(per_jet[kind][some], weight[some]) if some.any() else None
    try:
      about["value"], about["error"] = _mean_over_jets(per_jet["value"], weight)
      empty = int(np.isnan(per_jet["value"]).sum())
      about["note"] = f"{empty} of {len(true)} jets without particles left out" if empty else ""
    except UndefinedMetric as error:
      about |= {"value": None, "reason": str(error)}
    out[name] = Measurement(**about)
    if name in ("chamfer", "chamfer_dr"):
      ratio = _ratio_to_input(out[name], per_jet["value"], per_jet["baseline"], weight)
      out |= {f"{name}_ratio": ratio} if ratio else {}
  return out


def _ratio_to_input(
  m: Measurement, per_jet: np.ndarray, of_input: np.ndarray, weight: np.ndarray
) -> Measurement | None:
  """None where the distance is undefined, or 0 for the input."""
  some = np.isfinite(per_jet) & np.isfinite(of_input)
  if m.value is None or not some.any():
    return None
  x, y, w = per_jet[some], of_input[some], weight[some]
  level = weighted_mean(y, w)
  if level == 0:
    return None
  ratio = weighted_mean(x, w) / level
  _, error = _mean_over_jets(x - ratio * y, w)
  return Measurement(
    ratio,
    error / level,
    reference=None if m.reference is None else m.reference / level,
    reference_kind=m.reference_kind,
    baseline=1.0,
    baseline_kind=m.baseline_kind,
  )


def _chamfer(true_mask, predicted, predicted_mask, true, squared: bool = True) -> np.ndarray:
  directions = predicted[..., 1:3], true[..., 1:3]
  return sr.chamfer(*directions, predicted_mask, true_mask, squared=squared)


def _mean_over_jets(per_jet: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
  """Mean and its standard error over the jets that have a value."""
  some = np.isfinite(per_jet)
  if not some.any():
    raise UndefinedMetric("no jet has particles on both sides")
  x, w = per_jet[some], weight[some]
  spread = weighted_std(x, w) * np.sqrt(np.sum(w**2)) / w.sum()
  return weighted_mean(x, w), float(spread)
