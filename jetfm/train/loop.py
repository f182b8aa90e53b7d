"""The training loop of one stage."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jetfm.models.foundation import named_key
from jetfm.names import nearest
from jetfm.train.checkpoint import Checkpoints
from jetfm.train.early_stopping import EarlyStopping
from jetfm.train.processes import is_first
from jetfm.train.sharding import shard_batches
from jetfm.train.state import TrainState
from jetfm.train.step import quotients
from jetfm.train.writers import Writers
from jetfm.typing import Array, Batch

Groups = tuple[Batch, ...]


class NonFiniteLoss(Exception):
  """Too many successive steps without a finite loss and gradient."""


class UnknownResult(Exception):
  """The result that decides which checkpoint is best is none of the validation's."""


class Terminated(Exception):
  """The run was asked to stop; the state is saved and the run can be resumed."""


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When things happen, in steps.

  Attributes:
    steps: of the whole stage.
    log_every: a line of metrics.jsonl with means over the steps since the last one.
    eval_every: evaluation on the validation data; 0 only at the end.
    save_every: checkpoints; 0 only at the end.
    accumulate: global batches per step.
    max_nonfinite: successive steps without a finite loss after which the run gives up.
  """

  steps: int
  log_every: int = 50
  eval_every: int = 0
  save_every: int = 0
  accumulate: int = 1
  max_nonfinite: int = 10

  def due(self, every: int, step: int) -> bool:
    return step == self.steps or (every > 0 and step % every == 0)


@dataclasses.dataclass(frozen=True)
class Stage:
  """What the loop runs.

  Attributes:
    name: shown in the progress line.
    train_step: from `step.make_train_step`; eval_step: from `step.make_eval_step`.
    batches: `batches(start)` delivers global batches from number `start` on, without end.
    validation: a fresh pass over the validation batches.
  """

  name: str
  schedule: Schedule
  train_step: Callable[[TrainState, Groups], tuple[TrainState, dict[str, Array]]]
  eval_step: Callable[[dict[str, Any], Groups, jax.Array, Any], dict[str, Array]]
  batches: Callable[[int], Iterator[Groups]]
  validation: Callable[[], Iterable[Groups]]
  mesh: Mesh


def run_stage(
  stage: Stage,
  state: TrainState,
  early: EarlyStopping,
  last: Checkpoints,
  best: Checkpoints,
  folder: pathlib.Path,
  asked_to_stop: Callable[[], bool] = lambda: False,
) -> tuple[TrainState, EarlyStopping]:
  """Trains from the state's step to the end of the stage, or until it stops early.

  Args:
    last: for resuming, written every `save_every` steps; best: the best by `early.monitor`.
    folder: for metrics.jsonl and TensorBoard.
    asked_to_stop: a `TerminationFlag`.
  Raises:
    Terminated when asked to stop, once the state is saved.
    NonFiniteLoss after `max_nonfinite` successive bad steps; nothing is saved then.
    CannotSave when the disk is full.
    UnknownResult at the first evaluation, for one that `check_monitor` would have refused.
  """
  schedule, step = stage.schedule, int(state.step)
  writers = Writers(folder, stage.name, step, is_first())
  batches = stage.batches(step * schedule.accumulate)
  pending: list[dict[str, Array]] = []
  shown: dict[str, float] = {}
  saved = (step, early.evaluated)

  def flush() -> None:
    if pending:
      means = _means(jax.device_get(pending), schedule, step)
      writers.write(step, "train", means)
      shown["loss"] = means["loss"]
      pending.clear()

  try:
    while True:
      if step and schedule.due(schedule.eval_every, step) and early.evaluated < step:
        flush()
        results = evaluate(stage, state, asked_to_stop)
        if results is not None:
          early = _judge(stage, state, step, results, early, best, writers)
      stopping = asked_to_stop()
      ended = early.stopped or step >= schedule.steps
      due = step > saved[0] and (stopping or schedule.due(schedule.save_every, step))
      # At the end also an evaluation of what is saved already: else it came at every start.
      if due or (ended and saved != (step, early.evaluated)):
        flush()
        finished = ended and early.evaluated == step
        last.save(state, {"early_stopping": early.to_dict(), "finished": finished})
        saved = (step, early.evaluated)
      if stopping and not (ended and early.evaluated == step):
        raise Terminated(f"stage '{stage.name}' was asked to stop at step {step}; it is saved")
      if ended:
        return state, early
      groups = _next_groups(batches, schedule.accumulate)
      events = sum(int((g.weight > 0).sum()) for g in groups) * jax.process_count()
      groups = shard_batches(groups, stage.mesh, axis=int(schedule.accumulate > 1))
      state, logs = stage.train_step(state, groups)
      step += 1
      pending.append(logs)
      if len(pending) > 1:
        # One step is being computed while the next one's batch is fetched and sent; no more are
        # queued, as each would keep its batch in the devices' memory.
        jax.block_until_ready(pending[-2])
      if schedule.due(schedule.log_every, step):
        flush()
      writers.progress.update(step, schedule.steps, events, shown)
  finally:
    if hasattr(batches, "close"):  # an iterator with worker processes
      batches.close()
    writers.close()


def evaluate(
  stage: Stage, state: TrainState, asked_to_stop: Callable[[], bool] = lambda: False
) -> dict[str, float] | None:
  """Results on the whole validation data; None when asked to stop on the way.

  Random views and samples are the same at every evaluation of a run.
  """
  key = named_key(state.key, "evaluation")
  sums: dict[str, np.ndarray] = {}
  running: dict[str, Array] = {}

  def add(pairs: Mapping[str, Array]) -> None:
    for name, pair in jax.device_get(pairs).items():
      sums[name] = sums.get(name, 0.0) + np.asarray(pair, np.float64)

  for i, groups in enumerate(stage.validation()):
    if asked_to_stop():
      return None
    groups = shard_batches(groups, stage.mesh)
    # The batch before is computed while this one is fetched and sent.
    before, running = running, stage.eval_step(state.variables, groups, key, np.int32(i))
    add(before)
  add(running)
  return quotients(sums)


def _judge(
  stage: Stage,
  state: TrainState,
  step: int,
  results: dict[str, float],
  early: EarlyStopping,
  best: Checkpoints,
  writers: Writers,
) -> EarlyStopping:
  writers.write(step, "valid", results)
  _check_result(early.monitor, results)
  value = results[early.monitor]
  early, improved = early.update(step, value)
  note = " (best)" if improved else ""
  writers.progress.message(f"{stage.name}  step {step}  valid {early.monitor} {value:.5g}{note}")
  if improved:
    best.save(state, {"early_stopping": early.to_dict(), "results": results})
  return early


def check_monitor(stage: Stage, state: TrainState, monitor: str) -> None:
  """Whether the validation has the monitored result, before hours of training.

  Traces the evaluation of one batch, which then need not be traced again.
  Raises: UnknownResult, with the nearest name.
  """
  validation = iter(stage.validation())
  groups = shard_batches(next(validation), stage.mesh)
  if hasattr(validation, "close"):
    validation.close()
  key = named_key(state.key, "evaluation")
  _check_result(monitor, jax.eval_shape(stage.eval_step, state.variables, groups, key, np.int32(0)))


def _check_result(monitor: str, results: Mapping[str, Any]) -> None:
  if monitor not in results:
    near = nearest(monitor, results)
    raise UnknownResult(
      f"no validation result '{monitor}'; the nearest is '{near}' of {sorted(results)}"
    )


def _next_groups(batches: Iterator[Groups], accumulate: int) -> Groups:
  if accumulate == 1:
    return next(batches)
  return jax.tree.map(lambda *xs: np.stack(xs), *(next(batches) for _ in range(accumulate)))


def _means(logs: list[Mapping[str, np.ndarray]], schedule: Schedule, step: int) -> dict[str, float]:
  """Means over the steps that were finite, and how many were not."""
  bad = [int(entry["nonfinite"]) for entry in logs]
  if max(bad) >= schedule.max_nonfinite:
    raise NonFiniteLoss(
      f"no finite loss in {max(bad)} successive steps up to step {step}; the last checkpoint is "
      "from before. Lower the learning rate, lengthen the warm-up, or look at the data with "
      "`python -m launch.ingest inspect`"
    )
  good = [entry for entry in logs if entry["nonfinite"] == 0]
  means = {
    name: float(np.mean([entry[name] for entry in good], dtype=np.float64))
    if good
    else float("nan")
    for name in logs[0]
    if name != "nonfinite"
  }
  return means | {"nonfinite_steps": float(len(logs) - len(good))}
