"""Scores, masses and embeddings of files of jets, or of e+e- events, as ROOT friend trees.

  python -m launch.predict --config.checkpoint=runs/jets/classify/best \\
      --config.sources=datasets/root --config.out=predictions
  python -m launch.predict --config.checkpoint=runs/a/classify/best,runs/a/regress/best \\
      --config.sources='new/*.root' --config.out=predictions --config.embedding=True
  python -m launch.predict --config.checkpoint=runs/clear/differential/best \\
      --config.sources=datasets/jpsi_root --config.out=predictions

Each file gets a file of the same name with the tree 'tree_friend': as many entries, in the
same order, and the float32 branches score_<class> (probabilities), pred_<target> (GeV) and
embedding[D], as the checkpoints' tasks give them (<task>_score_<class> where a checkpoint has
several tasks of one kind). A file appears when it is complete. In ROOT:
tree->AddFriend("tree_friend", "predictions/HToBB_000.root"). Decay chains of e+e- events are no
names of branches: scores are score_00, score_01, ... in the order of 'classes' in the JSON text.

Scores are those of launch.evaluate, to the last bit on the same machine. The file says in 'jetfm',
a JSON text, which checkpoints and which versions made it. The same command goes on where it was
ended: files are kept that the same checkpoints, options and versions made of the same files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import jax

import jetfm
from jetfm import inference
from jetfm.data.branches import check_branches
from jetfm.data.errors import DataError
from jetfm.data.kinds import EVENTS
from jetfm.data.sources import Source, find_files, open_source, require
from jetfm.inference import LENGTHS, Predictor
from jetfm.progress import Progress
from jetfm.train import CheckpointError
from launch import cli
from launch.friend_tree import TREE, read_provenance, write_friend
from launch.ingest import read_branches
from launch.interrupts import interruptible
from launch.prediction import Counts, Models, Reading, predictions

DEFAULT_CONFIG = "configs/predict.py"
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "uproot", "awkward")


@dataclasses.dataclass(frozen=True)
class Asked:
  """The config, read and checked; see configs/predict.py."""

  checkpoints: tuple[str, ...]
  sources: str
  out: pathlib.Path
  embedding: bool
  overwrite: bool
  reading: Reading


@dataclasses.dataclass(frozen=True)
class File:
  """A file of jets or events, and the file of its predictions.

  provenance: where these come from, in JSON values; the same for the same work.
  """

  source: pathlib.Path
  target: pathlib.Path
  entries: int
  provenance: dict[str, Any]


def main(config: Any) -> None:
  """Predicts what the config asks for, and says what was written."""
  asked = read_config(config)
  config.all_read()
  try:
    models = Models([_load(path) for path in asked.checkpoints], asked.embedding)
    check_branches(asked.reading.branches, models.kind)
    files = plan_files(asked, models)
    missing = [file for file in files if asked.overwrite or not file.target.exists()]
    asked.out.mkdir(parents=True, exist_ok=True)
    # Batch systems end jobs with SIGTERM: no half file is left, as after Ctrl-C.
    with interruptible(signal.SIGINT, signal.SIGTERM) as stop_if_asked:
      _predict_all(asked, models, missing, stop_if_asked)
  except (CheckpointError, DataError) as error:
    raise cli.UserError(str(error)) from None
  except OSError as error:
    reason = error.strerror or str(error)
    raise cli.UserError(f"cannot write predictions to '{asked.out}': {reason}") from None
  entries, what = sum(file.entries for file in files), models.kind.what
  count = "1 file" if len(files) == 1 else f"{len(files)} files"
  if kept := len(files) - len(missing):
    print(f"{kept} of {len(files)} files were there already, made from the same: kept")
  print(f"{asked.out}: {entries:,} {what} in {count}, tree '{TREE}': {_shown(list(models.types))}")


def read_config(config: Any) -> Asked:
  """Every key of the config.

  Raises: UserError for missing and impossible values.
  """
  asked = Asked(
    checkpoints=tuple(config.checkpoint),
    sources=config.sources,
    out=pathlib.Path(config.out).expanduser(),
    embedding=config.embedding,
    overwrite=config.overwrite,
    reading=Reading(
      branches=read_branches(config.branches),
      max_particles=config.max_particles,
      on_bad=config.on_bad,
      chunk=config.chunk,
    ),
  )
  reading = asked.reading
  if not asked.checkpoints:
    raise cli.UserError("with what? give --config.checkpoint=RUN/classify/best")
  if not asked.sources:
    raise cli.UserError("of what? give --config.sources=FILES")
  if not config.out:
    raise cli.UserError("where to? give --config.out=DIRECTORY")
  if not 1 <= reading.max_particles <= LENGTHS[-1]:
    raise cli.UserError(
      f"max_particles is {reading.max_particles}, expected a number from 1 to {LENGTHS[-1]}"
    )
  if reading.on_bad not in ("error", "nan"):
    raise cli.UserError(f"on_bad must be 'error' or 'nan', got '{reading.on_bad}'")
  if reading.chunk < 1:
    raise cli.UserError(f"chunk is {reading.chunk}, expected at least 1")
  return asked


def plan_files(asked: Asked, models: Models) -> list[File]:
  """Every file, looked at before any is predicted.

  Raises: UserError for predictions that are there from other work, or have the same name; DataError
    for a file that cannot be read, or lacks a branch.
  """
  files: dict[pathlib.Path, File] = {}
  inputs, work = find_files(asked.sources), _work(models, asked)
  for path in inputs:
    target = asked.out / f"{path.stem}.root"
    if target in files:
      raise cli.UserError(
        f"{files[target].source} and {path} would both be predicted in {target}: give them in "
        "two runs, with another --config.out"
      )
    with contextlib.closing(_open(path, asked, models)) as source:
      for predictor in models.predictors:
        hint = f"The checkpoint {predictor.trained.checkpoint.folder} was trained with it."
        require(source, models.read_by(predictor), predictor.schema.name, hint)
      provenance = {"source": _identity(path, source.entries), **work}
      files[target] = File(path, target, source.entries, provenance)
  for file in (file for file in files.values() if file.target.exists()):
    if any(os.path.samefile(file.target, path) for path in inputs):
      raise cli.UserError(f"{file.target} is one of the sources: choose another --config.out")
    if not asked.overwrite and (other := _differences(file)):
      raise cli.UserError(
        f"{file.target} is there already, {other}: use --config.overwrite=True to replace it, or "
        "another --config.out"
      )
  return list(files.values())


def _differences(file: File) -> str:
  """Between the file that is there and what this run would make of it; '' if there are none.

  Another device is none: a job may go on where there is one.
  """
  told = read_provenance(file.target)
  if told is None:
    return "not made by launch.predict"
  there, wanted = map(_without_places, (told, file.provenance))
  other = [key for key in wanted if key != "device" and there.get(key) != wanted[key]]
  return f"made with other {', '.join(other)}" if other else ""


def _without_places(value: Any) -> Any:
  """JSON values without the folders and files that these may have been moved from."""
  if isinstance(value, dict):
    return {k: _without_places(v) for k, v in value.items() if k not in ("folder", "file")}
  return [_without_places(v) for v in value] if isinstance(value, list) else value


def _predict_all(
  asked: Asked, models: Models, files: list[File], stop_if_asked: Callable[[], None]
) -> None:
  total, before = sum(file.entries for file in files), 0
  line = Progress("predict", models.kind.what)
  try:
    for file in files:
      counts, done = Counts(), before
      with contextlib.closing(_open(file.source, asked, models)) as source:

        def progress(read: int, done: int = done) -> None:
          line.update(done + read, total)

        chunks = predictions(source, models, asked.reading, counts, progress, stop_if_asked)
        write_friend(file.target, models.types, chunks, file.provenance)
      before += file.entries
      line.close()
      _report(file, counts, asked, models.kind.what)
  finally:
    line.close()


def _report(file: File, counts: Counts, asked: Asked, what: str) -> None:
  for reason, n in counts.bad.items():
    print(f"NaN: {n:,} {what} of {file.source}: {reason}")
  if counts.truncated:
    print(
      f"{counts.truncated:,} {what} of {file.source} have more than {asked.reading.max_particles} "
      "particles: predicted from the leading ones"
    )


def _identity(path: pathlib.Path, entries: int) -> dict[str, Any]:
  """Of a file to predict: by size and time, as reading all of it would take too long."""
  found = path.stat()
  return {
    "file": str(path),
    "entries": entries,
    "bytes": found.st_size,
    "modified": found.st_mtime_ns,
  }


def _work(models: Models, asked: Asked) -> dict[str, Any]:
  """What is done to every file, and by what, in JSON values."""
  versions = {"jetfm": jetfm.__version__}
  versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {
    "checkpoints": [
      {
        "folder": str(p.trained.checkpoint.folder),
        "step": p.step,
        "tasks": list(p.tasks),
        "inputs": p.schema.name,
        "classes": list(p.schema.classes),
        "digest": p.trained.digest,
      }
      for p in models.predictors
    ],
    "branches": dict(asked.reading.branches),
    "max_particles": asked.reading.max_particles,
    "on_bad": asked.reading.on_bad,
    "embedding": asked.embedding,
    "device": jax.devices()[0].device_kind,
    "versions": versions,
  }


def _open(path: pathlib.Path, asked: Asked, models: Models) -> Source:
  """A file to predict: of the models' kind of data, with or without labels."""
  inputs = models.predictors[0].schema.name if models.kind is EVENTS else "full"
  return open_source(path, asked.reading.branches, inputs, labels=False)


def _shown(names: list[str]) -> str:
  """A hundred names are not."""
  return ", ".join(names if len(names) <= 20 else [*names[:2], "...", *names[-2:]])


def _load(path: str) -> Predictor:
  try:
    return inference.load(path)
  except ValueError as error:  # a task or an option that this version does not know
    raise cli.UserError(f"{path}: {error}") from None


if __name__ == "__main__":
  cli.run(main, DEFAULT_CONFIG)
