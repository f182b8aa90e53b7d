"""A checkpoint read for use, without its optimizer."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import warnings
from typing import Any

from jetfm.train.checkpoint.contents import read_document, read_item
from jetfm.train.checkpoint.description import format_problem
from jetfm.train.checkpoint.errors import CheckpointError, DamagedCheckpoint
from jetfm.train.checkpoint.steps import complete_steps
from jetfm.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Loaded:
  """What is needed to use a trained model.

  Attributes:
    variables: {'params': ..., 'constants': ...}, numpy arrays.
    description: the model's, as given to `Checkpoints`.
    progress: of the run, as given to `Checkpoints.save`.
  """

  step: int
  variables: dict[str, PyTree]
  description: dict[str, Any]
  progress: dict[str, Any]
  folder: pathlib.Path


def load(folder: str | os.PathLike[str]) -> Loaded:
  """The newest checkpoint of a folder, or the folder of one step, for use without its optimizer.

  Warns of one that meant something else when it was written.
  Raises: CheckpointError when there is none, or when it is damaged.
  """
  folder = pathlib.Path(folder).absolute()
  if not (folder / "description").is_dir():
    steps = complete_steps(folder)
    if not steps:
      raise CheckpointError(
        f"no checkpoint in {folder}: give the folder 'best' or 'last' of a stage of a run"
      )
    folder = folder / str(steps[-1])
  document = read_document(folder)
  if problem := format_problem(document):
    warnings.warn(f"checkpoint {folder}: {problem}", stacklevel=2)
  variables = read_item(folder, "variables", document, None)
  progress = document["progress"]
  return Loaded(progress["step"], variables, document["description"], progress, folder)


def newest_progress(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
  """The progress of the newest checkpoint of a folder, None without an undamaged one."""
  steps = complete_steps(pathlib.Path(folder))
  try:
    return read_document(pathlib.Path(folder) / str(steps[-1]))["progress"] if steps else None
  except DamagedCheckpoint:
    return None
