"""Whether the loss of hidden measurements falls steadily in the pretrainings of several seeds.

  python -m benchmarks.stability --runs=FOLDER/seed0/pretrain,FOLDER/seed1/pretrain
      [--term=masked_features/loss] [--figure=FILE.png] [--results=FILE.json]

Reads metrics.jsonl of stages that launch.train trained, such as those of benchmarks.reproduce. The
curve is the mean over windows of a twentieth of the stage. Its excursion is its largest rise above
what it had reached before, as a part of its total fall: 0 for a curve that only falls. The last
line printed is JSON: a list of {"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import glob
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.result_file import write_result

LARGEST_EXCURSION = 0.05
WINDOWS = 20
"""Windows of smoothing in a stage."""


def read_curves(stage: pathlib.Path, term: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """'train' and 'valid' -> steps and values of a term, and 'nonfinite' -> steps and their numbers.

  Raises: ValueError for a stage without metrics, or without the term.
  """
  path = stage / "metrics.jsonl"
  if not path.exists():
    raise ValueError(f"{path} does not exist: expected the folder of a trained stage")
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  curves = {}
  for name, split, key in (
    ("train", "train", term),
    ("valid", "valid", term),
    ("nonfinite", "train", "nonfinite_steps"),
  ):
    # A resumed run says some steps twice: the later ones count.
    found = {line["step"]: line[key] for line in lines if line["split"] == split and key in line}
    steps = np.array(sorted(found), int)
    curves[name] = steps, np.array([found[step] for step in steps], float)
  if not len(curves["train"][0]):
    terms = sorted({key for line in lines for key in line if key.endswith("loss")})
    raise ValueError(f"{path} has no '{term}' of training; there are {terms}")
  return curves


def smoothed(values: np.ndarray, windows: int = WINDOWS) -> np.ndarray:
  """(n,) -> (m,) running means over n/windows values, without the edges; nan stays out."""
  width = max(1, len(values) // windows)
  good = np.isfinite(values)
  kernel = np.ones(width)
  count = np.convolve(good, kernel, mode="valid")
  total = np.convolve(np.where(good, values, 0), kernel, mode="valid")
  return total[count > 0] / count[count > 0]


def excursion(curve: np.ndarray) -> float:
  """Largest rise above the lowest value so far, over the total fall; infinite without a fall."""
  fall = float(curve[0] - curve[-1])
  rise = float((curve - np.minimum.accumulate(curve)).max())
  return rise / fall if fall > 0 else float("inf")


def rows_of(curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]) -> list[dict[str, Any]]:
  """One row for each run."""
  rows = []
  for name, parts in curves.items():
    curve = smoothed(parts["train"][1])
    value, lost = excursion(curve), int(parts["nonfinite"][1].sum())
    print(
      f"{name:<12} {curve[0]:.3f} -> {curve[-1]:.3f}, largest rise {100 * value:.2f} % of the "
      f"fall, {lost} steps without a finite loss"
    )
    rows.append(
      {
        "name": f"excursion: {name}",
        "value": round(100 * value, 2) if np.isfinite(value) else None,
        "unit": "% of the fall",
        "target": f"< {100 * LARGEST_EXCURSION:g}, and every step finite",
        "holds": value < LARGEST_EXCURSION and not lost,
        "detail": {
          "first": round(float(curve[0]), 4),
          "last": round(float(curve[-1]), 4),
          "nonfinite_steps": lost,
          "steps": int(parts["train"][0][-1]),
        },
      }
    )
  return rows


def main(argv: Sequence[str] | None = None) -> int:
  """Status 0 when all curves are steady, 1 when not, 2 after a mistake of the user's."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.stability",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--runs", required=True, help="folders of stages or globs, comma-separated")
  parser.add_argument("--term", default="masked_features/loss")
  parser.add_argument("--figure", type=pathlib.Path)
  parser.add_argument("--results", type=pathlib.Path)
  options = parser.parse_args(argv)
  folders = [pathlib.Path(p) for part in options.runs.split(",") for p in sorted(glob.glob(part))]
  try:
    if not folders:
      raise ValueError(f"--runs={options.runs} matches no folder")
    curves = {f.absolute().parent.name: read_curves(f, options.term) for f in folders}
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  rows = rows_of(curves)
  if options.figure:
    from jetfm.evals import plots

    shown = {
      name: {"training": parts["train"], "validation": parts["valid"]}
      for name, parts in curves.items()
    }
    figure = plots.training_figure(shown, ylabel="hidden measurements: loss in nats")
    options.figure.write_bytes(plots.png(figure))
  print(json.dumps(rows))
  if options.results:
    write_result(
      options.results, "benchmarks.stability", sys.argv[1:] if argv is None else argv, rows
    )
  return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
