"""What the documents beside the code show must run as it stands there.

A document is worked through from top to bottom in an empty folder that looks like a clone: Python
blocks that begin with '# FOLDER/FILE.py' are written, shell blocks are run. Only trainings are made
smaller.
"""

import os
import pathlib
import re
import subprocess
import sys

import awkward as ak
import numpy as np
import pytest

from jetfm.data.manifest import Manifest
from tests.jets import random_jets, write_files, write_root

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = tuple(sorted((ROOT / "jetfm").rglob("README.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

SMALLER = {
  "encoder.width": 8,
  "encoder.depth": 1,
  "encoder.heads": 2,
  "encoder.embed_widths": "(8,)",
  "encoder.pair_widths": "(8,)",
  "data.lengths": "(128,)",
  "data.batch_size": 16,
  "data.eval_batch_size": 16,
  "data.eval_events": 32,
}
SMALLER_STAGE = {"steps": 4, "optimizer.warmup": 1, "eval_every": 2, "save_every": 2}


def blocks(document):
  """(language, text) of the fenced blocks."""
  found = BLOCK.findall(document.read_text())
  assert found, f"{document} shows nothing"
  return found


def smaller(command):
  """The command with a training of a few steps on a tiny encoder."""
  lines = re.sub(r"\\\n\s*", " ", command).splitlines()
  for i, line in enumerate(lines):
    if "launch.train" in line:
      stage = re.search(r"--config\.stages?[=.](\w+)", line)[1]
      keys = SMALLER | {f"stage.{stage}.{key}": value for key, value in SMALLER_STAGE.items()}
      lines[i] = " ".join([line, *(f"'--config.{key}={value}'" for key, value in keys.items())])
  return "\n".join(lines)


class Clone:
  """A folder with what a user's clone has, and what the document makes in it."""

  def __init__(self, folder, programs):
    self.folder = folder
    for name in ("configs", "launch"):
      (folder / name).symlink_to(ROOT / name)
    self.environment = {
      **os.environ,
      "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
      **programs,
    }
    self.environment.pop("PYTHONPATH", None)

  def run(self, command):
    """Output of a shell block; it must succeed."""
    done = subprocess.run(
      ["bash", "-e", "-c", smaller(command)],
      cwd=self.folder,
      env=self.environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr

  def work_through(self, document):
    """What each shell block printed."""
    printed = []
    for language, text in blocks(document):
      if language == "python":
        name = re.match(r"# ([\w/]+\.py)\n", text)[1]
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)
      else:
        printed.append(self.run(text))
    return printed


@pytest.fixture
def clone(tmp_path, programs):
  """With ten classes' data set `datasets/jets`, as the README at the top makes it."""
  clone = Clone(tmp_path, programs)
  write_files(tmp_path / "datasets" / "root", ("QCD", "Hbb"), jets=80, mean_particles=10)
  clone.run("python -m launch.ingest --config.sources=datasets/root --config.out=datasets/jets")
  return clone


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.parent.name)
def test_blocks_are_of_a_kind_that_is_run(document):
  for language, text in blocks(document):
    assert language in ("python", "bash"), f"{document}: a block of '{language}'"
    assert language == "bash" or re.match(r"# [\w/]+\.py\n", text), text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.parent.name)
def test_links_and_keys_exist(document):
  text = document.read_text()
  links = [name for name in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in name]
  assert not [name for name in links if not (document.parent / name).exists()]
  configs = "".join(path.read_text() for path in (ROOT / "configs").glob("*.py"))
  for key in re.findall(r"--config\.([\w.]+)", text):
    assert re.search(rf"\b{key.split('.')[0]}\b", configs), f"{document}: --config.{key}"


def padded(values, length):
  return np.asarray(ak.fill_none(ak.pad_none(values, length, clip=True), 0), np.float32)


def write_ntuples(folder):
  """What the document on ntuples starts from: files in three layouts that are not ours."""
  for name in ("ntuples", "polar", "events", "arrays"):
    (folder / name).mkdir()
  for label, of_class in (("background", "QCD"), ("signal", "Tbqq")):
    jets = random_jets(60, of_class, mean_particles=10)
    cartesian = {
      f"pf_{new}": jets[f"part_{c}"] for c, new in zip(P4, ("px", "py", "pz", "e"), strict=True)
    }
    write_root(
      folder / "ntuples" / f"{label}_0.root",
      {"part_px": jets["part_px"], "msd": jets["jet_sdmass"]} | cartesian,
    )
    vectors = polar(jets)
    flags = {k.replace("part_", "pf_"): v for k, v in jets.items() if k.startswith("part_is")}
    truth = {f"is_{name}": np.full(60, name == label) for name in ("signal", "background")}
    table = {f"pf_{k}": v for k, v in vectors.items()} | flags | truth
    table["pf_q"] = jets["part_charge"]
    ak.to_parquet(ak.Array(table), folder / "polar" / f"{label}.parquet")
  per_event = np.tile([1, 3], 15)
  several = {"jet_mass": ak.unflatten(1000 * jets["jet_sdmass"], per_event)}
  several["jet_flavour"] = ak.unflatten(np.resize([5, 6, 5, 21, 6], 60), per_event)
  for name, unit in (("pt", 1000), ("eta", 1), ("phi", 1)):
    several[f"jet_pf_{name}"] = ak.unflatten(unit * vectors[name], per_event)
  ak.to_parquet(ak.Array(several | {"number": np.arange(30)}), folder / "events" / "run.parquet")
  arrays = np.stack([padded(vectors[k], 20) for k in ("pt", "eta", "phi")], axis=-1)
  np.save(folder / "arrays" / "jets.npy", arrays)
  np.save(folder / "arrays" / "label.npy", np.arange(60) % 2)


P4 = ("px", "py", "pz", "energy")


def polar(jets):
  px, py, pz, energy = (ak.values_astype(jets[f"part_{c}"], np.float64) for c in P4)
  pt = np.hypot(px, py)
  mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0))
  return {"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px), "m": mass}


@pytest.mark.slow
def test_they_can_be_worked_through(clone):
  """One after the other: the second one fine-tunes what is pretrained in the first."""
  work_through_tasks(clone)
  work_through_ntuples(clone)


def work_through_tasks(clone):
  printed = clone.work_through(ROOT / "jetfm" / "tasks" / "README.md")
  assert "starts from" in printed[1] and "loaded" in printed[1]
  metrics = (clone.folder / "runs" / "tau21" / "tau21" / "metrics.jsonl").read_text()
  assert "tau21/mse" in metrics and "tau21/mae" in metrics
  test = Manifest.load(clone.folder / "datasets" / "jets").splits["test"].num_events
  assert f"{test} jets, tau21 0." in printed[2]


def work_through_ntuples(clone):
  write_ntuples(clone.folder)
  printed = clone.work_through(ROOT / "jetfm" / "data" / "README.md")
  sizes = {"mine": 120, "polar": 120, "events": 60, "arrays": 60}
  for name, jets in sizes.items():
    manifest = Manifest.load(clone.folder / "datasets" / name)
    assert sum(split.num_events for split in manifest.splits.values()) == jets
    assert set(manifest.classes) == {"background", "signal"}
    assert manifest.splits["train"].class_counts(2).all()
  assert "by other names: part_px=pf_px" in "".join(printed)
  scored = sorted(path.name for path in (clone.folder / "predictions").glob("*.root"))
  assert scored == ["background_0.root", "signal_0.root"]
