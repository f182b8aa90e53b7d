"""launch.train, killed and asked to stop: the same command goes on to the same end."""

import functools
import shutil
import signal

import jax
import numpy as np
import pytest

from jetfm.train import load
from launch import train
from tests.launch.runs import UNTOUCHED, Runs, metrics


def assert_clean(log):
  """Nothing that Python or Grain say when something is left behind at the end."""
  for words in ("Traceback", "leaked", "Exception ignored"):
    assert words not in log, log


@pytest.mark.slow
def test_interrupted_in_every_way_it_ends_with_the_same_bits(dataset, programs, tmp_path):
  """Dropout, augmentation, masks, two length groups and two Grain workers are on."""
  runs = Runs(tmp_path, dataset, programs, **{"data.workers": 2})
  status, log = runs(tmp_path / "whole")
  assert status == 0, log
  assert "starts fresh" in log
  assert_clean(log)

  workdir, folder = tmp_path / "broken", tmp_path / "broken" / "pretrain"
  status, log = runs(workdir, "SIGKILL:save:2")  # that of step 4, then the best of step 6
  assert status == -signal.SIGKILL, log
  assert load(folder / "last").step == 4
  status, log = runs(workdir, "SIGTERM:step:6")
  assert status == train.EXIT_TERMINATED, log
  assert "resumed at step 4" in log
  assert_clean(log)
  assert load(folder / "last").step == 10
  status, log = runs(workdir, "SIGKILL:evaluation:1")
  assert status == -signal.SIGKILL, log
  status, log = runs(workdir)
  assert status == 0, log
  assert "resumed at step 10" in log

  assert metrics(folder) == metrics(tmp_path / "whole" / "pretrain")
  for name in ("last", "best"):
    broken, whole = (load(tmp_path / run / "pretrain" / name) for run in ("broken", "whole"))
    assert broken.step == whole.step
    assert broken.progress == whole.progress
    jax.tree.map(np.testing.assert_array_equal, broken.variables, whole.variables)


@pytest.mark.slow
def test_two_processes_train_stop_and_resume_as_one_with_two_devices(dataset, programs, tmp_path):
  schedule = {"steps": 6, "eval_every": 3, "save_every": 4}
  schedule = {f"stage.pretrain.{k}": v for k, v in schedule.items()}
  runs = Runs(tmp_path, dataset, programs, **{"data.lengths": "(24,)"}, **schedule)
  status, log = runs(tmp_path / "one", devices=2)
  assert status == 0, log

  # SIGTERM to the second one only. It is asked while step 4 is begun; both stop one step later.
  ended = runs(tmp_path / "two", UNTOUCHED, "SIGTERM:step:4")
  assert [status for status, _ in ended] == [train.EXIT_TERMINATED] * 2, ended
  assert "2 process(es)" in ended[0][1]
  assert load(tmp_path / "two" / "pretrain" / "last").step == 5
  shutil.copytree(tmp_path / "two", tmp_path / "alone")
  ended = runs(tmp_path / "two", UNTOUCHED, UNTOUCHED, slurm=True)
  assert [status for status, _ in ended] == [0, 0], ended
  assert "resumed at step 5" in ended[0][1]
  for words in ("pretrain", "error"):  # the first one speaks for both
    assert words not in ended[1][1]

  status, log = runs(tmp_path / "alone", devices=2)  # what two have saved, one can use
  assert status == 0, log
  assert "resumed at step 5" in log

  expected = metrics(tmp_path / "one" / "pretrain")
  splits = [x.pop("split") for x in expected]
  assert splits.count("train") == 6
  for name in ("two", "alone"):
    found = metrics(tmp_path / name / "pretrain")
    assert [x.pop("split") for x in found] == splits
    for x, y in zip(found, expected, strict=True):
      jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), x, y)
