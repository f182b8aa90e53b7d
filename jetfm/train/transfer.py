"""`init_from`: moving a trained encoder, and heads on request, into a new model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jetfm.models.encoders import from_json, make_encoder
from jetfm.schema import Schema
from jetfm.tasks import Classification, make_task
from jetfm.train.checkpoint import differences
from jetfm.train.finetune import path_name
from jetfm.typing import PyTree

_HEADS = "heads/"
HOW_TO_COMPUTE = ("dropout", "dtype", "remat", "implementation", "token_implementation")


class TransferError(Exception):
  """Rules that do not fit the two models."""


@dataclasses.dataclass(frozen=True)
class Rules:
  """How arrays of a checkpoint are named in the new model.

  Both collections, parameters and constants, follow the same rules: the standardisation moves with
  the encoder that was trained with it.

  Attributes:
    rename: ordered (source regex, target); the first that matches the whole path decides, the
      target may use \\1. An empty target leaves the array out on purpose.
    fresh: regexes of paths of the new model that start untrained on purpose.
    differing: options of the encoder, 'features', 'transforms', 'classes' or 'targets', that are
      others than the checkpoint's on purpose.
  """

  rename: Sequence[tuple[str, str]] = ((r"(encoder/.*)", r"\1"), (r"heads/.*", ""))
  fresh: Sequence[str] = (r"heads/.*",)
  differing: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Report:
  """What `transfer` did; `str()` is what a user reads."""

  loaded: tuple[str, ...]
  left_out: tuple[str, ...]
  fresh: tuple[str, ...]
  numbers: int
  heads: Mapping[str, str]
  """Task of the checkpoint by task of the new model, where arrays of its head were moved."""

  def __str__(self) -> str:
    lines = [
      f"loaded {len(self.loaded)} arrays, {self.numbers:,} numbers: {_branches(self.loaded)}"
    ]
    if self.left_out:
      lines.append(f"left out by rule {len(self.left_out)} arrays: {_branches(self.left_out)}")
    if self.fresh:
      lines.append(f"starting fresh by rule {len(self.fresh)} arrays: {_branches(self.fresh)}")
    return "\n".join(lines)


def transfer(
  source: dict[str, PyTree], target: dict[str, PyTree], rules: Rules | None = None
) -> tuple[dict[str, PyTree], Report]:
  """The target's variables with the source's values where the rules say so.

  Args:
    source, target: {'params': ..., 'constants': ...}.
  Raises: TransferError, naming each array, for one of the source that no rule names or whose target
    does not exist or has another shape, and for one of the target that nothing filled or excused.
  """
  rules = Rules() if rules is None else rules
  compiled = [(re.compile(regex), name) for regex, name in rules.rename]
  fresh_rules = [re.compile(regex) for regex in rules.fresh]
  values, problems, left_out = {}, [], []
  heads: dict[str, str] = {}
  wanted = _flat(target)
  for (collection, path), value in _flat(source).items():
    match = next(((m, name) for r, name in compiled if (m := r.fullmatch(path))), None)
    if match is None:
      problems.append(f"{path} of the checkpoint: no rule names it; ('{path}', '') leaves it out")
      continue
    if not match[1]:
      left_out.append(path)
      continue
    name = match[0].expand(match[1])
    place = (collection, name)
    if place not in wanted:
      problems.append(f"{path} of the checkpoint: this model has no {collection} '{name}'")
    elif np.shape(value) != np.shape(wanted[place]):
      problems.append(
        f"{path} of the checkpoint has shape {np.shape(value)}, '{name}' of this model has "
        f"{np.shape(wanted[place])}"
      )
    elif place in values:
      problems.append(f"{path} of the checkpoint: '{name}' was filled already by an earlier array")
    else:
      values[place] = value
      if path.startswith(_HEADS) and name.startswith(_HEADS):
        heads[name.split("/")[1]] = path.split("/")[1]
  unfilled = [place for place in wanted if place not in values]
  fresh = [path for _, path in unfilled if any(r.fullmatch(path) for r in fresh_rules)]
  for _, path in unfilled:
    if path not in fresh:
      problems.append(f"{path} of this model: nothing fills it and no 'fresh' rule excuses it")
  if problems:
    shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if problems[5:] else "")
    raise TransferError(f"init_from does not fit: {shown}")

  def pick(path, old):
    place = (path[0].key, path_name(path[1:]))
    return values[place].astype(old.dtype) if place in values else old

  report = Report(
    tuple(path for _, path in values),
    tuple(left_out),
    tuple(fresh),
    sum(int(np.size(v)) for v in values.values()),
    heads,
  )
  return jax.tree_util.tree_map_with_path(pick, target), report


def check_same_encoder(
  source: Mapping[str, Any], target: Mapping[str, Any], rules: Rules | None = None
) -> None:
  """Arrays that fit may still belong to an encoder that computes something else with them.

  Args:
    source, target: two models as `describe_model` describes them.
  Raises: TransferError that names the options, or input features, in which they differ and no rule
    excuses it. What only says how to compute may differ, as may constants of z-scores: they move.
  """
  if lines := _differences(_options(source), _options(target), rules):
    raise TransferError(
      f"init_from does not fit: its encoder computes something else: {'; '.join(lines[:5])}. Take "
      "the options that it was trained with, or name those that differ on purpose in 'differing'"
    )


def check_same_heads(
  source: Mapping[str, Any],
  target: Mapping[str, Any],
  heads: Mapping[str, str],
  rules: Rules | None = None,
) -> None:
  """Arrays of a head that fit may still belong to other classes or targets, or to another order.

  Args:
    source, target: as in `check_same_encoder`.
    heads: those that were moved, as in `Report`.
  Raises: TransferError that names the classes or targets, where no rule excuses them.
  """
  for name, origin in heads.items():
    try:
      there = _meaning(source, origin)
    except ValueError as error:
      raise TransferError(f"init_from: task '{origin}' of the checkpoint: {error}") from None
    if lines := _differences(there, _meaning(target, name), rules):
      raise TransferError(
        f"init_from does not fit: the head of '{origin}' was trained for something else: "
        f"{'; '.join(lines)}. Let it start fresh (rename, fresh), or name what differs on purpose "
        "in 'differing'"
      )


def _differences(
  there: Mapping[str, Any], here: Mapping[str, Any], rules: Rules | None
) -> list[str]:
  excused = (*HOW_TO_COMPUTE, *(() if rules is None else rules.differing))
  return [
    line for name in {**there, **here} if name not in excused
    for line in differences(there.get(name), here.get(name), name)
  ]  # fmt: skip


def _meaning(description: Mapping[str, Any], name: str) -> dict[str, list[str]]:
  """What the rows of a task's head stand for."""
  schema = Schema.from_dict(description["schema"])
  task = make_task(name, schema, **from_json(description["tasks"][name]))
  of_classes = isinstance(task, Classification) or getattr(task, "condition", "") == "jet"
  return {
    "classes": list(schema.classes) if of_classes else [],
    "targets": list(getattr(task, "targets", ())),
  }


def _options(description: Mapping[str, Any]) -> dict[str, Any]:
  """Every option of a model's encoder, those at their defaults too, and its input features."""
  schema = Schema.from_dict(description["schema"])
  encoder = make_encoder(schema=schema, **description["encoder"])
  names = [f.name for f in dataclasses.fields(encoder) if f.init]
  options = {name: getattr(encoder, name) for name in names if name not in ("schema", "parent")}
  transforms = {
    f.name: [f.group, *([t.kind, *t.args] for t in f.transforms)] for f in schema.features
  }
  # The names beside them for their order.
  inputs = {"features": list(transforms), "transforms": transforms}
  return {"kind": description["encoder"]["kind"]} | options | inputs


def _flat(variables: dict[str, PyTree]) -> dict[tuple[str, str], np.ndarray]:
  return {
    (path[0].key, path_name(path[1:])): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
  }


def _branches(paths: Sequence[str]) -> str:
  """'encoder (120), heads/masked (14)'."""
  counts: dict[str, int] = {}
  for path in paths:
    parts = path.split("/")
    name = "/".join(parts[:2]) if parts[0] == "heads" else parts[0]
    counts[name] = counts.get(name, 0) + 1
  return ", ".join(f"{name} ({n})" for name, n in counts.items())
