"""How far the last digit of the momenta moves a trained classifier, beside weaver-core's ParT.

  python -m benchmarks.rounding --checkpoint=RUN/classify --data=DATASET [--weaver=FILE.pt]
      [--events=10000] [--results=FILE.json]

Momenta are stored in float32: which of two neighbours a number became is chance, and so is what a
classifier makes of the difference. Here every component of the momenta of test jets moves by at
most half a unit in its last place before it is stored again. A jet's change is the largest of its
probabilities' changes. The peer's FILE is weaver/seed0/last.pt in the folder of
`benchmarks.reproduce --table=jets --rows=weaver`, which sees `kin4`, as the checkpoint must. The
last line printed is JSON: a list of {"name", "value", "unit", "target", "holds", "detail"}.
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
from jetfm.data import open_dataset
from jetfm.inference import Predictor
from jetfm.schema import Schema
from jetfm.train import CheckpointError
from jetfm.typing import Batch

LARGEST_CHANGE = 0.01
"""Target: of the probabilities of 99 % of the jets."""
SEED = 0
QUANTILES = {"median": 0.5, "p99": 0.99, "largest": 1.0}

Scores = Callable[[Sequence[Batch]], np.ndarray]
"""Probabilities (n, C) of the jets of batches, without what fills these up."""


def moved(batch: Batch, rng: np.random.Generator) -> Batch:
  """The same events with other last digits of their momenta."""
  p4 = np.asarray(batch.p4, np.float64)
  half_a_unit = rng.uniform(-0.5, 0.5, p4.shape) * np.finfo(np.float32).eps
  return dataclasses.replace(batch, p4=(p4 * (1 + half_a_unit)).astype(np.float32))


def changes(scores: Scores, batches: Sequence[Batch]) -> np.ndarray:
  """Largest change of a probability, of each jet, (n,)."""
  rng = np.random.default_rng(SEED)
  return np.abs(scores([moved(x, rng) for x in batches]) - scores(batches)).max(axis=1)


def scores_of_jetfm(predictor: Predictor) -> Scores:
  """Of its only classification."""

  def scores(batches: Sequence[Batch]) -> np.ndarray:
    real = np.concatenate([batch.weight > 0 for batch in batches])
    return predictor.classify(batches)[real]

  return scores


def scores_of_weaver(trained: pathlib.Path, schema: Schema) -> Scores:
  """In the peers' environment. What it gives raises CalledProcessError where the peer fails."""

  def scores(batches: Sequence[Batch]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as name:
      jets, out = pathlib.Path(name, "jets.npz"), pathlib.Path(name, "scores.npy")
      write_jets(batches, schema, jets)
      arguments = [str(jets), str(trained), str(out), str(os.cpu_count() or 1)]
      subprocess.run([peer_python(), "-m", "benchmarks.peer_scores", *arguments], check=True)
      return np.load(out)

  return scores


def row(name: str, change: np.ndarray, target: float | None) -> dict[str, Any]:
  """Prints the quantiles of the change of the jets, (n,); a row of the result."""
  found = {q: float(np.quantile(change, level)) for q, level in QUANTILES.items()}
  print(f"{name:<12}" + "".join(f"{value:>12.2g}" for value in found.values()), flush=True)
  return {
    "name": f"rounding_{name}_p99",
    "value": round(found["p99"], 6),
    "unit": "change of a probability",
    "target": None if target is None else f"<= {target}",
    "holds": None if target is None else found["p99"] <= target,
    "detail": {q: round(value, 6) for q, value in found.items()} | {"jets": len(change)},
  }


def main(argv: Sequence[str] | None = None) -> int:
  """Status 0 when the target holds, 1 when not, 2 after a mistake of the user's."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.rounding",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--checkpoint", required=True, help="such as RUN/classify")
  parser.add_argument("--data", required=True, help="data set of labelled jets")
  parser.add_argument("--weaver", type=pathlib.Path, help="a model of benchmarks.peer_training")
  parser.add_argument("--events", type=int, default=10_000, help="at most, of the test split")
  parser.add_argument("--results", type=pathlib.Path, help="file for rows and machine")
  given = sys.argv[1:] if argv is None else list(argv)
  options = parser.parse_args(given)
  if options.weaver and not options.weaver.exists():
    parser.error(f"--weaver={options.weaver} does not exist")
  try:
    predictor = inference.load(options.checkpoint)
    schema = predictor.schema
    if options.weaver and schema.name != INPUTS:
      parser.error(f"the checkpoint was trained with '{schema.name}', the peer with '{INPUTS}'")
    data = open_dataset(options.data, schema.name, "test", max_events=options.events)
    loader = data.loader(BATCH, shuffle=False, epochs=1)
    batches = [batch for groups in loader.iterate() for batch in groups]
    print(f"{'classifier':<12}{'median':>12}{'99 %':>12}{'largest':>12}")
    rows = [row("jetfm", changes(scores_of_jetfm(predictor), batches), LARGEST_CHANGE)]
    if options.weaver:
      rows.append(row("weaver", changes(scores_of_weaver(options.weaver, schema), batches), None))
  except (CheckpointError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except subprocess.CalledProcessError as error:
    print(f"error: the peer's program ended with status {error.returncode}", file=sys.stderr)
    return 2
  if options.results:
    write_result(options.results, "benchmarks.rounding", given, rows)
  print(json.dumps(rows))
  return 0 if all(row["holds"] is not False for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
