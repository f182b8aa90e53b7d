"""Makes jets, or e+e- -> J/psi events, with Pythia and a fast detector simulation, as ROOT files.

  python -m launch.generate --config.out=datasets/root
  python -m launch.generate --config=configs/generate.py:tiny --config.out=/tmp/jets
  python -m launch.generate --config.classes=Hbb,QCD --config.jets_per_class=1000 \\
      --config.processes=2 --config.out=/tmp/jets
  python -m launch.generate --config=configs/generate.py:jpsi --config.out=datasets/jpsi_root

  python -m launch.generate chains --out=FILE.csv [--events=N] [--classes=N] [--processes=N]

Files of jets are named and laid out as the published ones of JetClass (HToBB_000.root, ...), files
of J/psi events jpsi_000.root, ... A file appears under its name only when it is complete: after
Ctrl-C, a kill or a full disk, the same command goes on where it stopped. `chains` counts the decay
chains of J/psi and writes the most frequent ones, the classes, for --config.chains.
The next step is: python -m launch.ingest --help
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

from jetfm.names import nearest
from launch import cli

DEFAULT_CONFIG = "configs/generate.py"
_SAMPLE = 100_000  # events that are counted at a time


def main(config: Any) -> None:
  """Reads the config, makes the files, prints where they are."""
  from jetfm.generate import OutputError, make_files
  from jetfm.progress import Progress

  out = pathlib.Path(config.out).expanduser()
  try:
    files, what = _planned_files(config, out)
  except OutputError as error:
    raise cli.UserError(str(error)) from None
  except ModuleNotFoundError as error:
    raise _missing_package(error) from None
  processes = _at_least(config, "processes", 0) or len(os.sched_getaffinity(0))
  config.all_read()

  # Batch systems end jobs with SIGTERM: stop as cleanly as after Ctrl-C.
  signal.signal(signal.SIGTERM, _interrupt)
  progress = Progress("generate", what)
  try:
    made = make_files(files, processes, progress.update)
  except ModuleNotFoundError as error:
    raise _missing_package(error) from None
  except OutputError as error:
    raise cli.UserError(str(error)) from None
  except OSError as error:
    raise cli.UserError(f"cannot write to '{out}': {error.strerror or error}") from None
  finally:
    progress.close()
  kept = f" ({len(files) - len(made)} were there already)" if len(made) < len(files) else ""
  count = "1 file" if len(files) == 1 else f"{len(files)} files"
  print(f"{sum(file.count for file in files):,} {what} in {count}{kept}: {out}")


def _planned_files(config: Any, out: pathlib.Path) -> tuple[Sequence[Any], str]:
  """The files that the config asks for, and what they hold."""
  from jetfm.generate import plan_event_files, plan_files, read_chains, share_of_chains

  if config.physics == "jets":
    return plan_files(
      out,
      checked_classes(config.classes),
      _at_least(config, "jets_per_class", 1),
      _at_least(config, "jets_per_file", 1),
      _at_least(config, "seed", 0),
    ), "jets"
  if config.physics == "jpsi":
    path = pathlib.Path(config.chains).expanduser() if config.chains else None
    chains, share = read_chains(path), share_of_chains(path)
    if share is not None:
      print(f"{len(chains)} decay chains, which hold {100 * share:.1f} % of all J/psi decays")
    return plan_event_files(
      out,
      tuple(chains),
      _at_least(config, "events", 1),
      _at_least(config, "events_per_file", 1),
      _at_least(config, "seed", 0),
    ), "events"
  raise cli.UserError(
    f"--config.physics={config.physics}: must be jets or jpsi. Choose it with a variant, as in "
    "--config=configs/generate.py:jpsi"
  )


def checked_classes(names: Any) -> list[str]:
  """Class names, each once.

  Raises: cli.UserError for an unknown name, with the nearest known one.
  """
  from jetfm.generate import CLASS_NAMES

  if not names:
    raise cli.UserError(f"--config.classes is empty; there are {', '.join(CLASS_NAMES)}")
  for name in names:
    if name not in CLASS_NAMES:
      folded = {known.lower(): known for known in CLASS_NAMES}
      near = nearest(str(name).lower(), folded)
      raise cli.UserError(
        f"no class '{name}'; the nearest is '{folded[near]}' (there are {', '.join(CLASS_NAMES)})"
      )
  return list(dict.fromkeys(names))


def chains(argv: list[str]) -> None:
  """Counts decay chains and writes the most frequent ones."""
  import concurrent.futures
  import itertools
  import multiprocessing

  from jetfm.generate import count_chains, write_chains
  from jetfm.progress import Progress

  parser = argparse.ArgumentParser(
    prog="python -m launch.generate chains",
    description="Counts the decay chains of J/psi and writes the most frequent ones.",
  )
  parser.add_argument("--out", required=True, type=pathlib.Path, help="CSV file to write")
  parser.add_argument("--events", type=int, default=1_000_000, help="decays to look at")
  parser.add_argument("--classes", type=int, default=100, help="chains to write")
  parser.add_argument("--processes", type=int, default=1, help="the result is the same for any")
  options = parser.parse_args(argv)
  for name in ("events", "classes", "processes"):
    if getattr(options, name) < 1:
      raise cli.UserError(f"--{name}={getattr(options, name)}: must be at least 1")
  if not options.out.parent.is_dir():
    raise cli.UserError(f"cannot write to '{options.out}': no folder '{options.out.parent}'")
  sizes = [min(_SAMPLE, options.events - n) for n in range(0, options.events, _SAMPLE)]
  counts: Counter[str] = Counter()
  progress = Progress("chains", "events")
  # Ctrl-C reaches the whole process group; the parent alone decides what follows.
  pool = concurrent.futures.ProcessPoolExecutor(
    options.processes,
    multiprocessing.get_context("spawn"),
    initializer=signal.signal,
    initargs=(signal.SIGINT, signal.SIG_IGN),
  )
  try:
    samples = pool.map(count_chains, itertools.repeat(0), range(len(sizes)), sizes)
    for sample in samples:
      counts += sample
      progress.update(min(counts.total(), options.events), options.events)
    write_chains(options.out, counts, options.classes)
  except ModuleNotFoundError as error:
    raise _missing_package(error) from None
  except OSError as error:
    raise cli.UserError(f"cannot write '{options.out}': {error.strerror or error}") from None
  finally:
    pool.shutdown(cancel_futures=True)
    progress.close()
  kept = counts.most_common(options.classes)
  share = sum(n for _, n in kept) / counts.total()
  print(
    f"{len(kept)} of {len(counts):,} chains hold {100 * share:.1f} % of {counts.total():,} events; "
    f"the last one has {100 * kept[-1][1] / counts.total():.3f} %: {options.out}"
  )


def _missing_package(error: ModuleNotFoundError) -> cli.UserError:
  return cli.UserError(f"package '{error.name}' is missing: pip install 'jetfm[generate]'")


def _at_least(config: Any, key: str, least: int) -> int:
  value = getattr(config, key)
  if value < least:
    raise cli.UserError(f"--config.{key}={value}: must be at least {least}")
  return value


def _interrupt(*_: Any) -> NoReturn:
  raise KeyboardInterrupt


def _main(argv: list[str]) -> NoReturn:
  if argv[1:2] == ["chains"]:
    cli.exit_with(lambda: chains(argv[2:]))
  cli.run(main, DEFAULT_CONFIG, argv, __doc__)


if __name__ == "__main__":
  _main(sys.argv)
