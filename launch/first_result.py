"""Whether the quickstart's results are as good as they must be.

  python -m launch.first_result REPORT/results.json SECONDS

Prints what was reached beside what is asked for; the last line is JSON with all values. Exit status
0 when every one is reached, 1 when not, 2 when the file cannot be read.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

from jetfm.evals.report import RunResults, results_from_json

ASKED = {
  "accuracy": ("classification", "accuracy", ">=", 0.25),
  "gen_mass_r2": ("regression", "gen_mass_r2", ">=", 0.6),
  "pt_kl_ratio": ("generation", "pt_kl_ratio", "<", 1.0),
  "chamfer_ratio": ("super_resolution", "chamfer_ratio", "<", 1.0),
  "reconstruction_gain": ("pretraining", "reconstruction_gain", ">=", 0.3),
}
"""Name -> task, metric, bound. Guessing gives accuracy 0.1; the ratios are to a Gaussian fit
and to the copied input; the gain is relative to predicting the mean."""


def values(run: RunResults) -> dict[str, float | None]:
  """The asked metrics of one run; None where it has no value."""
  out: dict[str, float | None] = {}
  for name, (task, metric, _, _) in ASKED.items():
    measured = run.tasks.get(task, {}).get(metric)
    out[name] = None if measured is None else measured.value
  return out


def reached(found: Mapping[str, float | None]) -> dict[str, bool]:
  """Whether each value is within its bound; a missing one is not."""
  out = {}
  for name, (_, _, relation, bound) in ASKED.items():
    value = found[name]
    out[name] = value is not None and (value >= bound if relation == ">=" else value < bound)
  return out


def main(argv: Sequence[str]) -> int:
  if len(argv) != 2:
    print(__doc__, file=sys.stderr)
    return 2
  try:
    runs = results_from_json(pathlib.Path(argv[0]).read_text())
    seconds = float(argv[1])
    found = values(runs[0])
  except (OSError, ValueError, IndexError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  holds = reached(found)
  for name, value in found.items():
    _, _, relation, bound = ASKED[name]
    shown = "missing" if value is None else f"{value:.4g}"
    print(f"{'ok  ' if holds[name] else 'FAIL'} {name:<20}{shown:>8}  asked {relation} {bound:g}")
  rounded = {k: None if v is None else round(v, 4) for k, v in found.items()}
  print(json.dumps({**rounded, "seconds": round(seconds), "holds": all(holds.values())}))
  return 0 if all(holds.values()) else 1


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
