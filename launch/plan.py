"""What a training config asks for, read completely and checked before any work begins."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from jetfm.train import BALANCES, STRATEGIES, Optimizer, Rules, Schedule
from launch.cli import UserError


@dataclasses.dataclass(frozen=True)
class Data:
  """See the docstring of configs/lorentz_part.py."""

  directory: str
  inputs: str
  lengths: tuple[int, ...]
  batch_size: int
  eval_batch_size: int
  train_events: int
  eval_events: int
  lanes: int
  workers: int


@dataclasses.dataclass(frozen=True)
class StagePlan:
  """One stage. `settings` are all its keys: a folder belongs to one value of them."""

  name: str
  tasks: dict[str, dict[str, Any]]
  weights: dict[str, float]
  strategy: str
  last_blocks: int
  rate_decay: float
  balance: str
  init_from: str
  rules: Rules
  augment: tuple[str, ...]
  remat: bool
  schedule: Schedule
  patience: int
  monitor: str
  largest: bool
  optimizer: Optimizer
  settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
  """A whole run."""

  workdir: pathlib.Path
  seed: int
  data: Data
  encoder: dict[str, Any]
  stages: tuple[StagePlan, ...]


NOT_PART_OF_A_RUN = ("workdir", "workers", "log_every")
"""Keys that may change between a run and its continuation: they change no result."""


def read_plan(config: Any) -> Plan:
  """Every key of the config; stages that do not run are read and checked too.

  Raises: UserError for missing and impossible values.
  """
  if not config.workdir:
    raise UserError("where to? give --workdir=DIRECTORY")
  data = Data(**{f.name: getattr(config.data, f.name) for f in dataclasses.fields(Data)})
  if not data.directory:
    raise UserError("no data: give --config.data.directory=DIRECTORY, made by launch.ingest")
  seed, limit, chosen = config.seed, config.max_nonfinite, tuple(config.stages)
  if limit < 1:
    raise UserError(f"max_nonfinite is {limit}, expected at least 1")
  encoder = config.encoder.to_dict()
  common = {"seed": seed, "data": dataclasses.asdict(data), "encoder": encoder}
  stages = {}
  for name in config.stage.names():
    stages[name] = _read_stage(name, getattr(config.stage, name), limit, common)
  unknown = [name for name in chosen if name not in stages]
  if unknown or not chosen:
    raise UserError(f"stages {list(unknown or chosen)} are not among {list(stages)}")
  workdir = pathlib.Path(config.workdir)
  return Plan(workdir, seed, data, encoder, tuple(stages[name] for name in chosen))


def _read_stage(name: str, stage: Any, max_nonfinite: int, common: dict[str, Any]) -> StagePlan:
  tasks = stage.tasks.to_dict()
  try:
    weights = {task: float(options.pop("weight")) for task, options in tasks.items()}
    optimizer = Optimizer(
      **{f.name: getattr(stage.optimizer, f.name) for f in dataclasses.fields(Optimizer)}
    )
  except KeyError:
    raise UserError(f"stage.{name}.tasks: every task needs a weight") from None
  except ValueError as error:
    raise UserError(f"stage.{name}.{error}") from None
  for task, weight in weights.items():
    if not weight >= 0:
      raise UserError(f"stage.{name}.tasks.{task}.weight is {weight}, expected a number >= 0")
  if stage.strategy not in STRATEGIES:
    raise UserError(f"stage.{name}.strategy is '{stage.strategy}', expected one of {STRATEGIES}")
  if stage.balance not in BALANCES:
    raise UserError(f"stage.{name}.balance is '{stage.balance}', expected one of {BALANCES}")
  if stage.monitor_mode not in ("min", "max"):
    raise UserError(f"stage.{name}.monitor_mode is '{stage.monitor_mode}', expected min or max")
  if not tasks or stage.steps < 1 or stage.accumulate < 1:
    raise UserError(f"stage.{name} needs a task, and steps and accumulate of at least 1")
  return StagePlan(
    name=name,
    tasks=tasks,
    weights=weights,
    strategy=stage.strategy,
    last_blocks=stage.last_blocks,
    rate_decay=stage.rate_decay,
    balance=stage.balance,
    init_from=stage.init_from,
    rules=Rules(tuple(map(tuple, stage.rename)), tuple(stage.fresh), tuple(stage.differing)),
    augment=tuple(stage.augment),
    remat=stage.remat,
    schedule=Schedule(
      steps=stage.steps,
      log_every=stage.log_every,
      eval_every=stage.eval_every,
      save_every=stage.save_every,
      accumulate=stage.accumulate,
      max_nonfinite=max_nonfinite,
    ),
    patience=stage.patience,
    monitor=stage.monitor,
    largest=stage.monitor_mode == "max",
    optimizer=optimizer,
    settings=_without(common | {"stage": stage.to_dict()}, NOT_PART_OF_A_RUN),
  )


def _without(value: Any, keys: tuple[str, ...]) -> Any:
  if isinstance(value, dict):
    return {k: _without(v, keys) for k, v in value.items() if k not in keys}
  return value
