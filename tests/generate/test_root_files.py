"""Files: what is in them, and that only complete ones are seen."""

import errno
import fcntl
import os
import subprocess
import sys

import numpy as np
import pytest

from jetfm.generate import OutputError, read_provenance, write_tables
from jetfm.generate import root_files as module
from jetfm.generate.jet_table import JET_BRANCHES, PARTICLE_BRANCHES
from jetfm.generate.table import Table, concatenate, empty_table

uproot = pytest.importorskip("uproot")


def random_table(jets, seed=0):
  rng = np.random.default_rng(seed)
  offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 60, jets))])
  return Table(
    {name: rng.integers(0, 2, jets).astype(kind) for name, kind in JET_BRANCHES.items()},
    offsets,
    {name: rng.normal(size=offsets[-1]).astype(kind) for name, kind in PARTICLE_BRANCHES.items()},
  )


PUBLISHED_TYPES = {
  "label_QCD": "float",
  "label_Hbb": "bool",
  "label_Hqql": "bool",
  "label_Zqq": "int32_t",
  "label_Tbl": "int32_t",
  "jet_pt": "float",
  "aux_truth_match": "float",
  "event_number": "int64_t",
  "part_px": "float[]",
  "part_charge": "float[]",
  "part_isMuon": "int32_t[]",
}


def test_round_trip(tmp_path, monkeypatch):
  monkeypatch.setattr(module, "PARTICLES_PER_WRITE", 1500)  # several writes
  tables = [random_table(30, seed) for seed in range(4)]
  path = write_tables(tmp_path / "HToBB_000.root", iter(tables), {"seed": 7})
  whole = concatenate(tables)
  with uproot.open(path) as file:
    tree = file["tree"]
    assert tree.num_entries == 120
    assert set(tree.keys()) == {*JET_BRANCHES, *PARTICLE_BRANCHES, "npart"}
    for name, kind in PUBLISHED_TYPES.items():
      assert tree[name].typename == kind
    for name, values in whole.events.items():
      np.testing.assert_array_equal(tree[name].array(library="np"), values)
    for name, values in whole.particles.items():
      found = tree[name].array(library="np")
      np.testing.assert_array_equal(np.concatenate(list(found)), values)
      assert [len(jet) for jet in found] == np.diff(whole.offsets).tolist()
  assert read_provenance(path) == {"seed": 7}
  assert os.listdir(tmp_path) == ["HToBB_000.root"]


def test_empty_tables_are_no_trouble(tmp_path):
  empty = empty_table(JET_BRANCHES, PARTICLE_BRANCHES)
  tables = [empty, random_table(3), empty]
  path = write_tables(tmp_path / "a.root", iter(tables), {})
  with uproot.open(path) as file:
    assert file["tree"].num_entries == 3


def test_error_while_writing_leaves_nothing(tmp_path):
  def tables():
    yield random_table(3)
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_tables(tmp_path / "a.root", tables(), {})
  assert os.listdir(tmp_path) == []


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
  def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OutputError, match="no space left") as caught:
    write_tables(tmp_path / "a.root", iter([random_table(3)]), {})
  assert "\n" not in str(caught.value)
  assert os.listdir(tmp_path) == []


def test_really_full_disk(tmp_path):
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting a small disk needs privileges")
  try:
    with pytest.raises(OutputError, match="no space left"):
      write_tables(disk / "a.root", iter([random_table(2000)]), {})
    assert os.listdir(disk) == []
  finally:
    subprocess.run(["umount", str(disk)], check=True)


def test_two_runs_do_not_write_the_same_file(tmp_path):
  with open(tmp_path / ".a.root.part", "w") as other:
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(OutputError, match="another run is writing"):
      write_tables(tmp_path / "a.root", iter([random_table(3)]), {})
    assert module.remove_stale(tmp_path) == []
  assert module.remove_stale(tmp_path) == [tmp_path / ".a.root.part"]
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no ROOT file"])
def test_other_peoples_files_are_not_touched(tmp_path, content):
  path = tmp_path / "HToBB_000.root"
  path.write_bytes(content)
  with pytest.raises(OutputError, match="is in the way"):
    read_provenance(path)
  assert path.read_bytes() == content


def test_killed_writer_leaves_no_file_under_the_final_name(tmp_path):
  code = f"""
import os, pathlib, signal
from tests.generate.test_root_files import random_table
from jetfm.generate import write_tables
def tables():
  yield random_table(3000)
  yield random_table(3000)
  os.kill(os.getpid(), signal.SIGKILL)
write_tables(pathlib.Path({str(tmp_path)!r}) / "a.root", tables(), {{}})
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True)
  assert done.returncode == -9
  assert os.listdir(tmp_path) == [".a.root.part"]
  assert len(module.remove_stale(tmp_path)) == 1
