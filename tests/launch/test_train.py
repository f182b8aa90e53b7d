"""launch.train as users run it: stages, endings, and mistakes."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import lorentz_part
from jetfm.data.jet_schema import jet_schema
from jetfm.locks import locked
from jetfm.models.encoders import make_encoder
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
from tests.launch.runs import CONFIG, ROOT, arguments


def run(capsys, *argv):
  """Exit status and stderr of a run in this process."""
  with pytest.raises(SystemExit) as stop:
    cli.run(train.main, CONFIG, argv=list(argv), doc=train.__doc__)
  return stop.value.code, capsys.readouterr().err


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
    ({"stage.pretrain.tasks.masked_particles.weight": -1.0}, ("weight", "-1.0", ">= 0")),
    ({"max_nonfinite": 0}, ("max_nonfinite", "at least 1")),
    ({"stage.pretrain.optimizer.rate": -1.0}, ("rate", "-1")),
    ({"stage.pretrain.monitor_mode": "lowest"}, ("lowest", "min")),
    ({"stage.pretrain.tasks.masked_particles.masking": "blok"}, ("blok", "block")),
    ({"stage.pretrain.augment": "(\"turn\",)"}, ("turn", "rotate_phi")),
    ({"stage.pretrain.optimizer.warmup": 50}, ("warm-up", "50")),
    ({"encoder.kind": "lorentz_prt"}, ("lorentz_prt", "lorentz_part")),
    ({"encoder.frame": "labb"}, ("labb", "lab")),
    ({"encoder.heads": 3}, ("width 8", "3 heads")),
    ({"data.directory": "nowhere"}, ("nowhere",)),
    ({"data.directory": ""}, ("data.directory",)),
    ({"stage.pretrain.init_from": "nowhere"}, ("nowhere", "no checkpoint", "add the stage")),
    pytest.param({"stage.pretrain.monitor": "los"}, ("'los'", "'loss'"), marks=pytest.mark.slow),
  ],
)  # fmt: skip
def test_mistake_is_one_line_and_status_2(dataset, tmp_path, capsys, overrides, words):
  status, log = run(capsys, *arguments(dataset, tmp_path / "run", **overrides))
  assert status == cli.EXIT_USAGE
  last = log.strip().splitlines()[-1]
  assert last.startswith("error: ")
  for word in words:
    assert word in last


def test_one_run_at_a_time_writes_to_a_workdir(dataset, tmp_path, capsys):
  with locked(tmp_path / train.LOCK):
    status, log = run(capsys, *arguments(dataset, tmp_path))
  assert status == cli.EXIT_USAGE
  assert f"another run is writing to {tmp_path}" in log
  assert [path.name for path in tmp_path.iterdir()] == [train.LOCK]


def test_a_damaged_best_checkpoint_is_not_passed_over(tmp_path):
  for kind in ("best", "last"):
    step = tmp_path / "pretrain" / kind / "3"
    (step / "description").mkdir(parents=True)
    (step / "_CHECKPOINT_METADATA").write_text("{}")
  plan, stage = SimpleNamespace(workdir=tmp_path), SimpleNamespace(init_from="pretrain")
  assert train._source(plan, stage) == tmp_path / "pretrain" / "best"


def test_a_mistake_in_the_data_leaves_no_workdir(dataset, tmp_path, capsys):
  workdir = tmp_path / "run"
  overrides = {"data.directory": "nowhere"}
  assert run(capsys, *arguments(dataset, workdir, **overrides))[0] == cli.EXIT_USAGE
  assert not workdir.exists()


def test_folder_without_checkpoints_takes_the_config_without_the_mistake(tmp_path):
  for monitor in ("los", "loss"):
    train._claim(tmp_path, {"monitor": monitor})
  assert json.loads((tmp_path / "config.json").read_text()) == {"monitor": "loss"}


def test_workdir_is_needed(dataset, capsys):
  status, log = run(capsys, *arguments(dataset, ""))
  assert status == cli.EXIT_USAGE
  assert "--workdir" in log


@pytest.mark.parametrize("variant", lorentz_part.VARIANTS)
def test_every_variant_is_read_completely(variant):
  from launch.plan import read_plan

  path = f"{ROOT}/configs/lorentz_part.py:{variant}"
  argv = ["x", f"--config={path}", "--workdir=w", "--config.data.directory=d"]
  config = cli.TrackedConfig(cli.load_config(argv, CONFIG))
  plan = read_plan(config)
  config.all_read()
  make_encoder(schema=jet_schema(plan.data.inputs), **plan.encoder)
  assert [stage.name for stage in plan.stages] == list(config.stages)
