"""configs/clear.py through launch.train: every stage starts from the right one and trains."""

import dataclasses
import json

import jax
import pytest

import jetfm.train as jetfm_train
from launch import cli, train
from launch.plan import read_plan
from tests.jpsi import event_schema, make_events

CONFIG = "configs/clear.py:tiny"
STAGES = ("pretrain", "class_attention", "two_stage", "multi_task")
SMALL = {
  "encoder.width": 8,
  "encoder.depth": 1,
  "encoder.heads": 2,
  "encoder.embed_widths": "(8,)",
  "encoder.pair_widths": "(8,)",
  "stages": ",".join(STAGES),
}


class Loader:
  def __init__(self, size):
    self.size = size

  def __getitem__(self, step):
    return (make_events([5, 3, 8, 6, 1, 7, 2, 4][: self.size], 8, seed=step),)

  def iterate(self, start=0, workers=0):
    for step in range(start, start + 4):
      yield self[step]


@dataclasses.dataclass(frozen=True)
class Synthetic:
  """Stands for a data set of e+e- events."""

  blocks: tuple = ((0,),)

  @property
  def schema(self):
    return event_schema()

  def loader(self, batch_size, **options):
    return Loader(min(batch_size, 8))


def config(workdir, **overrides):
  keys = SMALL | {"data.directory": "nowhere"} | overrides
  for stage in STAGES:
    keys |= {
      f"stage.{stage}.steps": 3,
      f"stage.{stage}.eval_every": 3,
      f"stage.{stage}.save_every": 3,
      f"stage.{stage}.optimizer.warmup": 0,
    }
  arguments = [f"--config.{key}={value}" for key, value in keys.items()]
  argv = ["train", f"--config={CONFIG}", f"--workdir={workdir}", *arguments]
  return cli.TrackedConfig(cli.load_config(argv, CONFIG))


@pytest.mark.slow
def test_all_strategies(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(train, "open_dataset", lambda *_, **__: Synthetic())
  assert train.main(config(tmp_path)) == 0
  said = capsys.readouterr().err
  assert "two_stage: starts from " + str(tmp_path / "class_attention") in said
  assert f"multi_task: starts from {tmp_path / 'pretrain'}" in said
  logs = {
    stage: [
      json.loads(line) for line in (tmp_path / stage / "metrics.jsonl").read_text().splitlines()
    ]
    for stage in STAGES
  }
  for stage, lines in logs.items():
    assert not any(line.get("nonfinite") for line in lines), stage
  assert any("log_variance" in key for line in logs["multi_task"] for key in line)


@pytest.mark.parametrize("strategy", jetfm_train.STRATEGIES)
def test_strategies_cover_every_parameter(tmp_path, strategy):
  """And class attention is what [B] trains of the encoder, beside the head."""
  plan = read_plan(config(tmp_path))
  tasks = plan.stages[1].tasks
  model, made, _ = jetfm_train.build_model(
    jetfm_train.describe_model(event_schema(), plan.encoder, tasks)
  )
  views = {"classification": made["classification"].views(None, make_events((2,), 2), True)}
  params = jax.eval_shape(model.init, jax.random.key(0), views)["params"]
  labels = jetfm_train.label(params, jetfm_train.make_strategy(strategy, plan.encoder["depth"]))
  trained = {name for name, x in labels["encoder"].items() if set(jax.tree.leaves(x)) != {"frozen"}}
  of_class = {name for name in params["encoder"] if name.startswith("class_")}
  assert trained >= of_class or strategy == "frozen"
  assert (trained == of_class) == (strategy == "class_attention")
  assert bool(trained) == (strategy != "frozen")


def test_balance_must_exist(tmp_path):
  with pytest.raises(cli.UserError, match="gradient_norm"):
    train.main(config(tmp_path, **{"stage.pretrain.balance": "equal"}))
