"""How far the last digit of the momenta moves a trained classifier, beside weaver-core's ParT.

  python -m benchmarks.rounding --table=runs/reproduce_jets [--data=DATASET] [--seeds=1]
      [--events=10000] [--results=FILE.json]

Momenta are stored in float32: which of two neighbours a number became is chance, and so is what a
classifier makes of the difference. Here every component of the momenta of test jets moves by at
most half a unit in its last place before it is stored again. A jet's change is the largest of its
probabilities' changes. The FOLDER is that of `benchmarks.reproduce --table=jets` with the rows
classify and weaver. The last line printed is JSON: a list of {"name", "value", "unit", "target",
"holds", "detail"}.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.jet_cells import INPUTS
from benchmarks.model_speed import peer_python
from benchmarks.result_file import write_result
from benchmarks.weaver_cell import BATCH, write_jets
from jetfm import inference
from jetfm.data import DataError, open_dataset
from jetfm.schema import Schema
from jetfm.train import CheckpointError
from jetfm.typing import Batch

LARGEST_CHANGE = 0.01
"""Target: of the probabilities of 99 % of the jets."""
QUANTILES = {"median": 0.5, "p99": 0.99, "largest": 1.0}

Scores = Callable[[Schema, Sequence[Batch]], np.ndarray]


def moved(batch: Batch, rng: np.random.Generator) -> Batch:
  """The same events with other last digits of their momenta."""
  p4 = np.asarray(batch.p4, np.float64)
  half_a_unit = rng.uniform(-0.5, 0.5, p4.shape) * np.finfo(np.float32).eps
  return dataclasses.replace(batch, p4=(p4 * (1 + half_a_unit)).astype(np.float32))


def changes(scores: Scores, schema: Schema, batches: Sequence[Batch], seed: int) -> np.ndarray:
  """Largest change of a probability, of each jet, (n,)."""
  rng = np.random.default_rng(seed)
  real = np.concatenate([batch.weight > 0 for batch in batches])
  before, after = (
    scores(schema, jets)[real] for jets in (batches, [moved(batch, rng) for batch in batches])
  )
  return np.abs(after - before).max(axis=1)


def scores_of_jetfm(checkpoint: pathlib.Path) -> Scores:
  """Raises: CheckpointError."""
  predictor = inference.load(checkpoint)
  return lambda _, batches: predictor.classify(batches)


def scores_of_weaver(trained: pathlib.Path) -> Scores:
  """In the peers' environment; filler gets 0."""

  def scores(schema: Schema, batches: Sequence[Batch]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as name:
      jets, out = pathlib.Path(name, "jets.npz"), pathlib.Path(name, "scores.npy")
      write_jets(batches, schema, jets)
      arguments = [str(jets), str(trained), str(out), str(os.cpu_count() or 1)]
      subprocess.run([peer_python(), "-m", "benchmarks.peer_scores", *arguments], check=True)
      found = np.load(out)
    real = np.concatenate([batch.weight > 0 for batch in batches])
    everywhere = np.zeros((len(real), found.shape[1]), found.dtype)
    everywhere[real] = found
    return everywhere

  return scores


def measure(
  table: pathlib.Path, batches: Sequence[Batch], schema: Schema, seeds: int
) -> list[dict[str, Any]]:
  """Prints the changes; one row of the result for each classifier.

  Raises: CheckpointError; CalledProcessError where the peer's program fails.
  """
  rows = []
  print(f"{'classifier':<12}{'median':>12}{'99 %':>12}{'largest':>12}")
  for name, load, file in (
    ("classify", scores_of_jetfm, "seed{}/classify/best"),
    ("weaver", scores_of_weaver, "weaver/seed{}/last.pt"),
  ):
    found = []
    for seed in range(seeds):
      change = changes(load(table / file.format(seed)), schema, batches, seed)
      found.append([float(np.quantile(change, q)) for q in QUANTILES.values()])
    mean = dict(zip(QUANTILES, np.mean(found, axis=0), strict=True))
    print(f"{name:<12}" + "".join(f"{mean[q]:>12.2g}" for q in QUANTILES), flush=True)
    ours = name == "classify"
    rows.append(
      {
        "name": f"rounding_{name}_p99",
        "value": round(float(mean["p99"]), 5),
        "unit": "change of a probability",
        "target": f"<= {LARGEST_CHANGE}" if ours else None,
        "holds": bool(mean["p99"] <= LARGEST_CHANGE) if ours else None,
        "detail": {q: [round(x[i], 6) for x in found] for i, q in enumerate(QUANTILES)}
        | {"jets": len(change)},
      }
    )
  return rows


def main(argv: Sequence[str] | None = None) -> int:
  """Status 0 when the target holds, 1 when not, 2 after a mistake of the user's."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.rounding",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--table", type=pathlib.Path, required=True, help="of benchmarks.reproduce")
  parser.add_argument("--data", type=pathlib.Path, help="(default FOLDER/data)")
  parser.add_argument("--seeds", type=int, default=1, help="trainings of each")
  parser.add_argument("--events", type=int, default=10_000, help="at most, of the test split")
  parser.add_argument("--results", type=pathlib.Path, help="file for rows and machine")
  given = sys.argv[1:] if argv is None else list(argv)
  options = parser.parse_args(given)
  try:
    data = open_dataset(
      options.data or options.table / "data", INPUTS, "test", max_events=options.events
    )
    loader = data.loader(BATCH, shuffle=False, epochs=1)
    batches = [batch for groups in loader.iterate() for batch in groups]
    rows = measure(options.table, batches, data.schema, options.seeds)
  except (CheckpointError, DataError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except (OSError, subprocess.CalledProcessError) as error:
    print(f"error: weaver-core's scores: {error}", file=sys.stderr)
    return 2
  if options.results:
    write_result(options.results, "benchmarks.rounding", given, rows)
  print(json.dumps(rows))
  return 0 if all(row["holds"] is not False for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
