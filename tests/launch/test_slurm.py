"""The example for Slurm, with scripts that stand for Slurm's commands."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "slurm" / "train.sbatch"


@pytest.mark.parametrize(("status", "again"), [(0, False), (75, True), (2, False)])
def test_a_run_that_was_asked_to_stop_is_queued_again(tmp_path, status, again):
  for name, code in (("srun", status), ("scontrol", 0)):
    command = tmp_path / name
    command.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/{name}.log\nexit {code}\n')
    command.chmod(0o755)
  environment = {
    **os.environ,
    "PATH": f"{tmp_path}:{os.environ['PATH']}",
    "SLURM_SUBMIT_DIR": str(ROOT),
    "SLURM_JOB_ID": "17",
    "SLURM_CPUS_PER_TASK": "6",
  }
  result = subprocess.run(["bash", str(SCRIPT), "--workdir=a b"], env=environment)
  assert result.returncode == status
  asked_of_srun = (tmp_path / "srun.log").read_text()
  assert "-m launch.train --workdir=a b" in asked_of_srun
  assert "--cpus-per-task=6 " in asked_of_srun
  asked = tmp_path / "scontrol.log"
  assert (asked.read_text() if asked.exists() else "") == ("requeue 17\n" if again else "")
