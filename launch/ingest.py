"""Files of jets, or of e+e- events -> a data set: shuffled block records and a manifest.

  python -m launch.ingest --config.sources=DIR --config.out=DATASET
  python -m launch.ingest --config.sources='a/*.root,b' --config.out=DATASET --config.processes=8
  python -m launch.ingest --config.sources=FILE.npz --config.inputs=kin \\
      --config.classes=QCD,top --config.out=DATASET
  python -m launch.ingest --config=configs/ingest.py:bes --config.sources=DIR --config.out=DATASET

  python -m launch.ingest inspect DATASET [--out=DIRECTORY] [--events=N] [--verify]

The first form reads files (see configs/ingest.py for every option) and is done when
DATASET/manifest.json exists. `inspect` prints what a data set holds: schema, counts, class mix,
ranges of values, padding waste; with --out it draws histograms and some jets as PNG.
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jetfm.data.errors import DataError
from jetfm.progress import Progress
from launch import cli
from launch.interrupts import interruptible

DEFAULT_CONFIG = "configs/ingest.py"


def main(config: Any) -> None:
  """Runs the ingest that the config describes."""
  from jetfm.data.ingest import ingest
  from jetfm.data.kinds import kind_of
  from jetfm.data.plan import Settings

  if not config.out:
    raise cli.UserError("where to? give --config.out=DIRECTORY")
  classes = read_classes(config.classes)
  sources = {
    split: patterns
    for split, patterns in {
      "": config.sources,
      "train": config.train,
      "valid": config.valid,
      "test": config.test,
    }.items()
    if patterns
  }
  phases: dict[str, Progress] = {}

  def progress(phase: str, done: int, total: int) -> None:
    stop_if_asked()
    if phase not in phases:
      for other in phases.values():
        other.close()
      unit = "files" if phase == "check" else kind_of(config.inputs).what
      phases[phase] = Progress(phase, unit)
    phases[phase].update(done, total)

  try:
    settings = Settings(
      inputs=config.inputs,
      classes=classes,
      fractions=tuple(config.fractions),
      edges=tuple(config.edges),
      block_events=config.block_events,
      seed=config.seed,
      on_bad=config.on_bad,
      check_names=config.check_names,
      branches=read_branches(config.branches),
    )
    with interruptible(signal.SIGINT, signal.SIGTERM) as stop_if_asked:
      manifest = ingest(
        sources,
        config.out,
        settings,
        processes=config.processes,
        memory_megabytes=config.memory_megabytes,
        overwrite=config.overwrite,
        progress=progress,
      )
  except DataError as error:
    raise cli.UserError(str(error)) from None
  finally:
    for line in phases.values():
      line.close()
  _report(manifest, config.out, kind_of(config.inputs).what, settings.fractions)


def read_classes(text: str) -> tuple[str, ...] | None:
  """'', 'jetclass', names separated by commas, or a CSV file of decay chains -> names of classes.

  Raises: UserError for a file that is no such list.
  """
  from jetfm.data.jet_schema import JETCLASS

  if text in ("", "jetclass"):
    return JETCLASS if text else None
  if not text.endswith(".csv"):
    return tuple(text.split(","))
  try:
    with open(text, newline="") as file:
      names = tuple(row["chain"] for row in csv.DictReader(file))
  except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
    raise cli.UserError(
      f"classes: '{text}' is no list of decay chains ({error}); expected a column 'chain', as in "
      "the files of python -m launch.generate chains"
    ) from None
  return tuple(name for name in names if name != "all")


def read_branches(pairs: Sequence[str]) -> dict[str, str]:
  """('part_px=pf_px', ...) -> {'part_px': 'pf_px', ...}, as in configs/ingest.py.

  Raises: UserError for a pair that is none, or a name given twice.
  """
  branches: dict[str, str] = {}
  for pair in pairs:
    name, _, own = (part.strip() for part in pair.partition("="))
    if not name or not own:
      raise cli.UserError(f"branches: got '{pair}', expected NAME=BRANCH such as part_px=pf_px")
    if name in branches:
      raise cli.UserError(f"branches: '{name}' is given twice, as {branches[name]} and {own}")
    branches[name] = own
  return branches


def _report(manifest: Any, out: str, what: str, fractions: Sequence[float]) -> None:
  from jetfm.data.plan import HASHED

  for source in manifest.sources:
    if source["refused"]:
      print(f"left out: {source['refused']}")
    for reason, n in source["drops"].items():
      print(f"left out: {n:,} {what} of {source['path']}: {reason}")
  if manifest.truncated["events"]:
    print(
      f"{manifest.truncated['events']:,} {what} were longer than {manifest.edges[-1]} and lost "
      f"their {manifest.truncated['particles']:,} softest particles"
    )
  divided = any(source["split"] == HASHED and source["kept"] for source in manifest.sources)
  empty = [
    name
    for (name, split), fraction in zip(manifest.splits.items(), fractions, strict=True)
    if divided and fraction and not split.num_events
  ]
  if empty:
    print(
      f"no {what} for {' and '.join(empty)}: there are few, or they share one event_number, and "
      f"{what} of one number stay together"
    )
  counts = ", ".join(f"{name} {split.num_events:,}" for name, split in manifest.splits.items())
  print(f"{out}: {counts} {what}; input sets {', '.join(manifest.schemas)}")


def inspect(argv: list[str]) -> None:
  """Prints, and draws, what a data set holds."""
  from jetfm.data.summary import describe, take_sample

  parser = argparse.ArgumentParser(
    prog="python -m launch.ingest inspect", description="Prints and draws what a data set holds."
  )
  parser.add_argument("directory", help="of a data set")
  parser.add_argument("--out", help="directory for pictures (PNG); none are drawn without it")
  parser.add_argument("--events", type=int, default=10_000, help="jets to look at in each split")
  parser.add_argument("--verify", action="store_true", help="compare the checksum of every shard")
  options = parser.parse_args(argv)
  try:
    sample = take_sample(options.directory, options.events)
    print(describe(options.directory, sample, verify=options.verify))
    if options.out:
      from jetfm.data.draw import draw_all

      for path in draw_all(sample, options.out):
        print(f"drawn: {path}")
  except (DataError, OSError) as error:
    raise cli.UserError(str(error)) from None


def _main(argv: list[str]) -> NoReturn:
  if argv[1:2] == ["inspect"]:
    cli.exit_with(lambda: inspect(argv[2:]))
  cli.run(main, DEFAULT_CONFIG, argv, __doc__)


if __name__ == "__main__":
  _main(sys.argv)
