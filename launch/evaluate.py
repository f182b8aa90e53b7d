"""Evaluation: runs and a data set -> results.json, one HTML page, and its figures as PNG files.

  python -m launch.evaluate --config.runs=runs/tiny --config.data=datasets/jets \\
      --config.out=reports/tiny
  python -m launch.evaluate --config.runs=runs/a,runs/b --config.data=... --config.out=...

Needs the checkpoints and the data, nothing else. Every task that a checkpoint holds is evaluated:
pretraining by hidden particles, classification, regression, generation, super-resolution; the
pretrained encoder also by probes on its embedding. Several runs stand side by side; stages of a run
that hold the same task get columns of their own. Runs that differ by their seed alone also have a
column of their means, with the spread.

Probes and trivial generators are fitted on the training split (when that is what is evaluated, on
the validation split). All jets are held at once; max_events bounds them.

Exit status: 0 done; 2 a mistake in the command; 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jetfm.evals.probes import PROBES
from jetfm.evals.report import ReportFigure, RunResults, report_html, results_json
from jetfm.evals.report_text import results_text
from launch import cli
from launch.evaluation.columns import Evaluation
from launch.evaluation.data import Samples
from launch.evaluation.inputs import Options
from launch.evaluation.runs import RunFolder, find_runs
from launch.evaluation.seeds import means_over_seeds
from launch.interrupts import interruptible

DEFAULT_CONFIG = "configs/evaluate.py"
PACKAGES = {"sklearn": "scikit-learn", "scipy": "scipy"}
PACKAGES_OF_FIGURES = {"matplotlib": "matplotlib", "mplhep": "mplhep"}


@dataclasses.dataclass(frozen=True)
class Plan:
  """What the command asks for."""

  runs: list[RunFolder]
  samples: Samples
  out: pathlib.Path
  lengths: tuple[int, ...]
  options: Options


def main(config: Any) -> None:
  """Evaluates, writes, prints the main numbers and where the report is."""
  plan = read_plan(config)
  config.all_read()
  _check_packages(plan.options.figures)
  _check_writable(plan.out)
  from threadpoolctl import threadpool_limits

  with contextlib.ExitStack() as stack:
    stack.enter_context(_shared_programs())
    # Matrices of the metrics are small: threads of the linear algebra would wait for each other.
    stack.enter_context(threadpool_limits(1))
    stop_if_asked = stack.enter_context(interruptible(signal.SIGINT, signal.SIGTERM))
    done = Evaluation(plan.samples, plan.lengths, plan.options, stop_if_asked)
    for run in plan.runs:
      done.add(run)
  columns = done.columns + means_over_seeds(done.columns)
  results = [RunResults(c.name, c.in_order(), c.facts, c.details) for c in columns]
  figures = [ReportFigure(*figure) for figure in done.training_figures() + done.figures]
  page = report_html(results, figures, introduction=plan.samples.describe(), of=plan.samples.what)
  files = {"results.json": f"{results_json(results)}\n".encode(), "report.html": page.encode()}
  files |= {f"figures/{figure.file_name}": figure.png for figure in figures}
  _write(plan.out, files)
  print(results_text(results))
  print(f"\nresults: {plan.out / 'results.json'}\nreport:  {plan.out / 'report.html'}")


def read_plan(config: Any) -> Plan:
  """Every key of the config.

  Raises: UserError for missing and impossible values, and for runs that do not exist.
  """
  for key, what in (("data", "a data set of launch.ingest"), ("out", "a folder for the report")):
    if not getattr(config, key):
      raise cli.UserError(f"give --config.{key}=DIRECTORY, {what}")
  for key in ("max_events", "train_events", "seed", "bootstrap", "jetnet_events", "map_events"):
    if getattr(config, key) < 0:
      raise cli.UserError(f"--config.{key}={getattr(config, key)}: must not be negative")
  probes = tuple(config.probes)
  if unknown := [probe for probe in probes if probe not in PROBES]:
    raise cli.UserError(f"no probe '{unknown[0]}'; there are {', '.join(PROBES)}")
  try:
    lengths = tuple(int(length) for length in config.lengths)
  except ValueError:
    lengths = (0,)
  if any(length < 1 for length in lengths):
    raise cli.UserError(f"--config.lengths={config.lengths}: give numbers of particles")
  options = Options(
    seed=config.seed,
    background=config.background,
    bootstrap=config.bootstrap,
    jetnet_events=config.jetnet_events,
    probes=probes,
    figures=config.figures,
    map_events=config.map_events,
  )
  samples = Samples(config.data, config.split, config.max_events, config.train_events)
  out = pathlib.Path(config.out).expanduser()
  return Plan(find_runs(config.runs), samples, out, lengths, options)


@contextlib.contextmanager
def _shared_programs() -> Iterator[None]:
  """What is compiled for one checkpoint is there for the next of the same architecture.

  JAX finds equal programs in its persistent cache: a folder of the user's, or for this run only.
  """
  with tempfile.TemporaryDirectory(prefix="jetfm-programs-") as folder:
    wanted = {
      "jax_compilation_cache_dir": folder,
      "jax_persistent_cache_min_compile_time_secs": 0.1,
      "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    if before["jax_compilation_cache_dir"]:
      yield
      return
    try:
      for name, value in wanted.items():
        jax.config.update(name, value)
      compilation_cache.reset_cache()  # it may have found before that there is none
      yield
    finally:
      for name, value in before.items():
        jax.config.update(name, value)
      compilation_cache.reset_cache()


def _check_packages(figures: bool) -> None:
  """Before the work, not after it."""
  for module, package in (PACKAGES | (PACKAGES_OF_FIGURES if figures else {})).items():
    if importlib.util.find_spec(module) is None:
      raise cli.UserError(f"package '{package}' is missing: pip install 'jetfm[evaluate]'")


def _check_writable(out: pathlib.Path) -> None:
  try:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
      pass
  except OSError as error:
    raise cli.UserError(f"cannot write to --config.out={out}: {error.strerror}") from None


def _write(out: pathlib.Path, files: dict[str, bytes]) -> None:
  """All files whole or not at all: each gets its name when all are on the disk."""
  try:
    with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as folder:
      for name, content in files.items():
        new = pathlib.Path(folder, name)
        new.parent.mkdir(exist_ok=True)
        with new.open("wb") as file:
          file.write(content)
          file.flush()
          os.fsync(file.fileno())
      for name in files:
        (out / name).parent.mkdir(exist_ok=True)
        os.replace(pathlib.Path(folder, name), out / name)
  except OSError as error:
    raise cli.UserError(f"cannot write to --config.out={out}: {error.strerror}") from None


if __name__ == "__main__":
  cli.run(main, DEFAULT_CONFIG)
