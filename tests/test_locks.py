"""Locks of files: one holder, and nobody where it was killed or has gone."""

import os
import signal
import subprocess
import sys

import pytest

from jetfm.locks import Busy, locked

HOLDER = """
import pathlib, sys, time
from jetfm.locks import locked
with locked(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(600)
"""


def test_one_at_a_time(tmp_path):
  path = tmp_path / "lock"
  with locked(path), pytest.raises(Busy), locked(path):
    pass
  with locked(path):
    pass


def test_a_killed_holder_holds_nothing(tmp_path):
  path = tmp_path / "lock"
  holder = [sys.executable, "-c", HOLDER, path]
  with subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Busy), locked(path):
      pass
    other.send_signal(signal.SIGKILL)
  with locked(path):
    pass


def test_a_file_that_its_holder_removed_is_no_lock(tmp_path, monkeypatch):
  """Opened before the holder removed it: whoever comes next would make another one."""
  path = tmp_path / "lock"
  opened = os.open

  def late(name, *arguments):
    descriptor = opened(name, *arguments)
    path.unlink()
    return descriptor

  monkeypatch.setattr(os, "open", late)
  with pytest.raises(Busy), locked(path):
    pass
