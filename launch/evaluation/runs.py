"""Which checkpoints a run holds, from its folder alone."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from jetfm.inference import find_checkpoint
from jetfm.names import nearest
from jetfm.train import CheckpointError
from launch.cli import UserError

METRICS = "metrics.jsonl"
Curve = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class StageFolder:
  """One stage of a run: its name, what `jetfm.inference.load` takes, and its metrics.jsonl."""

  name: str
  checkpoint: pathlib.Path
  metrics: pathlib.Path


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """A run as the report names it; `unfinished` stages have no checkpoint yet."""

  name: str
  stages: tuple[StageFolder, ...]
  unfinished: tuple[str, ...] = ()


def find_runs(paths: Sequence[str]) -> list[RunFolder]:
  """The runs of these folders, each a workdir of launch.train, a stage or a checkpoint.

  Names are those of the folders, with as much of the path before them as tells them apart.
  Raises: UserError for a path given twice, or without a checkpoint, with what is there instead.
  """
  if not paths:
    raise UserError("which runs? give --config.runs=RUN[,RUN...], workdirs of launch.train")
  folders = [pathlib.Path(path).expanduser().absolute() for path in paths]
  for folder in folders:
    if folders.count(folder) > 1:
      raise UserError(f"--config.runs names {folder} twice")
  return [_run(folder, name) for folder, name in zip(folders, unique_names(folders), strict=True)]


def unique_names(folders: Sequence[pathlib.Path]) -> list[str]:
  """The last part of each path, and as many before it as make all names different."""
  lengths = [1] * len(folders)
  while True:
    names = ["/".join(f.parts[-n:]) for f, n in zip(folders, lengths, strict=True)]
    longer = [n < len(f.parts) for f, n in zip(folders, lengths, strict=True)]
    same = [i for i, name in enumerate(names) if names.count(name) > 1 and longer[i]]
    if not same:
      return names
    for i in same:
      lengths[i] += 1


def _run(folder: pathlib.Path, name: str) -> RunFolder:
  if (checkpoint := _checkpoint(folder)) is not None:
    return RunFolder(name, (_stage(folder.name, checkpoint),))
  inside = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
  found = {p.name: _checkpoint(p) for p in inside}
  stages = tuple(_stage(n, c) for n, c in found.items() if c is not None)
  if not stages:
    raise UserError(_nothing_there(folder))
  unfinished = tuple(p.name for p in inside if found[p.name] is None and (p / METRICS).exists())
  return RunFolder(name, stages, unfinished)


def _checkpoint(folder: pathlib.Path) -> pathlib.Path | None:
  try:
    return find_checkpoint(folder)
  except CheckpointError:
    return None


def _stage(name: str, checkpoint: pathlib.Path) -> StageFolder:
  # STAGE/best and STAGE/best/60 lie below the stage's folder, which holds the metrics.
  above = [p for p in (checkpoint, *checkpoint.parents[:2]) if (p / METRICS).exists()]
  return StageFolder(name, checkpoint, (above[0] if above else checkpoint) / METRICS)


def _nothing_there(folder: pathlib.Path) -> str:
  """What is there, and which folder may have been meant."""
  if not folder.exists():
    near = next(p for p in folder.parents if p.exists())
    names = sorted(p.name for p in near.iterdir() if p.is_dir())
    wanted = folder.relative_to(near).parts[0]
    match = nearest(wanted, names)
    hint = f"; the nearest there is '{near / match}'" if match else ""
    return f"no run {folder}: {near} has no '{wanted}'{hint}"
  if not folder.is_dir():
    return f"no run {folder}: it is a file; give a workdir of launch.train"
  names = sorted(p.name for p in folder.iterdir())
  listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
  deeper = [p for p in sorted(folder.glob("*/*")) if p.is_dir() and _checkpoint(p)]
  hint = "give a workdir of launch.train, or a stage's folder in it"
  if deeper:
    hint = f"the nearest with one is '{deeper[0].parent}'"
  elif any(p.is_dir() and _checkpoint(p) for p in folder.parent.iterdir()):
    hint = f"the nearest with one is '{folder.parent}'"
  return f"no checkpoint in {folder}, which holds {listed or 'nothing'}; {hint}"


def read_curves(path: pathlib.Path) -> dict[str, Curve]:
  """Loss by step of a stage: {'train': (step, loss), 'validation': (step, loss)}.

  What was not finite is NaN. Empty without a file.
  """
  lines = path.read_text().splitlines() if path.exists() else []
  found: dict[str, list[tuple[float, float]]] = {"train": [], "valid": []}
  for line in lines:
    try:
      row = json.loads(line)
      loss = row["loss"]
      found[row["split"]].append((row["step"], np.nan if loss is None else loss))
    except (ValueError, KeyError, TypeError):
      continue  # the half line of a run that is still being written
  names = {"train": "train", "valid": "validation"}
  return {
    names[split]: (np.array([s for s, _ in rows]), np.array([v for _, v in rows], float))
    for split, rows in found.items()
    if rows
  }
