"""Pretraining and fine-tuning: a data set and a config -> stages of training with checkpoints.

  python -m launch.train --config=configs/lorentz_part.py:tiny --workdir=runs/tiny \\
      --config.data.directory=datasets/jets

The same command goes on with an interrupted run: a stage resumes from its newest checkpoint; else
it starts from `init_from`; else fresh. On another number of devices or processes too.

One process uses all GPUs of its machine. For several machines, or a process per GPU, start the same
command once per process: with srun, as launch/slurm/train.sbatch does, or with these variables set:
  JAX_COORDINATOR_ADDRESS=HOST:PORT   of the first process
  JAX_NUM_PROCESSES=8                 how many there are
  JAX_PROCESS_ID=0                    which one this is, 0 to 7
  JAX_LOCAL_DEVICE_IDS=0,1            its GPUs, if not all that it sees
All read the data set; only the first reads and writes the workdir, one run at a time. data.lanes
must be a multiple of the number of processes. SIGTERM to one of them stops all; when one dies, the
others end as well.

Exit status: 0 done; 2 a mistake in the command; 70 the loss was not finite for too long; 74 a
checkpoint could not be written; 75 stopped by SIGTERM and saved, start again to go on; 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jetfm import train
from jetfm.data import DataError, JetDataset, open_dataset
from jetfm.locks import Busy, locked
from jetfm.models.foundation import named_key
from jetfm.tasks import make_augmentation
from launch import cli
from launch.plan import Plan, StagePlan, read_plan

DEFAULT_CONFIG = "configs/lorentz_part.py"
USER_MISTAKES = (DataError, train.TransferError, train.UncoveredParameter, train.UnknownResult)
LOCK = ".train.lock"
EXIT_NONFINITE, EXIT_CANNOT_SAVE, EXIT_TERMINATED = 70, 74, 75


def main(config: Any) -> int:
  """Runs the stages of the config, and gives the exit status."""
  plan = read_plan(config)
  config.all_read()
  warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
  try:
    train.initialize_distributed()
  except ValueError as error:
    raise cli.UserError(str(error)) from None
  try:
    with train.TerminationFlag() as asked_to_stop:
      _say(_machine())
      train_data = open_dataset(
        plan.data.directory,
        plan.data.inputs,
        "train",
        max_events=plan.data.train_events or None,
        subset=plan.seed,
      )
      valid_data = open_dataset(
        plan.data.directory, plan.data.inputs, "valid", max_events=plan.data.eval_events or None
      )
      with _alone(plan.workdir):
        for stage in plan.stages:
          run_stage(plan, stage, train_data, valid_data, asked_to_stop)
  except USER_MISTAKES as error:
    raise cli.UserError(str(error)) from None
  except (train.CannotSave, OSError) as error:
    return _fail(error, EXIT_CANNOT_SAVE)
  except train.CheckpointError as error:
    raise cli.UserError(str(error)) from None
  except train.NonFiniteLoss as error:
    return _fail(error, EXIT_NONFINITE)
  except train.Terminated as error:
    return _fail(error, EXIT_TERMINATED)
  return 0


@contextlib.contextmanager
def _alone(workdir: pathlib.Path) -> Iterator[None]:
  """In here no other run writes to the workdir, as a job that was queued again too early would.

  Raises: UserError in all processes.
  """
  with contextlib.ExitStack() as held:

    def take() -> None:
      workdir.mkdir(parents=True, exist_ok=True)
      try:
        held.enter_context(locked(workdir / LOCK))
      except Busy:
        raise cli.UserError(
          f"another run is writing to {workdir}: wait for its end, or use another --workdir"
        ) from None

    train.from_first(take)
    yield


def run_stage(
  plan: Plan,
  stage: StagePlan,
  train_data: JetDataset,
  valid_data: JetDataset,
  asked_to_stop: Callable[[], bool],
) -> None:
  """Builds one stage and trains it to its end, unless its folder says that it is there."""
  folder = plan.workdir / stage.name
  train.from_first(lambda: _claim(folder, stage.settings))
  progress = train.from_first(lambda: train.newest_progress(folder / "last"))
  if progress and progress["finished"]:
    _say(f"{stage.name}: finished at step {progress['step']}, nothing to do")
    return

  try:
    description = train.describe_model(train_data.schema, plan.encoder, stage.tasks)
    model, tasks, _ = train.build_model(description)
    strategy = train.make_strategy(
      stage.strategy, plan.encoder["depth"], stage.last_blocks, stage.rate_decay
    )
    rate = train.schedule(stage.optimizer, stage.schedule.steps)
    augment = make_augmentation(stage.augment, train_data.schema) if stage.augment else None
  except (ValueError, TypeError) as error:
    raise cli.UserError(f"stage '{stage.name}': {error}") from None
  weighted = [(task, stage.weights[name]) for name, task in tasks.items()]
  mesh = train.data_mesh()
  batches, validation = _iterators(plan, stage, train_data, valid_data)
  document = {"model": description, "stage": stage.name, "settings": stage.settings}
  last = train.Checkpoints(folder / "last", document)
  best = train.Checkpoints(folder / "best", document, keep=1, optimizer=False)
  transfers = stage.init_from and not last.steps()
  source = train.from_first(lambda: train.load(_source(plan, stage))) if transfers else None

  key = named_key(jax.random.key(plan.seed), stage.name)
  # From the first process: others may be of another kind, and round differently.
  variables = train.from_first(lambda: _fresh(model, tasks, key, train_data, plan, stage))
  labels = train.label(variables["params"], strategy)
  optimizer = train.make_optimizer(
    stage.optimizer, stage.schedule.steps, train.trained_labels(labels), strategy.rates
  )
  early = train.EarlyStopping(stage.monitor, stage.largest, stage.patience)
  state = train.replicate(train.create(variables, optimizer, labels, key), mesh)

  if (found := last.restore(state)) is not None:
    state, progress = found
    early = early.resumed(progress["early_stopping"])
    _say(f"{stage.name}: resumed at step {int(state.step)} from {last.folder}")
  elif source is not None:
    train.check_same_encoder(source.description["model"], description, stage.rules)
    variables, report = train.transfer(source.variables, variables, stage.rules)
    train.check_same_heads(source.description["model"], description, report.heads, stage.rules)
    state = train.replicate(train.create(variables, optimizer, labels, key), mesh)
    _say(f"{stage.name}: starts from {source.folder}\n{report}")
  else:
    _say(f"{stage.name}: starts fresh")
  _say(_sizes(state, labels))

  options: dict[str, Any] = {
    "augment": augment,
    "remat": stage.remat,
    "mesh": mesh,
    "rate": rate,
    "balance": stage.balance,
  }
  work = train.Stage(
    name=stage.name,
    schedule=stage.schedule,
    train_step=train.make_train_step(
      model, weighted, optimizer, labels, accumulate=stage.schedule.accumulate, **options
    ),
    eval_step=train.make_eval_step(model, weighted, mesh=mesh),
    batches=batches,
    validation=validation,
    mesh=mesh,
  )
  train.check_monitor(work, state, stage.monitor)
  train.run_stage(work, state, early, last, best, folder, asked_to_stop)
  last.close()
  best.close()


def _iterators(plan: Plan, stage: StagePlan, train_data: JetDataset, valid_data: JetDataset):
  """`batches(start)` without end, and `validation()` for one pass."""
  common = {
    "lengths": plan.data.lengths,
    "lanes": plan.data.lanes,
    "process_index": jax.process_index(),
    "process_count": jax.process_count(),
    "multiple_of": jax.device_count(),
  }
  order = (plan.seed + zlib.crc32(stage.name.encode())) % 2**31
  loader = train_data.loader(plan.data.batch_size, seed=order, **common)
  passes = valid_data.loader(plan.data.eval_batch_size, shuffle=False, epochs=1, **common)

  def batches(start: int) -> Iterator:
    return loader.iterate(start, plan.data.workers)

  def validation() -> Iterator:
    return passes.iterate()

  return batches, validation


def _fresh(
  model, tasks, key: jax.Array, data: JetDataset, plan: Plan, stage: StagePlan
) -> dict[str, Any]:
  """First variables, on the host."""
  # Of few blocks: with batches this small, the order of a whole data set takes gigabytes.
  few = dataclasses.replace(data, blocks=tuple(blocks[:1] for blocks in data.blocks))
  events = few.loader(plan.data.lanes, lanes=plan.data.lanes)[0][0]
  variables = train.initialise(model, tasks, key, jax.tree.map(lambda x: x[:1], events))
  if stage.balance == "uncertainty":
    variables = train.with_log_variances(variables)
  return jax.device_get(variables)


def _source(plan: Plan, stage: StagePlan) -> pathlib.Path:
  """`init_from`: the best, else the last checkpoint of a stage of this run, or any folder.

  Raises: UserError where it is neither.
  """
  here = plan.workdir / stage.init_from
  for folder in (here / "best", here / "last"):
    if train.complete_steps(folder):  # a damaged one is an error, and not passed over
      return folder
  folder = pathlib.Path(stage.init_from)
  if not folder.exists():
    raise cli.UserError(
      f"stage.{stage.name}.init_from: {plan.workdir} has no checkpoint of a stage "
      f"'{stage.init_from}', and there is no such folder: add the stage, or name a checkpoint"
    )
  return folder


def _claim(folder: pathlib.Path, settings: dict[str, Any]) -> None:
  """A stage's folder belongs to one configuration, which is written there.

  Until there is a checkpoint it belongs to the newest one: a mistake can be mended.
  """
  path = folder / "config.json"
  text = json.dumps(settings, indent=2, sort_keys=True)
  checkpoints = any(found.is_dir() for found in folder.glob("*/*"))
  if path.exists() and checkpoints:
    if lines := train.differences(json.loads(path.read_text()), json.loads(text)):
      raise cli.UserError(
        f"{folder} belongs to another config: {'; '.join(lines[:5])}. Use another --workdir, or "
        "remove that folder to start anew"
      )
  else:
    folder.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text + "\n")
    new.replace(path)


def _sizes(state: train.TrainState, labels: Any) -> str:
  pairs = list(zip(jax.tree.leaves(state.params), jax.tree.leaves(labels), strict=True))
  total = sum(p.size for p, _ in pairs)
  trained = sum(p.size for p, group in pairs if group != "frozen")
  encoder = sum(p.size for p in jax.tree.leaves(state.params["encoder"]))
  return f"{total:,} parameters, {encoder:,} of the encoder; {trained:,} are trained"


def _machine() -> str:
  devices = jax.devices()
  return f"{len(devices)} x {devices[0].device_kind}, {jax.process_count()} process(es)"


def _say(text: str) -> None:
  if train.is_first():
    print(text, file=sys.stderr, flush=True)


def _fail(error: Exception, status: int) -> int:
  _say(f"error: {error}")
  return status


if __name__ == "__main__":
  cli.run(main, DEFAULT_CONFIG)
