"""Orbax checkpoints that say what they hold, and are verified when read.

A folder of checkpoints holds one sub-folder per step:

  variables/    {'params': ..., 'constants': ...}
  optimizer/    optimizer state, random key and counters (in `last`, not in `best`)
  description/  JSON: the model (encoder, heads, schema), progress, and a digest per leaf

Saves are atomic: a kill or a full disk leaves the checkpoints before it intact. Bytes that change
on the disk are found by the digests. In a run of several processes the first one reads and writes,
and the others get the result or the error: all of them call each function of `Checkpoints`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jetfm.train.finetune import path_name
from jetfm.train.processes import from_first, is_first
from jetfm.train.sharding import place
from jetfm.train.state import TrainState
from jetfm.typing import PyTree

FORMAT = 1


class CheckpointError(Exception):
  """A checkpoint that cannot be written, read or used here."""


class CannotSave(CheckpointError):
  """The disk is full or not writable. What was saved before is intact."""


class DamagedCheckpoint(CheckpointError):
  """A checkpoint whose bytes are not those that were written."""


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
      items["optimizer"] = _optimizer_items(state)
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
    document["digest"] = _document_digest(document)
    arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    arguments["description"] = ocp.args.JsonSave(document)
    try:
      _set_aside(self.folder, step)
      self._manager.reload()
      self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)
      self._manager.wait_until_finished()
      _settle(self.folder)
    except Exception as error:  # Orbax and TensorStore raise OSError, ValueError, RuntimeError
      self._after_failure()
      before = _complete_steps(self.folder)
      newest = f"the checkpoint of step {before[-1]} is intact" if before else "there is none yet"
      there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
      free = shutil.disk_usage(there).free / 1e6
      raise CannotSave(
        f"cannot write the checkpoint of step {step} to {self.folder} ({free:.0f} MB free there): "
        f"{_first_line(error)}; {newest}. Make room and start again: the run resumes by itself"
      ) from error

  def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    """The newest undamaged state and its progress, or None when there is no checkpoint.

    A damaged one is reported by a warning and put aside, and the one before it is used.

    Args:
      like: a state of the right shapes, whose placement on devices is taken over.
    Raises: CheckpointError for a checkpoint of another model, or when all are damaged.
    """
    items = {"variables": like.variables, "optimizer": _optimizer_items(like)}
    found = from_first(lambda: self._read(items))
    return None if found is None else (_rebuild(like, found[0]), found[1])

  def _read(self, items: dict[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, Any]] | None:
    damaged = []
    for step in reversed(self._steps()):
      folder = self.folder / str(step)
      try:
        document = _read_document(folder)
        _check_model(folder, document["description"], self._description)
        restored = {name: _read_item(folder, name, document, tree) for name, tree in items.items()}
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
    _remove_unfinished(self.folder)
    _settle(self.folder)
    self.folder.mkdir(parents=True, exist_ok=True)
    # Saves are waited for anyway; without threads of its own a failed save is raised here.
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._keep,
      enable_async_checkpointing=False,
      create=False,
      multiprocessing_options=_alone(),
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
      if _remove_unfinished(self.folder):
        quiet_since = time.monotonic()
      time.sleep(0.02)
    with contextlib.suppress(Exception):
      _settle(self.folder)
      self._manager.reload()


def load(folder: str | os.PathLike[str]) -> Loaded:
  """The newest checkpoint of a folder, or the folder of one step, for use without its optimizer.

  Raises: CheckpointError when there is none, or when it is damaged.
  """
  folder = pathlib.Path(folder).absolute()
  if not (folder / "description").is_dir():
    steps = _complete_steps(folder)
    if not steps:
      raise CheckpointError(
        f"no checkpoint in {folder}: give the folder 'best' or 'last' of a stage of a run"
      )
    folder = folder / str(steps[-1])
  document = _read_document(folder)
  variables = _read_item(folder, "variables", document, None)
  progress = document["progress"]
  return Loaded(progress["step"], variables, document["description"], progress, folder)


def newest_progress(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
  """The progress of the newest checkpoint of a folder, None without an undamaged one."""
  steps = _complete_steps(pathlib.Path(folder))
  try:
    return _read_document(pathlib.Path(folder) / str(steps[-1]))["progress"] if steps else None
  except DamagedCheckpoint:
    return None


def digests(tree: PyTree) -> dict[str, str]:
  """Path of each leaf -> digest of its type, shape and bytes."""
  return {
    path_name(path): _leaf_digest(np.asarray(leaf))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _complete_steps(folder: pathlib.Path) -> list[int]:
  names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
  # The last file that Orbax writes before a checkpoint gets its name.
  marker = "_CHECKPOINT_METADATA"
  return sorted(int(name) for name in names if name.isdigit() and (folder / name / marker).exists())


def _leaf_digest(array: np.ndarray) -> str:
  head = f"{array.dtype} {array.shape} ".encode()
  return hashlib.blake2b(head + array.tobytes(), digest_size=16).hexdigest()


def _document_digest(document: Mapping[str, Any]) -> str:
  content = {key: value for key, value in document.items() if key != "digest"}
  return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _remove_unfinished(folder: pathlib.Path) -> bool:
  """Removes what a save that was killed or failed has left; whether there was anything."""
  left = list(folder.glob("*.orbax-checkpoint-tmp*"))
  for path in left:
    shutil.rmtree(path, ignore_errors=True)
  return bool(left)


def _set_aside(folder: pathlib.Path, step: int) -> None:
  """Takes checkpoints of that or a later step out of the way of a new one, until it is whole."""
  for old in _complete_steps(folder):
    if old >= step:
      (folder / str(old)).rename(folder / f"replaced-{old}-by-{step}")


def _settle(folder: pathlib.Path) -> None:
  """Removes what was set aside for a checkpoint that is whole, and brings back the rest."""
  whole = _complete_steps(folder)
  for path in folder.glob("replaced-*-by-*"):
    _, old, _, new = path.name.split("-")
    if int(new) in whole:
      shutil.rmtree(path)
    else:
      path.rename(folder / old)


def _alone() -> ocp.options.MultiprocessingOptions:
  """Orbax for one process, also where there are others."""
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


def _optimizer_items(state: TrainState) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
  return {
    # By path: the named tuples of Optax are not part of the file's format.
    "opt_state": {path_name(path): leaf for path, leaf in leaves},
    "key": jax.random.key_data(state.key),
    "step": state.step,
    "nonfinite": state.nonfinite,
  }


def _rebuild(like: TrainState, items: Mapping[str, Any]) -> TrainState:
  variables, saved = items["variables"], items["optimizer"]
  paths, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
  leaves = [saved["opt_state"][path_name(path)] for path, _ in paths]
  key = jax.random.wrap_key_data(saved["key"], impl=jax.random.key_impl(like.key))
  state = TrainState(
    step=saved["step"],
    params=variables["params"],
    constants=variables["constants"],
    opt_state=jax.tree_util.tree_unflatten(structure, leaves),
    key=key,
    nonfinite=saved["nonfinite"],
  )
  return jax.tree.map(lambda new, old: place(new, old.sharding), state, like)


def _read_document(folder: pathlib.Path) -> dict[str, Any]:
  try:
    document = json.loads((folder / "description" / "metadata").read_text())
    intact = document["digest"] == _document_digest(document)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedCheckpoint(f"checkpoint {folder}: its description cannot be read") from error
  if not intact:
    raise DamagedCheckpoint(f"checkpoint {folder}: its description is not what was written")
  return document


def _read_item(
  folder: pathlib.Path, name: str, document: Mapping[str, Any], like: PyTree | None
) -> PyTree:
  """One item as numpy arrays, in the structure of `like`; every leaf verified."""
  written = document["digests"].get(name)
  if written is None:
    raise CheckpointError(f"checkpoint {folder} has no '{name}'; use the folder 'last' to resume")
  if like is not None:
    expected = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(like)}
    if different := sorted(expected ^ set(written)):
      raise CheckpointError(
        f"checkpoint {folder}: '{name}' has {len(written)} arrays, expected {len(expected)}; "
        f"the first that differs is '{different[0]}'. It belongs to another model or strategy"
      )
  try:
    with _quiet(), ocp.StandardCheckpointer(multiprocessing_options=_alone()) as reader:
      metadata = reader.metadata(folder / name).item_metadata
      zeros = jax.tree.map(lambda m: np.zeros(m.shape, m.dtype), metadata.tree)
      tree = reader.restore(folder / name, zeros)
    found = digests(tree)
  except Exception as error:  # a flipped byte may surface anywhere in Orbax or TensorStore
    raise DamagedCheckpoint(f"checkpoint {folder}: {name}: {_first_line(error)}") from error
  for path in written:
    if found.get(path) != written[path]:
      raise DamagedCheckpoint(f"checkpoint {folder}: {name}/{path} is not what was written")
  if like is None:
    return tree
  flat = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
  return jax.tree_util.tree_map_with_path(lambda path, _: flat[path_name(path)], like)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without Orbax's own log lines: an item is read alone, and damage is reported by us."""
  loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)


def _check_model(folder: pathlib.Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
  if lines := differences(there.get("model"), here.get("model")):
    raise CheckpointError(
      f"checkpoint {folder} is of another model: {'; '.join(lines[:5])}. Use another --workdir, or "
      "the configuration that it was trained with"
    )


def differences(there: Any, here: Any, path: str = "") -> list[str]:
  """How two JSON values differ, one line per key: 'encoder.width: 64 there, 128 here'."""
  if isinstance(there, Mapping) and isinstance(here, Mapping):
    keys = sorted(set(there) | set(here))
    return [
      line
      for key in keys
      for line in differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    ]
  return [] if there == here else [f"{path}: {_short(there)} there, {_short(here)} here"]


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 60 else f"{text[:57]}..."


def _first_line(error: BaseException) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300]
