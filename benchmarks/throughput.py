"""Rates of the main path, each against its target.

  python -m benchmarks.throughput data [--only=generate,generate_events,ingest,loader_kin4,...]
                                       [--budget=SECONDS] [--data=DIRECTORY_OF_ROOT_FILES]
  python -m benchmarks.throughput train|infer [--peer=weaver|weaver-compile|lgatr|jetfm] [--padded]
                                       [--token-kernels] [--dtype=float32|bfloat16]
                                       [--batch-size=B] [--repeats=3] [--seconds=20]
                                       [--budget=SECONDS]
  python -m benchmarks.throughput online [--dtype=float32|bfloat16] [--budget=SECONDS]

`data` generates jets and J/psi events, ingests jets and reads them back. Ingest and loaders work on
200,000 jets, made of a few thousand generated ones written again and again (or of --data as it is).
A budget makes the samples smaller, and says so. `train` and `infer` compare speed and memory of the
published size with another implementation (benchmarks/model_speed.py), or with itself without
--token-kernels; `online` takes the time from
an event in numpy to its scores (benchmarks/online.py): each on a GPU where there is one. The last
line printed is JSON: a list of {"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

MODEL_COMMANDS = ("train", "infer")
PEERS = ("weaver", "weaver-compile", "lgatr", "jetfm")
DTYPES = ("float32", "bfloat16")
DATA_ROWS = ("generate", "generate_events", "ingest", "loader_kin4", "loader_full")
_PACKAGES = ("jax", "numpy", "grain", "array-record", "uproot", "pythia8mc")
_FULL_SAMPLE = 1_000  # generated jets per class for the row `generate`
_COPIED_SAMPLE = 200  # generated jets per class that the others' files are made of
_TOTAL = 200_000
_SLOW_RATE = 40.0  # generated jets per second to count on when there is a budget


def measure_data(
  only: Sequence[str], budget: float | None, data: pathlib.Path | None
) -> list[dict[str, Any]]:
  """The rows of `data` that are asked for."""
  from benchmarks import data_loading  # needs packages that models do not

  sample, copied, total = _FULL_SAMPLE, _COPIED_SAMPLE, _TOTAL
  if budget is not None:
    per_class = int(budget * _SLOW_RATE / 10)
    sample = min(sample, max(per_class // 2, 5))
    copied = min(copied, max(per_class // 4, 5))
    total = min(total, max(int(500 * budget), 20_000))
    print(f"budget {budget:g} s: {sample} and {copied} generated jets per class, {total:,} in all")
  rows = []
  if "generate" in only:
    rows.append(_shown(data_loading.in_fresh_process(_generate, sample)))
  if "generate_events" in only:
    events = 50_000 if budget is None else min(50_000, max(int(500 * budget), 5_000))
    rows.append(_shown(data_loading.in_fresh_process(_generate_events, events)))
  if not set(only) - {"generate", "generate_events"}:
    return rows
  with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    if data is None:
      data = work / "files"
      jets = data_loading.make_files(data, copied, total)
      print(f"files: {jets:,} jets, copies of {10 * copied:,} generated ones")
    # The loaders need a data set: ingest runs in any case.
    ingest = data_loading.in_fresh_process(data_loading.measure_ingest, data, work / "dataset")
    if "ingest" in only:
      rows.append(_shown(ingest))
    for inputs in ("kin4", "full"):
      if f"loader_{inputs}" in only:
        measure = data_loading.measure_loader
        rows.append(_shown(data_loading.in_fresh_process(measure, work / "dataset", inputs)))
  return rows


def _generate(sample: int) -> dict[str, Any]:
  from benchmarks.data_generate import measure_generate

  return measure_generate(sample)


def _generate_events(events: int) -> dict[str, Any]:
  from benchmarks.data_generate import measure_events

  return measure_events(events)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
  mark = "ok  " if row["holds"] else "FAIL"
  value = f"{row['value']:,.0f}" if row["value"] >= 100 else f"{row['value']:.3g}"
  print(f"{mark} {row['name']:<16}{value:>12} {row['unit']}  (target {row['target']})")
  for key, value in row["detail"].items():
    print(f"       {key}: {value}")
  sys.stdout.flush()
  return row


def _machine() -> str:
  versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
  load = os.getloadavg()[0]
  return (
    f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, "
    f"Python {platform.python_version()}, {versions}"
  )


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "missing"


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the rows; status 1 when a target is missed."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.throughput",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest="command", required=True)
  data = commands.add_parser("data", help="generate, ingest, load")
  data.add_argument("--only", default=",".join(DATA_ROWS), help="rows, separated by commas")
  data.add_argument("--budget", type=float, help="about how many seconds all may take")
  data.add_argument("--data", type=pathlib.Path, help="directory of ROOT files to ingest instead")
  for kind in MODEL_COMMANDS:
    model = commands.add_parser(kind, help="speed and memory against another implementation")
    model.add_argument("--peer", default="weaver", help=f"of {', '.join(PEERS)}; several by commas")
    model.add_argument("--padded", action="store_true", help="jets that fill every slot")
    model.add_argument(
      "--token-kernels", action="store_true", help="our layers between attentions as kernels"
    )
    model.add_argument("--batch-size", type=int, help="128, or 512 on a GPU")
    model.add_argument("--repeats", type=int, default=3, help="alternating measurements")
    model.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
  commands.add_parser("online", help="from an event in numpy to its scores")
  for name in (*MODEL_COMMANDS, "online"):
    command = commands.choices[name]
    command.add_argument("--dtype", choices=DTYPES, help="float32, or bfloat16 on a GPU")
    command.add_argument("--budget", type=float, help="about how many seconds all may take")
  options = parser.parse_args(argv)
  print(_machine())
  if options.command in MODEL_COMMANDS:
    peers = tuple(options.peer.split(","))
    if unknown := set(peers) - set(PEERS):
      parser.error(f"no peer '{unknown.pop()}'; there are {', '.join(PEERS)}")
    rows = measure_models(options, peers)
  elif options.command == "online":
    rows = measure_online(options)
  else:
    only = options.only.split(",")
    if unknown := set(only) - set(DATA_ROWS):
      parser.error(f"no row '{unknown.pop()}'; there are {', '.join(DATA_ROWS)}")
    rows = measure_data(only, options.budget, options.data)
  print(json.dumps(rows))
  return 0 if all(row["holds"] for row in rows) else 1


def measure_models(options: argparse.Namespace, peers: tuple[str, ...]) -> list[dict[str, Any]]:
  """The rows of `train` or `infer`."""
  from benchmarks import model_speed

  rows = model_speed.measure_models(
    (options.command,),
    peers,
    repeats=options.repeats,
    seconds=options.seconds,
    batch_size=options.batch_size,
    dtype=options.dtype,
    padded=options.padded,
    token_kernels=options.token_kernels,
    budget=options.budget,
  )
  return [_shown(row) for row in rows]


def measure_online(options: argparse.Namespace) -> list[dict[str, Any]]:
  """The rows of `online`."""
  from benchmarks import online

  return [_shown(row) for row in online.measure_online(options.dtype, options.budget)]


if __name__ == "__main__":
  sys.exit(main())
