"""Runs of launch.train on a small model, in processes of their own."""

import json
import pathlib
import sys

from tests import processes

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(ROOT / "tests" / "launch" / "one_task.py")
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
UNTOUCHED = "SIGKILL:step:0"

# launch.train that sends a signal to itself when a place is reached for the n-th time: where no
# test from outside could aim as well.
SCRIPT = """
import os, signal, sys

def main():
  from jetfm.train import loop
  from launch import cli, train
  from orbax.checkpoint import JsonCheckpointHandler
  places = {
    "step": (loop, "_next_groups"),
    "save": (JsonCheckpointHandler, "async_save"),
    "evaluation": (loop, "quotients"),
  }
  name, place, last = sys.argv.pop(1).split(":")
  owner, attribute = places[place]
  function, calls = getattr(owner, attribute), 0

  def counted(*arguments, **options):
    nonlocal calls
    calls += 1
    if calls == int(last):
      os.kill(os.getpid(), getattr(signal, name))
    return function(*arguments, **options)

  setattr(owner, attribute, counted)
  cli.run(train.main, train.DEFAULT_CONFIG)

if __name__ == "__main__":
  main()
"""


def arguments(dataset, workdir, **overrides):
  keys = SMALL | {"data.directory": dataset} | overrides
  return [
    "launch.train",
    f"--config={CONFIG}",
    f"--workdir={workdir}",
    *(f"--config.{key}={value}" for key, value in keys.items()),
  ]


class Runs:
  """Runs of one command, one after another."""

  def __init__(self, folder, dataset, programs, **overrides):
    self.script = folder / "script.py"
    self.script.write_text(SCRIPT)
    self.dataset, self.overrides, self.count = dataset, overrides, 0
    self.environment = programs

  def __call__(self, workdir, *signals, **options):
    """(status, log) of a run, or of each process of a run: there is one for each of `signals`.

    Args:
      signals: what each process sends to itself, SIGNAL:PLACE:CALL; see SCRIPT.
    """
    signals = signals or (UNTOUCHED,)
    # A file for each run: what a killed one leaves behind may still write to its own.
    self.count += 1
    logs = [self.script.with_name(f"log-{self.count}-{i}") for i in range(len(signals))]
    given = arguments(self.dataset, workdir, **self.overrides)[1:]
    commands = [[sys.executable, str(self.script), signal, *given] for signal in signals]
    started = processes.start(commands, logs, **options, **self.environment)
    statuses = processes.end(started)
    ended = [(status, log.read_text()) for status, log in zip(statuses, logs, strict=True)]
    return ended if len(ended) > 1 else ended[0]


def metrics(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
