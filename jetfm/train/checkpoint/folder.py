"""The checkpoints of one stage in one folder, one sub-folder per step.

Saves are atomic: a kill or a full disk leaves the checkpoints before it intact. Bytes that change
on the disk are found by the digests. In a run of several processes the first one reads and writes,
and the others get the result or the error: all of them call each function of `Checkpoints`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from jetfm.train.checkpoint.contents import (
  FORMAT,
  digests,
  document_digest,
  optimizer_items,
  read_document,
  read_item,
  rebuild,
  this_process_only,
)
from jetfm.train.checkpoint.description import check_model, format_problem
from jetfm.train.checkpoint.errors import (
  CannotSave,
  CheckpointError,
  DamagedCheckpoint,
  first_line,
)
from jetfm.train.checkpoint.steps import complete_steps, remove_unfinished, set_aside, settle
from jetfm.train.processes import from_first, is_first
from jetfm.train.state import TrainState
from jetfm.typing import PyTree


class Checkpoints:
  """The checkpoints of one stage in one folder.

  Args:
    folder: created when missing.
    description: JSON values that say how to build the model; a checkpoint with another one under
      'model' is refused.
    keep: how many of the newest to keep.
    optimizer: whether the optimizer's state is saved too, for resuming.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    description: Mapping[str, Any],
    keep: int = 2,
    optimizer: bool = True,
  ):
    self.folder = pathlib.Path(folder).absolute()
    self._description = json.loads(json.dumps(description))
    self._optimizer = optimizer
    self._keep = keep

  def steps(self) -> list[int]:
    """Steps of the complete checkpoints, oldest first."""
    return from_first(self._steps)

  def save(self, state: TrainState, progress: Mapping[str, Any]) -> None:
    """Writes the state at its step and drops checkpoints beyond `keep`.

    Those of the same or a later step, of a run that went on from before them, are replaced.

    Raises: CannotSave when the disk is full or not writable; older checkpoints are intact.
    """
    items = {"variables": state.variables}
    if self._optimizer:
      items["optimizer"] = optimizer_items(state)
    from_first(lambda: self._write(int(state.step), items, progress))

  def _write(self, step: int, items: dict[str, PyTree], progress: Mapping[str, Any]) -> None:
    # Host copies: digests and files are made from the same bytes.
    items = jax.device_get(items)
    document = {
      "format": FORMAT,
      "description": self._description,
      "progress": {**progress, "step": step},
      "digests": {name: digests(tree) for name, tree in items.items()},
    }
    document["digest"] = document_digest(document)
    arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    arguments["description"] = ocp.args.JsonSave(document)
    try:
      set_aside(self.folder, step)
      self._manager.reload()
      self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)
      self._manager.wait_until_finished()
      settle(self.folder)
    except Exception as error:  # Orbax and TensorStore raise OSError, ValueError, RuntimeError
      self._after_failure()
      before = complete_steps(self.folder)
      newest = f"the checkpoint of step {before[-1]} is intact" if before else "there is none yet"
      there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
      free = shutil.disk_usage(there).free / 1e6
      raise CannotSave(
        f"cannot write the checkpoint of step {step} to {self.folder} ({free:.0f} MB free there): "
        f"{first_line(error)}; {newest}. Make room and start again: the run resumes by itself"
      ) from error

  def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    """The newest undamaged state and its progress, or None when there is no checkpoint.

    A damaged one is reported by a warning and put aside, and the one before it is used.

    Args:
      like: a state of the right shapes, whose placement on devices is taken over.
    Raises: CheckpointError for a checkpoint of another model or format, or when all are damaged.
    """
    items = {"variables": like.variables, "optimizer": optimizer_items(like)}
    found = from_first(lambda: self._read(items))
    return None if found is None else (rebuild(like, found[0]), found[1])

  def _read(self, items: dict[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, Any]] | None:
    damaged = []
    for step in reversed(self._steps()):
      folder = self.folder / str(step)
      try:
        document = read_document(folder)
        if problem := format_problem(document):
          raise CheckpointError(f"checkpoint {folder}: {problem}. Start anew in another --workdir")
        check_model(folder, document["description"], self._description)
        restored = {name: read_item(folder, name, document, tree) for name, tree in items.items()}
      except DamagedCheckpoint as error:
        warnings.warn(f"{error}; trying the one before it", stacklevel=2)
        damaged.append(step)
        continue
      for bad in damaged:
        self._put_aside(bad)
      return restored, document["progress"]
    if damaged:
      raise CheckpointError(
        f"every checkpoint in {self.folder} is damaged (steps {sorted(damaged)}); restore the "
        "folder from a backup, or remove it to start again"
      )
    return None

  def close(self) -> None:
    if is_first():
      self._manager.close()

  @functools.cached_property
  def _manager(self) -> ocp.CheckpointManager:
    remove_unfinished(self.folder)
    settle(self.folder)
    self.folder.mkdir(parents=True, exist_ok=True)
    # Saves are waited for anyway; without threads of its own a failed save is raised here.
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._keep,
      enable_async_checkpointing=False,
      create=False,
      multiprocessing_options=this_process_only(),
    )
    return ocp.CheckpointManager(self.folder, options=options)

  def _steps(self) -> list[int]:
    self._manager.reload()
    return sorted(self._manager.all_steps())

  def _put_aside(self, step: int) -> None:
    target = self.folder.with_name(f"{self.folder.name}-damaged") / str(step)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    (self.folder / str(step)).rename(target)
    self._manager.reload()

  def _after_failure(self) -> None:
    # Threads of the failed save may write on, and make the folder anew, for a moment.
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.3:
      if remove_unfinished(self.folder):
        quiet_since = time.monotonic()
      time.sleep(0.02)
    with contextlib.suppress(Exception):
      settle(self.folder)
      self._manager.reload()
