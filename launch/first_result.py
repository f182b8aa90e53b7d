"""Whether a quickstart's results are as good as they must be.

  python -m launch.first_result REPORT/results.json SECONDS
  python -m launch.first_result clear REPORT/results.json SECONDS

The second judges `./launch/quickstart clear`. Prints what was reached beside what is asked for; the
last line is JSON with all values, those without a bound too. Exit status 0 when every one is
reached, 1 when not, 2 when the file cannot be read.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

from jetfm.evals.report import RunResults, results_from_json

Bound = tuple[str, str, str, float]
"""Task, metric, relation, bound."""

ASKED: dict[str, Bound] = {
  "accuracy": ("classification", "accuracy", ">=", 0.25),
  "gen_mass_r2": ("regression", "gen_mass_r2", ">=", 0.6),
  "pt_kl_ratio": ("generation", "pt_kl_ratio", "<", 1.0),
  "chamfer_ratio": ("super_resolution", "chamfer_ratio", "<", 1.0),
  "reconstruction_gain": ("pretraining", "reconstruction_gain", ">=", 0.3),
  "gain_over_interpolation": ("pretraining", "gain_over_interpolation", ">", 0.0),
  "direction_gain": ("pretraining", "direction_gain", ">", 0.0),
}
"""Name -> task, metric, bound. Guessing gives accuracy 0.1; the ratios are to a Gaussian fit
and to the copied input; the gains are relative to predicting the mean, what the visible particles
of the next pT ranks say, and where visible particles are."""

SHOWN = {
  "chamfer_ratio_error": ("super_resolution", "chamfer_ratio", "error"),
  "chamfer_dr_ratio": ("super_resolution", "chamfer_dr_ratio", "value"),
  "chamfer_dr_ratio_error": ("super_resolution", "chamfer_dr_ratio", "error"),
  "gen_mass_r2_of_calibrated": ("regression", "gen_mass_r2", "baseline"),
  "w1_mass": ("generation", "w1_mass", "value"),
  "w1_mass_floor": ("generation", "w1_mass", "reference"),
  "w1_multiplicity": ("generation", "w1_multiplicity", "value"),
  "w1_multiplicity_floor": ("generation", "w1_multiplicity", "reference"),
  "gen_mass_resolution": ("regression", "gen_mass_resolution_gev", "value"),
  "gen_mass_resolution_of_calibrated": ("regression", "gen_mass_resolution_gev", "baseline"),
  "gain_over_rank": ("pretraining", "gain_over_rank", "value"),
  "gain_over_interpolation_error": ("pretraining", "gain_over_interpolation", "error"),
  "direction_gain_error": ("pretraining", "direction_gain", "error"),
  "direction_gain_of_other_jets": ("pretraining", "direction_gain", "baseline"),
}
"""Name -> task, metric, field of the measurement: shown, but no bound is asked for. Calibrated is
the mass of the measured particles on a straight line to that of the true ones."""

ASKED_CLEAR: dict[str, Bound] = {
  "feature_gain": ("pretrain", "feature_gain", ">=", 0.1),
  "over_largest_class": ("differential", "accuracy", ">=", 2.0),
  "over_probe": ("differential", "accuracy", ">", 0.0),
  "over_chance_hadronic": ("differential", "accuracy_hadronic", ">=", 5.0),
}
"""Name -> stage, metric, bound. The gain is relative to constant guesses of hidden measurements.
Accuracy of training everything: over that of always answering the largest class, less that of
logistic regression on the frozen encoder, and, without the easy leptonic classes, over guessing."""

SHOWN_CLEAR = {
  "accuracy": ("differential", "accuracy"),
  "accuracy_hadronic": ("differential", "accuracy_hadronic"),
  "macro_f1": ("differential", "macro_f1"),
  "oracle": ("differential", "oracle_accuracy"),
  **{
    stage: (stage, "accuracy")
    for stage in ("probe_1", "probe_2", "probe_3", "class_attention", "multi_task", "two_stage")
  },
  "knn": ("pretrain", "knn"),
}
"""Name -> stage and metric of what the last line holds besides."""


def values(run: RunResults) -> tuple[dict[str, float | None], dict[str, float | None]]:
  """Of one run, what is asked, and what is shown besides; None where it has no value."""

  def field(task: str, metric: str, of: str = "value") -> float | None:
    return getattr(run.tasks.get(task, {}).get(metric), of, None)

  asked = {name: field(task, metric) for name, (task, metric, _, _) in ASKED.items()}
  return asked, {name: field(*place) for name, place in SHOWN.items()}


def clear_values(
  runs: Sequence[RunResults],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
  """Of the columns of a run of configs/clear.py, what is asked, and what is shown besides."""
  found = {
    (run.name.split("/")[-1], metric): m
    for run in runs
    for metrics in run.tasks.values()
    for metric, m in metrics.items()
  }

  def value(stage: str, metric: str, of: str = "value") -> float | None:
    return getattr(found.get((stage, metric)), of, None)

  def of_two(a: float | None, b: float | None, ratio: bool) -> float | None:
    if a is None or b is None or (ratio and not b):
      return None
    return a / b if ratio else a - b

  accuracy = value("differential", "accuracy")
  hadronic = ("differential", "accuracy_hadronic")
  asked = {
    "feature_gain": value("pretrain", "feature_gain"),
    "over_largest_class": of_two(accuracy, value("differential", "accuracy", "baseline"), True),
    "over_probe": of_two(accuracy, value("probe_1", "accuracy"), False),
    "over_chance_hadronic": of_two(value(*hadronic), value(*hadronic, "reference"), True),
  }
  return asked, {name: value(*place) for name, place in SHOWN_CLEAR.items()}


def reached(
  found: Mapping[str, float | None], asked: Mapping[str, Bound] = ASKED
) -> dict[str, bool]:
  """Whether each value is within its bound; a missing one is not."""
  out = {}
  for name, (_, _, relation, bound) in asked.items():
    value = found[name]
    out[name] = (
      value is not None
      and {
        ">=": value >= bound,
        ">": value > bound,
        "<": value < bound,
      }[relation]
    )
  return out


def _text(value: float | None) -> str:
  return "missing" if value is None else f"{value:.4g}"


def main(argv: Sequence[str]) -> int:
  clear = list(argv[:1]) == ["clear"]
  argv = argv[1:] if clear else argv
  if len(argv) != 2:
    print(__doc__, file=sys.stderr)
    return 2
  asked = ASKED_CLEAR if clear else ASKED
  shown: dict[str, float | None] = {}
  try:
    runs = results_from_json(pathlib.Path(argv[0]).read_text())
    seconds = float(argv[1])
    if clear:
      found, shown = clear_values(runs)
    else:
      found, shown = values(runs[0])
  except (OSError, ValueError, IndexError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  holds = reached(found, asked)
  for name, value in found.items():
    _, _, relation, bound = asked[name]
    verdict = "ok  " if holds[name] else "FAIL"
    print(f"{verdict} {name:<34}{_text(value):>8}  asked {relation} {bound:g}")
  for name, value in shown.items():
    print(f"     {name:<34}{_text(value):>8}")
  rounded = {k: None if v is None else round(v, 4) for k, v in {**shown, **found}.items()}
  print(json.dumps({**rounded, "seconds": round(seconds), "holds": all(holds.values())}))
  return 0 if all(holds.values()) else 1


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
