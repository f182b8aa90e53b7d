"""The checkpoint that all tests of prediction share."""

import pytest

from jetfm import inference
from tests.inference.toy import TASKS, save_checkpoint


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
  """The folder of a stage with every task; its checkpoint is in `best`."""
  folder = tmp_path_factory.mktemp("run") / "all"
  save_checkpoint(folder / "best", TASKS)
  return folder


@pytest.fixture(scope="session")
def predictor(stage):
  return inference.load(stage / "best")
