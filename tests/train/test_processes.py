"""Several processes of one run: they agree, and the first one does the files."""

import resource
import signal
import sys

import jax
import numpy as np
import pytest

from jetfm.train import (
  CannotSave,
  Checkpoints,
  TerminationFlag,
  data_mesh,
  from_first,
  initialize_distributed,
  is_first,
  replicate,
)
from jetfm.train.processes import distributed_options
from tests import processes
from tests.train import toy
from tests.train.test_checkpoint import MODEL, at, raw

EXPLICIT = {
  "JAX_COORDINATOR_ADDRESS": "node0:1234",
  "JAX_NUM_PROCESSES": "4",
  "JAX_PROCESS_ID": "3",
}
SLURM = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}
GPUS = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}


@pytest.mark.parametrize(
  ("environment", "expected"),
  [
    ({}, None),
    ({"SLURM_STEP_NUM_TASKS": "1"}, None),
    (EXPLICIT, {"num_processes": 4, "process_id": 3}),
    (SLURM, {}),
    (SLURM | GPUS, {}),  # four tasks on a node, four GPUs: JAX takes the one of the rank
    (SLURM | {"CUDA_VISIBLE_DEVICES": "2"}, {"local_device_ids": [0]}),  # bound by Slurm
    (SLURM | GPUS | {"SLURM_STEP_NUM_NODES": "8"}, {"local_device_ids": [0, 1, 2, 3]}),
    (SLURM | GPUS | {"SLURM_STEP_NUM_NODES": "8", "JAX_LOCAL_DEVICE_IDS": "1"}, {}),
  ],
)
def test_the_environment_says_who_joins(environment, expected):
  assert distributed_options(environment) == expected


@pytest.mark.parametrize(
  ("environment", "words"),
  [
    ({"JAX_NUM_PROCESSES": "4"}, "JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID"),
    (EXPLICIT | {"JAX_PROCESS_ID": "first"}, "JAX_PROCESS_ID is 'first'"),
  ],
)
def test_incomplete_environment_is_an_error(environment, words):
  with pytest.raises(ValueError, match=words):
    distributed_options(environment)


def test_a_process_on_its_own_decides():
  assert is_first()
  assert from_first(lambda: 3) == 3


def check(folder):
  """What each of two processes does. Only the first may touch the folder."""
  initialize_distributed()
  first, mesh = jax.process_index() == 0, data_mesh()
  assert (jax.process_count(), mesh.size, is_first()) == (2, 2, first)

  def only_here():
    assert first
    return {"x": np.arange(3000), "text": "told"}

  told = from_first(only_here)
  np.testing.assert_array_equal(told["x"], np.arange(3000))
  assert told["text"] == "told"
  with pytest.raises(KeyError, match="only there"):
    from_first(lambda: {}["only there"])

  with TerminationFlag() as asked:
    assert [asked() for _ in range(3)] == [False] * 3
    if not first:
      signal.raise_signal(signal.SIGTERM)
    answers = [asked() for _ in range(3)]
    assert answers == [False, True, True]  # of the call before, and then for ever

  state = replicate(toy.setup()[-1], mesh)
  checkpoints = Checkpoints(folder, MODEL)
  assert checkpoints.restore(state) is None
  checkpoints.save(at(state, 2), {"n": 1})
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  if first:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
  with pytest.raises(CannotSave, match=r"step 4 .* the checkpoint of step 2 is intact"):
    checkpoints.save(at(state, 4), {"n": 2})
  resource.setrlimit(resource.RLIMIT_FSIZE, limit)
  assert checkpoints.steps() == [2]
  restored, progress = checkpoints.restore(replicate(toy.setup(seed=5)[-1], mesh))
  assert progress == {"n": 1, "step": 2}
  for x, y in zip(raw(restored), raw(at(state, 2)), strict=True):
    np.testing.assert_array_equal(x, y)
  sharding = restored.params["encoder"]["norm"]["scale"].sharding
  assert sharding.is_fully_replicated
  assert not sharding.is_fully_addressable
  checkpoints.close()


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
  """What the first one reads, decides and fails at is so for both; SIGTERM to one is for both."""
  code = "import sys; from tests.train import test_processes as t; t.check(sys.argv[1])"
  logs = [tmp_path / "log0", tmp_path / "log1"]
  # The second one looks at a folder that is not there.
  folders = [tmp_path / "last", tmp_path / "nowhere" / "last"]
  commands = [[sys.executable, "-c", code, str(folder)] for folder in folders]
  statuses = processes.end(processes.start(commands, logs))
  assert statuses == [0, 0], "\n".join(log.read_text() for log in logs)
  assert not (tmp_path / "nowhere").exists()
