"""What a run writes about itself."""

import io
import json

import pytest

from jetfm.train.early_stopping import EarlyStopping
from jetfm.train.writers import MetricsFile, Writers


def steps(path):
  return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_metrics_are_cut_back_to_the_resumed_step(tmp_path):
  path = tmp_path / "metrics.jsonl"
  first = MetricsFile(path)
  for step in (10, 20, 30):
    first.write(step, "train", {"loss": 1.0 / step})
  first.close()
  with path.open("a") as file:
    file.write('{"step": 40, "split": "tr')  # a kill in the middle of a line
  again = MetricsFile(path, resume_step=20)
  again.write(25, "train", {"loss": 0.5})
  again.close()
  assert steps(path) == [10, 20, 25]


def test_fresh_start_begins_an_empty_file(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 3, "split": "train"}\n')
  MetricsFile(path).close()
  assert steps(path) == []


def test_not_a_number_is_null_in_json(tmp_path):
  file = MetricsFile(tmp_path / "metrics.jsonl")
  file.write(1, "train", {"loss": float("nan")})
  file.close()
  assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None


def test_writers_make_json_lines_and_tensorboard_files(tmp_path):
  pytest.importorskip("tensorboardX")
  writers = Writers(tmp_path, "toy", stream=io.StringIO())
  writers.write(1, "valid", {"loss": 0.5})
  writers.close()
  assert steps(tmp_path / "metrics.jsonl") == [1]
  assert list((tmp_path / "tensorboard").glob("events*"))


def test_other_processes_write_nothing(tmp_path):
  writers = Writers(tmp_path / "run", "toy", primary=False)
  writers.write(1, "valid", {"loss": 0.5})
  writers.progress.update(1, 2, 10)
  writers.close()
  assert not (tmp_path / "run").exists()


def test_early_stopping_counts_from_the_best():
  early = EarlyStopping(largest=True, patience=2)
  for step, value in enumerate([0.5, 0.7, float("nan"), 0.6]):
    early, _ = early.update(step, value)
  assert (early.best, early.best_step, early.waited, early.stopped) == (0.7, 1, 2, True)
  assert EarlyStopping(largest=True, patience=2).resumed(early.to_dict()) == early
