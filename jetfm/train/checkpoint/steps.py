"""Which checkpoints of a folder are whole, and one taking the place of another.

At every moment each step is either whole under its own name, or set aside under a name that says
which new checkpoint it waits for.
"""

from __future__ import annotations

import pathlib
import shutil


def complete_steps(folder: pathlib.Path) -> list[int]:
  """Steps of the checkpoints that are whole, oldest first; none without the folder."""
  names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
  # The last file that Orbax writes before a checkpoint gets its name.
  marker = "_CHECKPOINT_METADATA"
  return sorted(int(name) for name in names if name.isdigit() and (folder / name / marker).exists())


def remove_unfinished(folder: pathlib.Path) -> bool:
  """Removes what a save that was killed or failed has left; whether there was anything."""
  left = list(folder.glob("*.orbax-checkpoint-tmp*"))
  for path in left:
    shutil.rmtree(path, ignore_errors=True)
  return bool(left)


def set_aside(folder: pathlib.Path, step: int) -> None:
  """Takes checkpoints of that or a later step out of the way of a new one, until it is whole."""
  for old in complete_steps(folder):
    if old >= step:
      (folder / str(old)).rename(folder / f"replaced-{old}-by-{step}")


def settle(folder: pathlib.Path) -> None:
  """Removes what was set aside for a checkpoint that is whole, and brings back the rest."""
  whole = complete_steps(folder)
  for path in folder.glob("replaced-*-by-*"):
    _, old, _, new = path.name.split("-")
    if int(new) in whole:
      shutil.rmtree(path)
    else:
      path.rename(folder / old)
