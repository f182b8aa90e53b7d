"""launch.train as users run it: stages, interruptions of every kind, and mistakes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jetfm.data.ingest import ingest
from jetfm.data.plan import Settings
from jetfm.train import (
  CannotSave,
  CheckpointError,
  NonFiniteLoss,
  Terminated,
  TransferError,
  UncoveredParameter,
  load,
  load_model,
)
from launch import cli, train
from tests.jets import write_files

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "lorentz_part.py") + ":tiny"
SMALL = {
  "encoder.width": 8,
  "encoder.depth": 1,
  "encoder.heads": 2,
  "encoder.embed_widths": "(8,)",
  "encoder.pair_widths": "(8,)",
  "encoder.dropout": 0.1,
  "data.lengths": "(12,24)",
  "data.batch_size": 16,
  "data.eval_batch_size": 16,
  "data.eval_events": 32,
  "stages": "pretrain",
  "stage.pretrain.steps": 12,
  "stage.pretrain.optimizer.warmup": 2,
  "stage.pretrain.log_every": 1,
  "stage.pretrain.eval_every": 6,
  "stage.pretrain.save_every": 4,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """A data set of small jets in two length classes."""
  folder = tmp_path_factory.mktemp("jets")
  files = write_files(folder / "root", ("QCD", "Tbqq"), jets=100, mean_particles=12)
  settings = Settings(edges=(12, 24), block_events=16)
  ingest({"": str(files)}, folder / "records", settings, say=lambda line: None)
  return folder / "records"


def arguments(dataset, workdir, **overrides):
  keys = SMALL | {"data.directory": dataset} | overrides
  return [
    "launch.train",
    f"--config={CONFIG}",
    f"--workdir={workdir}",
    *(f"--config.{key}={value}" for key, value in keys.items()),
  ]


def run(capsys, *argv):
  """Exit status and stderr of a run in this process."""
  with pytest.raises(SystemExit) as stop:
    cli.run(train.main, CONFIG, argv=list(argv), doc=train.__doc__)
  return stop.value.code, capsys.readouterr().err


# Sends SIGKILL to itself at the given call: where no test from outside could aim as well.
DYING = """
import os, signal, sys

def main():
  from launch import cli, train
  place, call = sys.argv.pop(1).split(":")
  calls = 0

  def die_at(function):
    def counted(*arguments, **options):
      nonlocal calls
      calls += 1
      if calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
      return function(*arguments, **options)
    return counted

  if place == "step":
    from jetfm.train import loop
    loop._next_groups = die_at(loop._next_groups)
  elif place == "save":
    from orbax.checkpoint import JsonCheckpointHandler as handler
    handler.async_save = die_at(handler.async_save)
  elif place == "evaluation":
    from jetfm.train import loop
    loop.quotients = die_at(loop.quotients)
  cli.run(train.main, train.DEFAULT_CONFIG)

if __name__ == "__main__":
  main()
"""


class Runs:
  """Runs of one command in processes of their own."""

  def __init__(self, tmp_path, dataset):
    self.script = tmp_path / "dying.py"
    self.script.write_text(DYING)
    self.dataset = dataset
    self.runs = 0
    self.environment = {
      **os.environ,
      "PYTHONPATH": str(ROOT),
      # The same program is compiled once for all of them.
      "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }

  def start(self, workdir, place="nowhere:0"):
    # A file for each run: what a killed one leaves behind may still write to its own.
    self.runs += 1
    self.log = self.script.with_name(f"log-{self.runs}")
    command = [sys.executable, str(self.script), place]
    command += arguments(self.dataset, workdir, **{"data.workers": 2})[1:]
    with open(self.log, "w") as log:
      return subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=log)

  def end(self, process):
    status = process.wait(timeout=400)
    return status, self.log.read_text()

  def __call__(self, workdir, place="nowhere:0"):
    return self.end(self.start(workdir, place))


def metrics(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def wait_for(condition, process, seconds=300):
  end = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None
    assert time.monotonic() < end
    time.sleep(0.01)


@pytest.mark.slow
def test_interrupted_in_every_way_it_ends_with_the_same_bits(dataset, tmp_path):
  """Dropout, augmentation, masks, two length groups and two Grain workers are on."""
  runs = Runs(tmp_path, dataset)
  status, log = runs(tmp_path / "whole")
  assert status == 0, log
  assert "starts fresh" in log

  workdir, folder = tmp_path / "broken", tmp_path / "broken" / "pretrain"
  status, log = runs(workdir, "step:7")  # in step 7, after the checkpoint of step 4
  assert status == -signal.SIGKILL, log
  status, log = runs(workdir, "save:2")  # the best of step 6, then the checkpoint of step 8
  assert status == -signal.SIGKILL, log
  assert "resumed at step 4" in log
  assert load(folder / "last").step == 4

  process = runs.start(workdir)
  wait_for(lambda: (folder / "last" / "8" / "_CHECKPOINT_METADATA").exists(), process)
  process.send_signal(signal.SIGTERM)
  status, log = runs.end(process)
  assert "resumed at step 4" in log
  if load(folder / "last").step < 12:  # else it was faster than the signal
    assert status == train.EXIT_TERMINATED, log
    saved = load(folder / "last").step
    status, log = runs(workdir, "evaluation:1")
    assert status == -signal.SIGKILL, log
    assert f"resumed at step {saved}" in log
    status, log = runs(workdir)
    assert status == 0, log
    assert "resumed at step" in log

  assert metrics(folder) == metrics(tmp_path / "whole" / "pretrain")
  for name in ("last", "best"):
    broken, whole = (load(tmp_path / run / "pretrain" / name) for run in ("broken", "whole"))
    assert broken.step == whole.step
    assert broken.progress == whole.progress
    jax.tree.map(np.testing.assert_array_equal, broken.variables, whole.variables)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
  """A run of pretraining and of a fine-tuning stage with a frozen encoder."""
  workdir = tmp_path_factory.mktemp("runs") / "run"
  overrides = {"stages": "pretrain,classify", "stage.pretrain.steps": 4, "data.lengths": "(24,)"}
  overrides |= {"stage.classify.strategy": "frozen", "stage.classify.steps": 4}
  for stage in ("pretrain", "classify"):
    overrides |= {f"stage.{stage}.{every}": 2 for every in ("eval_every", "save_every")}
    overrides |= {f"stage.{stage}.optimizer.warmup": 1}
  overrides["stage.classify.tasks.classification.head_options.heads"] = 2
  argv = arguments(dataset, workdir, **overrides)
  with pytest.raises(SystemExit) as stop:
    cli.run(train.main, CONFIG, argv=argv, doc="")
  assert stop.value.code == 0
  return workdir, argv


@pytest.mark.slow
def test_frozen_fine_tuning_leaves_encoder_and_constants_bit_identical(finished):
  workdir, _ = finished
  before = load(workdir / "pretrain" / "best").variables
  for folder in ("best", "last"):
    after = load(workdir / "classify" / folder).variables
    assert set(after["params"]["heads"]) == {"classification"}
    for collection in ("params", "constants"):
      jax.tree.map(
        np.testing.assert_array_equal, before[collection]["encoder"], after[collection]["encoder"]
      )
  assert jax.tree.leaves(before["constants"]["encoder"])


@pytest.mark.slow
def test_checkpoint_is_all_that_is_needed_to_predict(finished, dataset):
  from jetfm.data import open_dataset

  trained = load_model(finished[0] / "classify" / "best")
  data = open_dataset(dataset, inputs=trained.schema.name, split="valid")
  batch = data.loader(8, shuffle=False, epochs=1, lanes=1)[0][0]
  task = trained.tasks["classification"]
  views = task.views(jax.random.key(0), batch, False)

  @jax.jit
  def predict(variables, views):
    encoded = {
      name: trained.model.encode(variables, view, deterministic=True)
      for name, view in views.items()
    }
    return trained.model.head(
      task.name, variables, encoded, views, deterministic=True, key=jax.random.key(0)
    )

  outputs = predict(trained.variables, views)
  assert outputs.output.shape == (batch.num_events, len(data.schema.classes))
  assert np.isfinite(outputs.output).all()
  assert trained.checkpoint.progress["results"]["classification/accuracy"] <= 1


@pytest.mark.slow
def test_finished_run_is_left_alone(finished, capsys):
  status, log = run(capsys, *finished[1])
  assert status == 0
  assert log.count("nothing to do") == 2


@pytest.mark.slow
def test_folder_of_another_config_is_one_line(finished, dataset, capsys):
  workdir, argv = finished
  status, log = run(capsys, *argv, "--config.encoder.width=16")
  assert status == cli.EXIT_USAGE
  assert "encoder.width: 8 there, 16 here" in log
  assert str(workdir / "pretrain") in log


@pytest.mark.parametrize(
  ("error", "status"),
  [
    (NonFiniteLoss("bad numbers"), train.EXIT_NONFINITE),
    (CannotSave("bad numbers"), train.EXIT_CANNOT_SAVE),
    (Terminated("bad numbers"), train.EXIT_TERMINATED),
    (CheckpointError("bad numbers"), cli.EXIT_USAGE),
    (TransferError("bad numbers"), cli.EXIT_USAGE),
    (UncoveredParameter("bad numbers"), cli.EXIT_USAGE),
  ],
  ids=lambda x: type(x).__name__,
)
def test_every_ending_has_its_status(dataset, tmp_path, capsys, monkeypatch, error, status):
  def fail(*_):
    raise error

  monkeypatch.setattr(train, "run_stage", fail)
  found, log = run(capsys, *arguments(dataset, tmp_path / "run"))
  assert found == status
  assert log.splitlines()[-1] == "error: bad numbers"
  assert str(status) in train.__doc__


@pytest.mark.parametrize(
  ("overrides", "words"),
  [
    ({"stages": "pretrian"}, ("pretrian", "pretrain")),
    ({"stage.pretrain.strategy": "half"}, ("half", "frozen")),
    ({"stage.pretrain.stepz": 3}, ("stepz", "steps")),
    ({"stage.pretrain.optimizer.rate": -1.0}, ("rate", "-1")),
    ({"stage.pretrain.monitor_mode": "lowest"}, ("lowest", "min")),
    ({"stage.pretrain.tasks.masked_particles.masking": "blok"}, ("blok", "block")),
    ({"stage.pretrain.augment": "(\"turn\",)"}, ("turn", "rotate_phi")),
    ({"stage.pretrain.optimizer.warmup": 50}, ("warm-up", "50")),
    ({"encoder.kind": "lorentz_prt"}, ("lorentz_prt", "lorentz_part")),
    ({"data.directory": "nowhere"}, ("nowhere",)),
    ({"data.directory": ""}, ("data.directory",)),
    ({"stage.pretrain.init_from": "nowhere"}, ("nowhere", "no checkpoint")),
  ],
)  # fmt: skip
def test_mistake_is_one_line_and_status_2(dataset, tmp_path, capsys, overrides, words):
  status, log = run(capsys, *arguments(dataset, tmp_path / "run", **overrides))
  assert status == cli.EXIT_USAGE
  last = log.strip().splitlines()[-1]
  assert last.startswith("error: ")
  for word in words:
    assert word in last


def test_workdir_is_needed(dataset, capsys):
  status, log = run(capsys, *arguments(dataset, ""))
  assert status == cli.EXIT_USAGE
  assert "--workdir" in log


@pytest.mark.parametrize("variant", ["tiny", "base"])
def test_every_variant_is_read_completely(variant):
  from launch.plan import read_plan

  path = f"{ROOT}/configs/lorentz_part.py:{variant}"
  argv = ["x", f"--config={path}", "--workdir=w", "--config.data.directory=d"]
  config = cli.TrackedConfig(cli.load_config(argv, CONFIG))
  plan = read_plan(config)
  config.all_read()
  assert [stage.name for stage in plan.stages] == list(config.stages)
