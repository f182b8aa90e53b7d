"""Tasks by name: those of jetfm, and a user's own by the place where they are defined."""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jetfm.names import nearest
from jetfm.schema import Schema
from jetfm.tasks.base import Task
from jetfm.tasks.classification import Classification
from jetfm.tasks.contrastive import SupervisedContrastive, ViewContrastive
from jetfm.tasks.generation import Generation
from jetfm.tasks.masked_directions import MaskedDirections
from jetfm.tasks.masked_features import MaskedFeatures
from jetfm.tasks.masked_jet import MaskedJet
from jetfm.tasks.masked_particles import MaskedParticles
from jetfm.tasks.regression import Regression
from jetfm.tasks.super_resolution import SuperResolution

TASKS: Mapping[str, type] = MappingProxyType(
  {
    "masked_particles": MaskedParticles,
    "masked_jet": MaskedJet,
    "masked_directions": MaskedDirections,
    "classification": Classification,
    "regression": Regression,
    "generation": Generation,
    "super_resolution": SuperResolution,
    "masked_features": MaskedFeatures,
    "supervised_contrastive": SupervisedContrastive,
    "view_contrastive": ViewContrastive,
  }
)
"""The tasks of jetfm by name."""

MEMBERS = tuple(name for name in vars(Task) if not name.startswith("_"))
"""What a task must have besides its name."""


def make_task(name: str, schema: Schema, /, *, kind: str | None = None, **options: Any) -> Task:
  """A task for data of that schema.

  Args:
    name: of this task: its head is `heads/<name>`, its terms are logged as `<name>/...`.
    kind: one of `TASKS`, or 'package.module:Class' for a task of one's own; `name` without it, so
      that several tasks of one kind can live side by side.
    options: the fields of its class, beside `schema` and `name`.

  Raises: ValueError for an unknown kind or option, with the nearest known name, and for a class
    that is no task, with what it lacks.
  """
  if not re.fullmatch(r"\w+", name):
    raise ValueError(f"a task is named '{name}', expected letters, digits and underscores")
  kind = name if kind is None else kind
  known = option_names(kind)
  for option in options:
    _check(f"option of task {kind}", option, known)
  return task_class(kind)(schema, name=name, **options)


def option_names(kind: str) -> tuple[str, ...]:
  """Names of the options of a kind of task.

  Raises: ValueError as `make_task` does.
  """
  names = list(inspect.signature(task_class(kind)).parameters)
  return tuple(name for name in names[1:] if name != "name")


def task_class(kind: str) -> type:
  """The class of a kind of task.

  Raises: ValueError as `make_task` does.
  """
  if ":" not in kind:
    _check("task", kind, list(TASKS), " or 'package.module:Class' of your own")
    return TASKS[kind]
  path, _, name = kind.partition(":")
  try:
    module = importlib.import_module(path)
  except Exception as error:  # a user's module may raise anything
    raise ValueError(_cannot_import(kind, path, error)) from error
  if not hasattr(module, name):
    near = nearest(name, vars(module))
    raise ValueError(f"task '{kind}': module '{path}' has no '{name}'; the nearest is '{near}'")
  found = getattr(module, name)
  if not isinstance(found, type):
    raise ValueError(f"task '{kind}' is of type {type(found).__name__}, expected a class")
  missing = [member for member in MEMBERS if not hasattr(found, member)]
  if missing:
    raise ValueError(f"task '{kind}' lacks {missing}; see jetfm.tasks.Task for what each must do")
  parameters = list(inspect.signature(found).parameters)
  if parameters[:1] != ["schema"] or "name" not in parameters:
    raise ValueError(
      f"task '{kind}' is made from {parameters}, expected 'schema' first, and 'name' and options "
      "after it: make it a dataclass with these fields"
    )
  return found


def _cannot_import(kind: str, path: str, error: Exception) -> str:
  if (
    isinstance(error, ModuleNotFoundError)
    and error.name
    and f"{path}.".startswith(f"{error.name}.")
  ):
    return (
      f"task '{kind}': no module '{error.name}'; Python looks in the current folder and in "
      "those of PYTHONPATH: give the folder that holds it as PYTHONPATH=FOLDER"
    )
  frame = traceback.extract_tb(error.__traceback__)[-1]
  at = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
  return f"task '{kind}': importing '{path}' raises {type(error).__name__}: {error}{at}"


def _check(what: str, name: str, known: Sequence[str], other: str = "") -> None:
  if name not in known:
    near = nearest(name, known)
    hint = f"the nearest is '{near}' of {list(known)}{other}" if near else "it has none"
    raise ValueError(f"no {what} '{name}'; {hint}")
