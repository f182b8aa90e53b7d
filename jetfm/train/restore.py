"""A trained model from nothing but its checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jetfm.models.encoders import from_json, make_encoder
from jetfm.models.foundation import FoundationModel
from jetfm.schema import Schema
from jetfm.tasks import Task, make_task, option_names
from jetfm.train.checkpoint import Loaded, load
from jetfm.typing import PyTree


@dataclasses.dataclass(frozen=True)
class TrainedModel:
  """What evaluation and prediction need.

  Attributes:
    model: `model.encode(variables, batch, deterministic=True)`, `model.head(task, ...)`.
    tasks: by name.
    variables: parameters and constants, numpy arrays.
    schema: what batches must look like: of an input set whose stored features are the same.
    checkpoint: step, results and configuration of the training.
  """

  model: FoundationModel
  tasks: dict[str, Task]
  variables: dict[str, PyTree]
  schema: Schema
  checkpoint: Loaded

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of the parameters and constants, in hexadecimal: of their names, types and values."""
    found = hashlib.sha256()
    for path, x in jax.tree_util.tree_leaves_with_path(self.variables):
      x = np.asarray(x)
      found.update(f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}".encode())
      found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def describe_model(
  schema: Schema, encoder: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
  """The description of a model that checkpoints carry, made of JSON values.

  Args:
    encoder: 'kind' and options of `jetfm.models.encoders.make_encoder`.
    tasks: 'kind' and options of `jetfm.tasks.make_task` by task.
  """
  return {
    "schema": schema.to_dict(),
    "encoder": dict(encoder),
    "tasks": {name: dict(options) for name, options in tasks.items()},
  }


def build_model(description: Mapping[str, Any]) -> tuple[FoundationModel, dict[str, Task], Schema]:
  """The modules that `describe_model` described.

  Heads compute in the encoder's dtype but for their last layers; those of a task without
  `head_options` as they like.
  Raises: ValueError for unknown names and options.
  """
  schema = Schema.from_dict(description["schema"])
  encoder = make_encoder(schema=schema, **description["encoder"])
  tasks = {}
  for name, options in description["tasks"].items():
    options = from_json(options)
    if "head_options" in option_names(options.get("kind") or name):
      head = {"dtype": description["encoder"].get("dtype"), **options.get("head_options", {})}
      options["head_options"] = from_json(head)
    tasks[name] = make_task(name, schema, **options)
  return FoundationModel(encoder, {t.name: t.head for t in tasks.values()}), tasks, schema


def load_model(folder: str | os.PathLike[str]) -> TrainedModel:
  """The newest checkpoint in a folder, such as RUN/classify/best.

  Raises: CheckpointError when there is none, or when it is damaged.
  """
  loaded = load(folder)
  model, tasks, schema = build_model(loaded.description["model"])
  return TrainedModel(model, tasks, loaded.variables, schema, loaded)
