"""What one checkpoint holds: a document, and arrays that are verified when read.

variables/    {'params': ..., 'constants': ...}
optimizer/    optimizer state, random key and counters (in `last`, not in `best`)
description/  JSON: the model (encoder, heads, schema), progress, and a digest per leaf
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jetfm.train.checkpoint.errors import CheckpointError, DamagedCheckpoint, first_line
from jetfm.train.finetune import path_name
from jetfm.train.sharding import place
from jetfm.train.state import TrainState
from jetfm.typing import PyTree

CHANGES = {
  2: "what its heads learned for hidden or added particles and for gen_mass meant something else",
  3: "the pair features of parallel particles that it was trained with were rounding, and no "
  "longer are: it is somewhat worse than it was",
}
"""By format: what is to be said of a checkpoint that was written before it."""
FORMAT = max(CHANGES)
"""Of the files, and of what parameters mean."""


def optimizer_items(state: TrainState) -> dict[str, Any]:
  """What `last` has besides the variables, as a tree of arrays; `rebuild` is the inverse."""
  leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
  return {
    # By path: the named tuples of Optax are not part of the file's format.
    "opt_state": {path_name(path): leaf for path, leaf in leaves},
    "key": jax.random.key_data(state.key),
    "step": state.step,
    "nonfinite": state.nonfinite,
  }


def rebuild(like: TrainState, items: Mapping[str, Any]) -> TrainState:
  """The state of the items, placed on devices as `like` is."""
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


def read_document(folder: pathlib.Path) -> dict[str, Any]:
  """The JSON document of one checkpoint. Raises: DamagedCheckpoint unless it is as written."""
  try:
    document = json.loads((folder / "description" / "metadata").read_text())
    intact = document["digest"] == document_digest(document)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedCheckpoint(f"checkpoint {folder}: its description cannot be read") from error
  if not intact:
    raise DamagedCheckpoint(f"checkpoint {folder}: its description is not what was written")
  return document


def read_item(
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
    with _quiet(), ocp.StandardCheckpointer(multiprocessing_options=this_process_only()) as reader:
      metadata = reader.metadata(folder / name).item_metadata
      zeros = jax.tree.map(lambda m: np.zeros(m.shape, m.dtype), metadata.tree)
      tree = reader.restore(folder / name, zeros)
    found = digests(tree)
  except Exception as error:  # a flipped byte may surface anywhere in Orbax or TensorStore
    raise DamagedCheckpoint(f"checkpoint {folder}: {name}: {first_line(error)}") from error
  for path in written:
    if found.get(path) != written[path]:
      raise DamagedCheckpoint(f"checkpoint {folder}: {name}/{path} is not what was written")
  if like is None:
    return tree
  flat = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
  return jax.tree_util.tree_map_with_path(lambda path, _: flat[path_name(path)], like)


def digests(tree: PyTree) -> dict[str, str]:
  """Path of each leaf -> digest of its type, shape and bytes."""
  return {
    path_name(path): _leaf_digest(np.asarray(leaf))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _leaf_digest(array: np.ndarray) -> str:
  head = f"{array.dtype} {array.shape} ".encode()
  return hashlib.blake2b(head + array.tobytes(), digest_size=16).hexdigest()


def document_digest(document: Mapping[str, Any]) -> str:
  """Of everything in the document but its own digest."""
  content = {key: value for key, value in document.items() if key != "digest"}
  return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def this_process_only() -> ocp.options.MultiprocessingOptions:
  """Orbax for one process, also where there are others."""
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


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
