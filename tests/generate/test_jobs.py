"""Data sets of many files: parallel, resumable, killable."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jetfm.generate import OutputError, make_files, plan_files

pytest.importorskip("pythia8mc")
uproot = pytest.importorskip("uproot")

ROOT = pathlib.Path(__file__).parents[2]


def content(folder):
  """Everything in a folder's trees, as comparable values."""
  found = {}
  for path in sorted(folder.glob("*.root")):
    with uproot.open(path) as file:
      arrays = file["tree"].arrays(library="np")
    found[path.name] = {
      name: np.concatenate(list(v)) if v.dtype == object else v for name, v in arrays.items()
    }
  return found


def assert_same(one, other):
  assert one.keys() == other.keys()
  for name, columns in one.items():
    assert columns.keys() == other[name].keys()
    for branch, values in columns.items():
      np.testing.assert_array_equal(values, other[name][branch], err_msg=f"{name} {branch}")


def test_plan():
  files = plan_files(pathlib.Path("x"), ["Hbb", "QCD"], 25, 10, seed=3)
  assert [file.path.name for file in files[:3]] == [f"HToBB_00{k}.root" for k in range(3)]
  assert [file.jets for file in files] == [10, 10, 5] * 2
  assert files[3].path == pathlib.Path("x/ZJetsToNuNu_000.root")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """Six small files, made in this process, without interruption."""
  folder = tmp_path_factory.mktemp("whole")
  seen = []
  made = make_files(
    plan_files(folder, ["Zqq", "Wqq"], 18, 6, 1), progress=lambda *n: seen.append(n)
  )
  assert len(made) == 6 and seen[-1] == (36, 36)
  return folder


@pytest.mark.slow
def test_two_processes_make_the_same_files(whole, tmp_path):
  make_files(plan_files(tmp_path, ["Wqq", "Zqq"], 18, 6, 1), processes=2)
  assert_same(content(whole), content(tmp_path))


def test_files_that_are_there_are_kept(whole):
  before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
  assert make_files(plan_files(whole, ["Zqq", "Wqq"], 18, 6, 1)) == []
  assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


@pytest.mark.parametrize(
  "jets, per_file, seed, words", [(18, 6, 2, "seed 1"), (10, 5, 1, "jets 6"), (8, 6, 1, "jets 6")]
)
def test_files_of_other_settings_are_an_error(whole, jets, per_file, seed, words):
  with pytest.raises(OutputError, match="was made with other settings") as caught:
    make_files(plan_files(whole, ["Zqq"], jets, per_file, seed))
  assert words in str(caught.value) and "\n" not in str(caught.value)


def command(folder):
  return [
    *(sys.executable, "-m", "launch.generate", "--config.classes=Zqq,Wqq"),
    *("--config.jets_per_class=18", "--config.jets_per_file=6", "--config.seed=1"),
    *("--config.processes=2", f"--config.out={folder}"),
  ]


def wait_for(condition, seconds=60.0):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, "waited in vain"
    time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_killed_launcher_leaves_complete_files_and_a_rerun_completes_them(whole, tmp_path, sign):
  run = subprocess.Popen(
    command(tmp_path),
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
    # Jobs in the background of a shell ignore SIGINT, and so would what they start.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )
  wait_for(lambda: list(tmp_path.glob(".*.part")))
  run.send_signal(sign)
  _, errors = run.communicate(timeout=60)
  assert run.returncode == (-9 if sign == signal.SIGKILL else 130), errors
  assert "Traceback" not in errors
  # Orphaned workers of a killed launcher notice, and stop.
  wait_for(lambda: not group_lives(run.pid))
  expected = content(whole)
  complete = content(tmp_path)
  assert_same(complete, {name: expected[name] for name in complete})
  assert len(complete) < 6
  if sign != signal.SIGKILL:
    assert not list(tmp_path.glob(".*"))

  subprocess.run(command(tmp_path), cwd=ROOT, check=True, capture_output=True)
  assert_same(content(tmp_path), expected)
  assert not list(tmp_path.glob(".*"))


def group_lives(group):
  try:
    os.killpg(group, 0)
  except ProcessLookupError:
    return False
  return True
