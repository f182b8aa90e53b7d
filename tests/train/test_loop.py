"""The loop: when it saves, evaluates, stops, and how it goes on."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jetfm.train import (
  Checkpoints,
  EarlyStopping,
  NonFiniteLoss,
  Schedule,
  Stage,
  Terminated,
  UnknownResult,
  check_monitor,
  data_mesh,
  load,
  make_eval_step,
  make_train_step,
  replicate,
  run_stage,
)
from tests.train import toy
from tests.train.test_checkpoint import assert_same_bits

MODEL = {"model": {"encoder": "toy"}}
TASKS = [(toy.Regress(), 1.0), (toy.Denoise(), 0.5)]
SCHEDULE = Schedule(steps=12, log_every=3, eval_every=4, save_every=6)


@pytest.fixture(scope="module")
def compiled():
  """Steps of one model, compiled once for all tests."""
  mesh = data_mesh()
  model, tasks, optimizer, labels, state = toy.setup(
    TASKS, encoder=toy.Encoder(depth=1, dropout=0.2)
  )
  steps = (
    make_train_step(model, tasks, optimizer, labels, mesh=mesh),
    make_eval_step(model, tasks, mesh=mesh),
  )
  return mesh, steps, replicate(state, mesh)


class Run:
  """One stage in a folder; each call goes on from what the folder holds."""

  def __init__(self, compiled, folder, schedule=SCHEDULE, patience=0, batches=toy.stream):
    self.mesh, (train_step, eval_step), self.state = compiled
    self.folder, self.patience = folder, patience
    self.validated = 0

    def validation():
      for i in range(3):
        self.validated += 1
        yield toy.groups(i, seed=9)

    self.stage = Stage("toy", schedule, train_step, eval_step, batches, validation, self.mesh)

  def __call__(self, asked_to_stop=lambda: False):
    last = Checkpoints(self.folder / "last", MODEL)
    best = Checkpoints(self.folder / "best", MODEL, keep=1, optimizer=False)
    early = EarlyStopping(patience=self.patience)
    state = toy.copied(self.state)
    if (found := last.restore(state)) is not None:
      state, progress = found
      early = early.resumed(progress["early_stopping"])
    return run_stage(self.stage, state, early, last, best, self.folder, asked_to_stop)

  def lines(self, split=None):
    lines = [json.loads(x) for x in (self.folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
      line.pop("events_per_second", None)
    return [x for x in lines if split in (None, x["split"])]


def after(calls):
  """Asks to stop from the given call on."""
  count = 0

  def asked():
    nonlocal count
    count += 1
    return count >= calls

  return asked


def test_it_logs_evaluates_and_saves_when_due(compiled, tmp_path):
  run = Run(compiled, tmp_path)
  state, early = run()
  assert int(state.step) == 12
  assert [x["step"] for x in run.lines("valid")] == [4, 8, 12]
  assert {3, 6, 9, 12} <= {x["step"] for x in run.lines("train")}
  assert Checkpoints(tmp_path / "last", MODEL).steps() == [6, 12]
  assert load(tmp_path / "best").step == early.best_step
  valid = {x["step"]: x["loss"] for x in run.lines("valid")}
  assert early.best == min(valid.values()) == valid[early.best_step]
  assert set(run.lines("valid")[0]) >= {"loss", "regress/mae", "denoise/rmse"}


@pytest.mark.parametrize("calls", range(1, 20, 2))
def test_stopped_anywhere_and_resumed_it_ends_with_the_same_bits(compiled, tmp_path, calls):
  """The calls of asked_to_stop come between steps and between batches of the evaluation."""
  whole = Run(compiled, tmp_path / "whole")
  expected = whole()
  run = Run(compiled, tmp_path / "stopped")
  with pytest.raises(Terminated):
    run(after(calls))
  state, early = run()
  assert_same_bits(state, expected[0])
  assert early == expected[1]
  assert run.lines("valid") == whole.lines("valid")
  for folder in ("last", "best"):
    assert_same_bits(load(run.folder / folder).variables, load(whole.folder / folder).variables)


def test_finished_stage_does_nothing_when_started_again(compiled, tmp_path):
  run = Run(compiled, tmp_path)
  run()
  lines, validated = run.lines(), run.validated
  state, _ = run()
  assert int(state.step) == 12
  assert (run.lines(), run.validated) == (lines, validated)


def test_early_stopping_ends_the_stage_and_stays_stopped(compiled, tmp_path):
  mesh, (train_step, _), state = compiled
  calls = 0

  def worse_and_worse(*arguments):
    nonlocal calls
    calls += 1
    return {"loss": np.array([float(calls), 1.0])}

  schedule = Schedule(steps=12, eval_every=2)
  run = Run((mesh, (train_step, worse_and_worse), state), tmp_path, schedule, patience=2)
  state, early = run()
  assert early.stopped
  assert int(state.step) == 6  # best at 2, not better at 4 and 6
  assert load(tmp_path / "best").step == 2
  again, resumed = run()
  assert int(again.step) == 6
  assert resumed == early


class Pending:
  """A result that is being computed: notes when somebody waits for it."""

  def __init__(self, name, events, value):
    self.name, self.events, self.value = name, events, value

  def block_until_ready(self):
    self.events.append(f"wait for {self.name}")
    return self

  def __array__(self, dtype=None, copy=None):
    self.events.append(f"wait for {self.name}")
    return np.asarray(self.value)


def test_the_next_batch_is_fetched_while_a_step_is_computed(compiled, tmp_path):
  """And no more than two batches are on the devices: in training and in evaluation."""
  mesh, _, state = compiled
  events = []

  def numbered(batches, name):
    for i, groups in enumerate(batches):
      events.append(f"fetch {name} {i}")
      yield groups

  def train_step(state, groups):
    i = int(state.step)
    events.append(f"start train {i}")
    loss = Pending(f"train {i}", events, 1.0)
    return state.replace(step=state.step + 1), {"loss": loss, "nonfinite": np.int32(0)}

  def eval_step(variables, groups, key, i):
    events.append(f"start valid {i}")
    return {"loss": Pending(f"valid {i}", events, (1.0, 1.0))}

  run = Run((mesh, (train_step, eval_step), state), tmp_path, Schedule(steps=5, log_every=0))
  batches, validation = run.stage.batches, run.stage.validation
  run.stage = dataclasses.replace(
    run.stage,
    batches=lambda start: numbered(batches(start), "train"),
    validation=lambda: numbered(validation(), "valid"),
  )
  run()
  for name, count in (("train", 5), ("valid", 3)):
    for i in range(count - 1):
      assert events.index(f"fetch {name} {i + 1}") < events.index(f"wait for {name} {i}")
    for i in range(count - 2):
      assert events.index(f"wait for {name} {i}") < events.index(f"start {name} {i + 2}")


def broken_stream(first, count):
  """Batches whose targets are not numbers, `count` of them."""

  def stream(start):
    for step, groups in enumerate(toy.stream(start), start):
      if first <= step < first + count:
        groups = tuple(g.replace(targets=g.targets * np.nan) for g in groups)
      yield groups

  return stream


def test_few_nonfinite_steps_are_skipped_and_counted(compiled, tmp_path):
  schedule = Schedule(steps=6, log_every=6, max_nonfinite=3)
  run = Run(compiled, tmp_path, schedule, batches=broken_stream(2, 2))
  state, _ = run()
  assert int(state.step) == 6
  (line,) = run.lines("train")
  assert line["nonfinite_steps"] == 2
  assert np.isfinite(line["loss"])
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_many_nonfinite_steps_end_the_run_and_nothing_bad_is_saved(compiled, tmp_path):
  schedule = Schedule(steps=12, log_every=6, save_every=2, max_nonfinite=3)
  run = Run(compiled, tmp_path, schedule, batches=broken_stream(3, 100))
  with pytest.raises(NonFiniteLoss, match="Lower the learning rate"):
    run()
  assert load(tmp_path / "last").step <= 5


def test_unknown_monitor_is_found_before_training(compiled, tmp_path):
  run = Run(compiled, tmp_path)
  check_monitor(run.stage, run.state, "regress/mae")
  with pytest.raises(UnknownResult, match="'regress/mea'; the nearest is 'regress/mae'"):
    check_monitor(run.stage, run.state, "regress/mea")
  last = Checkpoints(tmp_path / "last", MODEL)
  with pytest.raises(UnknownResult, match="regress/mae"):
    run_stage(run.stage, toy.copied(run.state), EarlyStopping("accuracy"), last, last, tmp_path)


def test_stopped_in_its_last_evaluation_it_is_finished_after_the_next_start(compiled, tmp_path):
  run = Run(compiled, tmp_path, Schedule(steps=4))
  evaluating = lambda: run.validated > 0  # noqa: E731
  with pytest.raises(Terminated):
    run(evaluating)
  assert not load(tmp_path / "last").progress["finished"]
  run()
  assert load(tmp_path / "last").progress["finished"]
  validated = run.validated
  run()
  assert run.validated == validated
  assert [x["step"] for x in run.lines("valid")] == [4]
