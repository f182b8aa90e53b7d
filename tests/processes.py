"""Processes with simulated devices on this machine; several are joined by jax.distributed."""

import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def on_devices(count, function):
  """What `function`, MODULE:NAME, returns in a fresh process with so many devices, through JSON."""
  module, name = function.split(":")
  code = f"""
import importlib, json, jax
assert jax.device_count() == {count}
print(json.dumps(importlib.import_module("{module}").{name}()))
"""
  run = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    env={**os.environ, **_simulated(count)},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout)


def _simulated(devices):
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
  return {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def start(commands, logs, devices=1, slurm=False, **environment):
  """Starts one process for each command; several of them find each other by the environment.

  Args:
    logs: a path for each, for what it says.
    devices: simulated ones of each process.
    slurm: the variables of a Slurm step, instead of JAX's own.
  """
  common = {**_simulated(devices), **environment}
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port, count = free.getsockname()[1], len(commands)
  started = []
  for i, (command, log) in enumerate(zip(commands, logs, strict=True)):
    joined = _slurm(i, count, port) if slurm else _own(i, count, port)
    own = {**os.environ, **common, **(joined if count > 1 else {})}
    with open(log, "w") as file:
      started.append(subprocess.Popen(command, cwd=ROOT, env=own, stdout=file, stderr=file))
  return started


def end(processes, seconds=400):
  """Exit statuses; when one takes too long, none is left behind."""
  try:
    return [process.wait(timeout=seconds) for process in processes]
  finally:
    for process in processes:
      process.kill()
      process.wait()


def _own(i, count, port):
  return {
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": str(count),
    "JAX_PROCESS_ID": str(i),
  }


def _slurm(i, count, port):
  return {
    "JAX_COORDINATOR_PORT": str(port),
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_NODELIST": "127.0.0.1",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_NUM_TASKS": str(count),
    "SLURM_NTASKS": str(count),
    "SLURM_PROCID": str(i),
    "SLURM_LOCALID": str(i),
  }
