"""All metrics of generation at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jetfm.evals.metrics import generation as gen
from jetfm.evals.metrics import jetnet
from jetfm.evals.metrics.distances import wasserstein_1d
from jetfm.evals.metrics.measurement import Measurement, measure
from jetfm.evals.metrics.particles import COORDINATES, RELATIVE, jet_mass, particle_coordinates
from jetfm.evals.metrics.weighting import counted

Jets = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""p4 (B, N, 4) in GeV, mask (B, N), weight (B,) or None."""
JOINT_BINS = {"pt_kl": (0,), "histogram_mse": tuple(range(len(COORDINATES)))}
"""Metrics whose bins cover the generated particles too, and the coordinates that they see."""
WIDENED = 1.5
"""Bins that are wider by more than this are said to be."""


def generation_summary(
  true: Jets,
  generated: Jets,
  other: Jets,
  *,
  baselines: Mapping[str, gen.Particles] | None = None,
  jetnet_samples: tuple[int, int] | None = None,
  jetnet_jets: int = 0,
  seed: int = 0,
) -> dict[str, Measurement]:
  """MMD, KL of pT, histogram MSE, W1 of particles, of jet mass and multiplicity, FPD, KPD; floors.

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
  out: dict[str, Measurement] = {}
  distances: dict[str, Callable[[gen.Particles, gen.Particles], float]] = {
    "mmd": functools.partial(gen.generation_mmd, seed=seed),
    "pt_kl": gen.generation_kl,
    "pt_kl_equiprobable": gen.generation_kl_equiprobable,
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
    if name in JOINT_BINS:
      about["note"] = _widened(sides, JOINT_BINS[name])
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


def _widened(sides: Mapping[str, gen.Particles], features: Sequence[int]) -> str:
  """A note where generated particles widen the bins, so that they hide what is wrong elsewhere."""

  def width(kind: str, feature: int) -> float:
    values = (sides[k].values[:, feature] for k in ("true", kind))
    return float(np.ptp(np.concatenate([*values])))

  ratios = {COORDINATES[f]: width("value", f) / max(width("reference", f), 1e-30) for f in features}
  worst = max(ratios, key=lambda name: ratios[name])
  if not ratios[worst] > WIDENED:
    return ""
  return f"bins of {worst} are {ratios[worst]:.2g} times as wide as the floor's, and hide more"


def _w1_feature(i: int, x: gen.Particles, y: gen.Particles) -> float:
  return wasserstein_1d(x.values[:, i], y.values[:, i], x.weight, y.weight)


def _physics_features(p4: np.ndarray, mask: np.ndarray) -> np.ndarray:
  relative = particle_coordinates(p4, mask, RELATIVE)
  total = relative[..., 2].sum(axis=1, keepdims=True)
  pt = relative[..., 2] / np.where(total > 0, total, 1)
  return jetnet.physics_features(pt, relative[..., 0], relative[..., 1], mask)


def _physics_distances(
  features: Mapping[str, np.ndarray], samples: tuple[int, int] | None
) -> dict[str, Measurement]:
  """FPD and KPD on energy flow polynomials; they resample jets and know no weights."""
  jets = len(features["true"])
  if jets < 100:
    reason = f"FPD and KPD need at least 100 jets on each side, got {jets}"
    return {name: Measurement(None, reason=reason) for name in ("fpd", "kpd")}
  published = jets >= jetnet.PUBLISHED_JETS
  low, high = samples or ((20_000, 50_000) if published else (jets // 2, jets))
  note = "" if published and not samples else f"from draws of {low} to {high} jets"
  out: dict[str, Measurement] = {}
  for name, metric in (
    ("fpd", functools.partial(jetnet.fpd, min_samples=low, max_samples=high)),
    ("kpd", functools.partial(jetnet.kpd, batch_size=min(low, 5_000))),
  ):
    value, error = metric(features["true"], features["value"], replace=published)
    floor, _ = metric(features["true"], features["reference"], replace=published)
    out[name] = Measurement(value, error, reference=floor, reference_kind="floor", note=note)
  return out
