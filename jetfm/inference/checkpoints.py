"""Which checkpoint a path means."""

from __future__ import annotations

import os
import pathlib

from jetfm.inference.predictor import Predictor
from jetfm.train.checkpoint import CheckpointError
from jetfm.train.restore import load_model

PREFERRED = ("best", "last")
"""What a stage's folder holds, in the order in which it is looked for."""


def load(path: str | os.PathLike[str]) -> Predictor:
  """The trained model of a checkpoint, ready for use; `find_checkpoint` says what path may be.

  Raises: CheckpointError when there is none, saying what is there instead, or when it is damaged.
  """
  return Predictor(load_model(find_checkpoint(path)))


def find_checkpoint(path: str | os.PathLike[str]) -> pathlib.Path:
  """A folder of checkpoints, the folder of one step, or a stage's folder: its best, else its last.

  Raises: CheckpointError when there is no checkpoint, saying what is there instead.
  """
  folder = pathlib.Path(path).expanduser().absolute()
  if (folder / "description").is_dir() or _has_steps(folder):
    return folder
  for name in PREFERRED:
    if _has_steps(folder / name):
      return folder / name
  raise CheckpointError(f"no checkpoint in {path}: {_what_is_there(folder)}")


def _has_steps(folder: pathlib.Path) -> bool:
  return folder.is_dir() and any(p.name.isdigit() and p.is_dir() for p in folder.iterdir())


def _what_is_there(folder: pathlib.Path) -> str:
  if not folder.exists():
    near = next(p for p in folder.parents if p.exists())
    return f"it does not exist; {near} has {_listed(near)}"
  if not folder.is_dir():
    return "it is a file; give a folder such as RUN/classify/best"
  here = [str(p.relative_to(folder)) for p in sorted(folder.glob("*/*")) if _has_steps(p)]
  if here:
    return f"there are {', '.join(here)}; give one of them, or its stage's folder"
  return f"the folder has {_listed(folder)}; give the folder of a stage of a run"


def _listed(folder: pathlib.Path, most: int = 8) -> str:
  names = sorted(p.name for p in folder.iterdir())
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return f"{', '.join(names[:most])}{more}" if names else "nothing in it"
