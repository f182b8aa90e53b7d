"""What generated J/psi events are made of, and the shapes of their measurements.

  python -m benchmarks.jpsi_composition [--data=FOLDER_OF_ROOT_FILES] [--events=20000] [--seed=0]

Without --data some events are generated first. Accuracies are those of an oracle that sees nothing
but the true final state, the leaves of the decay chain, and names its most frequent chain: what a
classifier can gain beyond it comes from resonances. Targets are wide enough for another list of 100
chains with nearly the same frequencies. The last line printed is JSON: a list of
{"name", "value", "target", "holds"}.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from jetfm.decay_chains import final_state
from jetfm.generate import (
  make_files,
  plan_event_files,
  read_chains,
  read_provenance,
  share_of_chains,
)

LEPTONIC = ("J/psi -> e+ e-", "J/psi -> mu+ mu-")
_BRANCHES = ("has_MDC", "has_EMC", "vr0", "emc_x", "emc_y", "emc_energy")
_RADIUS = 100.0  # cm, of the showers in the barrel


def composition(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
  """Rows about classes; counts (classes,) of the recorded events."""
  total = counts.sum()
  states: dict[str, list[int]] = defaultdict(list)
  for name, n in zip(names, counts.tolist(), strict=True):
    states[final_state(name)].append(n)
  leptons = sum(n for name, n in zip(names, counts.tolist(), strict=True) if name in LEPTONIC)
  best = sum(map(max, states.values()))
  alone = [chains[0] for chains in states.values() if len(chains) == 1]
  share = share_of_chains()
  return [
    _row("decays of the 100 chains", float("nan") if share is None else share, 0.58, 0.65),
    _row("e+e- and mu+mu-", leptons / total, 0.16, 0.22),
    _row("least frequent class", counts.min() / total, 1e-3, 3e-3),
    _row("classes alone in their final state", len(alone), 20, 40),
    _row("... events of these", sum(alone) / total, 0.25, 0.40),
    _row("oracle accuracy", best / total, 0.66, 0.75),
    _row("... without e+e- and mu+mu-", (best - leptons) / (total - leptons), 0.58, 0.70),
  ]


def shapes(columns: dict[str, np.ndarray], events: int) -> list[dict[str, Any]]:
  """Rows about objects; columns (objects,)."""
  track, shower = columns["has_MDC"] > 0, columns["has_EMC"] > 0
  vr0 = columns["vr0"][track]
  edges = []
  for axis in ("emc_x", "emc_y"):
    x = np.abs(columns[axis][shower]) / _RADIUS
    edges.append(((x > 0.9) & (x <= 1)).mean() / (x < 0.1).mean())
  logarithm = np.log(columns["emc_energy"][shower])
  low, middle, high = np.quantile(logarithm, (0.16, 0.5, 0.84))
  return [
    _row("tracks in an event", track.sum() / events, 2, 4),
    _row("showers without track in an event", (~track).sum() / events, 1.5, 3),
    _row("tracks without shower", (~shower)[track].mean(), 0.2, 0.4),
    _row("U shape of emc_x and emc_y: edge over centre", min(edges), 1.5, 5),
    _row("vr0 that is zero", (vr0 == 0).mean(), 0.95, 0.999),
    _row("largest vr0 in cm", vr0.max(), 3, 10),
    _row("ln emc_energy: upper over lower width", (high - middle) / (middle - low), 0.4, 2.5),
  ]


def _row(name: str, value: float, low: float, high: float) -> dict[str, Any]:
  value = float(value)
  holds = low <= value <= high
  print(f"{'ok  ' if holds else 'FAIL'} {name:<46}{value:>10.4g}  (target {low:g} to {high:g})")
  return {
    "name": name,
    "value": float(f"{value:.4g}"),
    "target": f"{low:g} to {high:g}",
    "holds": holds,
  }


def measure(folder: pathlib.Path) -> list[dict[str, Any]]:
  """All rows for the files in a folder.

  Raises: OutputError for a file that this package did not write.
  """
  import uproot

  paths = sorted(folder.glob("*.root"))
  names = read_provenance(paths[0])["chains"]
  trees = [f"{path}:tree" for path in paths]
  events = uproot.concatenate(trees, ["chain"], library="np")["chain"]
  jagged = uproot.concatenate(trees, list(_BRANCHES), library="np")
  columns = {name: np.concatenate(jagged[name]) for name in _BRANCHES}
  print(f"{len(events):,} events, {len(names)} classes: {folder}")
  rows = composition(np.bincount(events, minlength=len(names)), names)
  return rows + shapes(columns, len(events))


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the rows; status 1 when a target is missed."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.jpsi_composition",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--data", type=pathlib.Path, help="folder of generated files")
  parser.add_argument("--events", type=int, default=20_000, help="to generate without --data")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args(argv)
  if options.data is not None:
    if not any(options.data.glob("*.root")):
      parser.error(f"no .root files in {options.data}")
    rows = measure(options.data)
  else:
    with tempfile.TemporaryDirectory() as folder:
      files = plan_event_files(
        pathlib.Path(folder), tuple(read_chains()), options.events, options.events, options.seed
      )
      make_files(files)
      rows = measure(pathlib.Path(folder))
  print(json.dumps(rows))
  return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
