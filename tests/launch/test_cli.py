"""The command line: what is read, and what a mistake looks like."""

import subprocess
import sys

import pytest

from launch import cli
from tests.processes import ROOT

CONFIG = '''"""A config for tests.

seed: where random numbers start.
"""
from ml_collections import ConfigDict


def get_config(variant="small"):
  if variant not in ("small", "large"):
    raise ValueError(f"no variant '{variant}'; there are small, large")
  config = ConfigDict()
  config.seed = 1 if variant == "small" else 2
  config.out = ""
  config.classes = ("a", "b")
  config.edges = (16, 32)
  config.fractions = (0.5, 0.5)
  config.optimizer = ConfigDict({"rate": 0.1, "clip": None})
  return config
'''


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / "config.py"
  path.write_text(CONFIG)
  return str(path)


def run(main, config_file, *arguments):
  with pytest.raises(SystemExit) as stop:
    cli.run(main, config_file, argv=["prog", *arguments], doc="A program.")
  return stop.value.code


def read_all(config):
  config.to_dict()


def test_overrides_reach_main(config_file):
  seen = {}

  def main(config):
    seen.update(config.to_dict())

  arguments = (
    "--config.seed=7",
    "--config.optimizer.rate=2",
    "--config.classes=x,y,z",
    "--config.edges=8,16,24",
    "--config.fractions=1,0.25",
    "--config.out=a,b",
  )
  assert run(main, config_file, *arguments) == 0
  assert seen["seed"] == 7
  assert seen["optimizer"]["rate"] == 2.0
  assert seen["classes"] == ("x", "y", "z")
  assert seen["edges"] == (8, 16, 24)
  assert seen["fractions"] == (1.0, 0.25)
  assert seen["out"] == "a,b"


def test_none_is_nothing_and_no_word(config_file):
  seen = {}
  assert run(lambda c: seen.update(c.to_dict()), config_file, "--config.out=None") == 0
  assert seen["out"] is None


def test_variant_chooses_the_config(config_file):
  seen = []
  assert run(lambda c: seen.append(c.to_dict()["seed"]), config_file) == 0
  assert run(lambda c: seen.append(c.to_dict()["seed"]), "x", f"--config={config_file}:large") == 0
  assert seen == [1, 2]


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--config.sed=4", ("'sed'", "'seed'")),
    ("--config.optimizer.rte=4", ("optimizer.rte", "optimizer.rate")),
    ("--config.seed=many", ("seed", "many")),
    ("--seed=4", ("--seed", "--config.seed")),
    ("seed", ("seed", "--config.KEY=VALUE")),
    ("--config=missing.py", ("missing.py",)),
    ("--config.optimizer=3", ("optimizer",)),
    ("--config.edges=8,many", ("edges", "8,many", "(16, 32)")),
  ],
)
def test_mistake_is_one_line_and_status_2(config_file, capsys, argument, words):
  assert run(read_all, config_file, argument) == cli.EXIT_USAGE
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  for word in words:
    assert word in error


def test_unknown_variant_is_one_line(config_file, capsys):
  assert run(read_all, config_file, f"--config={config_file}:huge") == cli.EXIT_USAGE
  assert "no variant 'huge'" in capsys.readouterr().err


def test_key_that_nothing_reads_is_an_error(config_file, capsys):
  def main(config):
    for key in ("seed", "out", "classes"):
      getattr(config, key)
    config.optimizer.rate  # noqa: B018

  assert run(main, config_file) == cli.EXIT_USAGE
  assert "optimizer.clip" in capsys.readouterr().err


def test_reading_a_missing_key_names_the_nearest(config_file, capsys):
  assert run(lambda config: config.sead, config_file) == cli.EXIT_USAGE
  assert "'seed'" in capsys.readouterr().err


def test_interrupt_has_its_own_status(config_file):
  def main(config):
    raise KeyboardInterrupt

  assert run(main, config_file) == cli.EXIT_INTERRUPTED


def test_help_shows_docstrings_and_every_key(config_file, capsys):
  assert run(read_all, config_file, "--help") == 0
  text = capsys.readouterr().out
  for words in ("A program.", "where random numbers start", "--config.optimizer.rate=0.1"):
    assert words in text


def test_ctrl_c_ends_a_process_with_all_that_is_to_be_done_at_its_end(config_file):
  script = f"""
import atexit
from launch import cli

def main(config):
  config.to_dict()
  raise KeyboardInterrupt

atexit.register(print, "at the end")
cli.run(main, {config_file!r}, doc="A program.")
"""
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
  )
  assert done.returncode == cli.EXIT_INTERRUPTED
  assert (done.stdout, done.stderr) == ("at the end\n", "interrupted\n")
