"""All metrics of super-resolution at once."""

from __future__ import annotations

import functools

import numpy as np

from jetfm.evals.metrics import super_resolution as sr
from jetfm.evals.metrics.measurement import Measurement, UndefinedMetric
from jetfm.evals.metrics.particles import particle_coordinates
from jetfm.evals.metrics.weighting import counted, weighted_mean, weighted_std


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
) -> dict[str, Measurement]:
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
  out: dict[str, Measurement] = {}
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
