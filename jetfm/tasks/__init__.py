"""Tasks: what the encoder is trained and fine-tuned for."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jetfm.schema import Schema
from jetfm.tasks.augmentations import AUGMENTATIONS, make_augmentation
from jetfm.tasks.base import PLAIN, Statistics, Task, Views
from jetfm.tasks.classification import Classification
from jetfm.tasks.generation import Generation
from jetfm.tasks.masked_particles import MaskedParticles
from jetfm.tasks.masking import MASKINGS
from jetfm.tasks.regression import Regression
from jetfm.tasks.super_resolution import SuperResolution

TASKS: Mapping[str, type] = MappingProxyType(
  {
    "masked_particles": MaskedParticles,
    "classification": Classification,
    "regression": Regression,
    "generation": Generation,
    "super_resolution": SuperResolution,
  }
)
"""Tasks by name."""


def make_task(kind: str, schema: Schema, **options: Any) -> Task:
  """The task of that name for data of that schema; options are the fields of its class.

  Raises: ValueError for an unknown task or option, with the nearest known name.
  """

  def check(what: str, name: str, known: list[str]) -> None:
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
      raise ValueError(f"no {what} '{name}'; the nearest is '{near}' of {known}")

  check("task", kind, list(TASKS))
  fields = [f.name for f in dataclasses.fields(TASKS[kind]) if f.name != "schema"]
  for option in options:
    check(f"option of task {kind}", option, fields)
  return TASKS[kind](schema, **options)


__all__ = [
  "AUGMENTATIONS",
  "Classification",
  "Generation",
  "MASKINGS",
  "MaskedParticles",
  "PLAIN",
  "Regression",
  "Statistics",
  "SuperResolution",
  "TASKS",
  "Task",
  "Views",
  "make_augmentation",
  "make_task",
]
