"""Processes that read or write for another one."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

from jetfm.data.pipeline import open_dataset

PROGRAM = """
import multiprocessing
import time

from jetfm.data.workers import end_with_parent


def work():
  end_with_parent()
  time.sleep(600)


if __name__ == "__main__":
  worker = multiprocessing.get_context("spawn").Process(target=work)
  worker.start()
  print(worker.pid, flush=True)
  worker.join()
"""


def alive(pid):
  """Whether the process runs: one that ended may wait long for a new parent to ask for it."""
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
  except (FileNotFoundError, ProcessLookupError):
    return False
  return state != "Z"


def test_readers_go_on_when_all_processes_are_asked_to_end(directory):
  """As Slurm asks all processes of a job: the one that trains saves first, and ends its readers."""
  batches = open_dataset(directory, "kin4").loader(8).iterate(workers=1)
  next(batches)
  readers = multiprocessing.active_children()
  assert readers
  for reader in readers:
    os.kill(reader.pid, signal.SIGTERM)
  for _ in range(30):  # more than what is read ahead
    next(batches)
  batches.close()
  assert not any(reader.is_alive() for reader in readers)


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
  script = tmp_path / "script.py"
  script.write_text(PROGRAM)
  with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
  deadline = time.monotonic() + 60
  while alive(worker) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not alive(worker)
