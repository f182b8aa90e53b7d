"""The ingest launcher: what a user types and sees."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from launch import ingest
from tests.jets import random_jets, write_files, write_root

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  return write_files(tmp_path_factory.mktemp("files"), ("QCD", "Hbb"), jets=100)


def run(*arguments):
  """Exit status of the launcher in this process."""
  with pytest.raises(SystemExit) as stop:
    ingest._main(["ingest", *map(str, arguments)])
  return stop.value.code


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
  monkeypatch.chdir(ROOT)


def test_files_to_data_set_to_pictures(files, tmp_path, capsys):
  out = tmp_path / "jets"
  assert run(f"--config.sources={files}", f"--config.out={out}") == 0
  assert "input sets kin4, kin, kinpid, full" in capsys.readouterr().out
  assert run(f"--config.sources={files}", f"--config.out={out}") == 0
  assert "already complete" in capsys.readouterr().out
  assert run("inspect", out, f"--out={tmp_path / 'png'}", "--verify") == 0
  text = capsys.readouterr().out
  for expected in ("QCD", "Hbb", "padding:", "part_d0val", "gen_mass", "checksum"):
    assert expected in text
  for name in ("features", "targets", "jets"):
    assert (tmp_path / "png" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("division", "fractions", "told"),
  [("sources", "0.8,0.1,0.1", True), ("train", "0.8,0.1,0.1", False), ("sources", "1,0,0", False)],
)
def test_a_split_without_events_is_told_unless_it_was_asked_for(
  tmp_path, capsys, division, fractions, told
):
  """An event_number that all share, such as a run's, puts all into one split."""
  jets = random_jets(50, "QCD") | {"event_number": np.full(50, 7)}
  write_root(tmp_path / "ZJetsToNuNu_0.root", jets)
  arguments = (f"--config.{division}={tmp_path}", f"--config.out={tmp_path / 'jets'}")
  assert run(*arguments, f"--config.fractions=({fractions})") == 0
  assert (" share one event_number" in capsys.readouterr().out) == told


def test_classes_may_be_a_file_of_chains(tmp_path, capsys):
  path = tmp_path / "chains.csv"
  path.write_text("chain,count\nJ/psi -> e+ e-,6\nJ/psi -> mu+ mu-,5\nall,20\n")
  assert ingest.read_classes(str(path)) == ("J/psi -> e+ e-", "J/psi -> mu+ mu-")
  path.write_text("name\nQCD\n")
  for wrong in (path, tmp_path / "none.csv"):
    assert run("--config.sources=x", "--config.out=y", f"--config.classes={wrong}") == 2
    error = capsys.readouterr().err
    assert "is no list of decay chains" in error and error.count("\n") == 1


def test_variants():
  assert ingest.cli.load_file("configs/ingest.py:bes").inputs == "bes"
  with pytest.raises(ingest.cli.UserError, match="no variant 'bess'; there is bes"):
    ingest.cli.load_file("configs/ingest.py:bess")


def test_help_tells_what_there_is(capsys):
  assert run("--help") == 0
  text = capsys.readouterr().out
  for expected in ("inspect", "--config.on_bad='error'", "top tagging", "memory_megabytes"):
    assert expected in text


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.sourcs=x"], "no key 'sourcs'; the nearest is 'sources'"),
    (["--config.sources=nowhere", "--config.out=x"], "'nowhere' holds no data files"),
    (["--config.sources=."], "give --config.out=DIRECTORY"),
    (["--config.on_bad=ignore", "--config.out=x"], "'error' or 'drop'"),
    (["--config.branches=part_px", "--config.out=x"], "expected NAME=BRANCH such as part_px=pf_px"),
    (["--config.branches=part_px=a,part_px=b", "--config.out=x"], "'part_px' is given twice"),
    (["--config.branches=part_x=a", "--config.out=x"], "the nearest is 'part_p"),
    (["inspect", "nowhere"], "no manifest.json"),
  ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, capsys):
  assert run(*arguments) == 2
  error = capsys.readouterr().err.strip()
  assert message in error and error.startswith("error: ") and "\n" not in error


def test_bad_jets_are_reported(tmp_path, capsys):
  jets = random_jets(50, "Hbb")
  jets["jet_pt"][[3, 4]] = float("nan")
  write_root(tmp_path / "HToBB_0.root", jets)
  (tmp_path / "HToBB_1.root").write_bytes(b"no")
  sources = f"--config.sources={tmp_path}"
  assert run(sources, f"--config.out={tmp_path / 'drop'}", "--config.on_bad=drop") == 0
  text = capsys.readouterr().out
  assert "left out: 2 jets" in text and "NaN or infinite value (jet_pt)" in text
  assert "HToBB_1.root: not a readable ROOT file" in text
  assert run(sources, f"--config.out={tmp_path / 'error'}") == 2
  assert "HToBB_1.root" in capsys.readouterr().err


def launch(files, out, before=""):
  program = f"{before}\nimport sys; from launch.ingest import _main; _main(sys.argv)"
  return subprocess.Popen(
    [sys.executable, "-c", program, f"--config.sources={files}", f"--config.out={out}"],
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )


def test_a_full_disk_is_one_line(files, tmp_path):
  """No file may grow beyond 100 kB: what a full disk does, without needing one."""
  limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
  process = launch(files, tmp_path / "out", limit)
  error = process.communicate()[1].strip().splitlines()[-1]
  assert process.returncode == 2
  assert error.startswith("error: cannot write the data set") and "File too large" in error
  assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_no_data_set(files, tmp_path, number):
  out = tmp_path / "out"
  process = launch(files, out)
  while not (out / ".ingest").exists() and process.poll() is None:
    time.sleep(0.002)
  process.send_signal(number)
  error = process.communicate()[1]
  assert process.returncode == 130 and "interrupted" in error and "Traceback" not in error
  assert not list(out.iterdir())
