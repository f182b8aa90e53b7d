"""Bad input: an error with file, entry and branch, or a counted drop. Never a silent zero."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jetfm.data.errors import DataError
from jetfm.data.manifest import SPLITS, Manifest
from jetfm.data.pipeline import open_dataset
from jetfm.data.sources import class_of_file
from tests.data.conftest import quiet_ingest, read_all
from tests.jets import PREFIXES, random_jets, write_root

BAD = 7  # the entry that is spoilt
JETS = 40


def change(jets, branch, entry, function):
  """Changes one jet's values of a jagged branch."""
  lists = ak.to_list(jets[branch])
  lists[entry] = function(lists[entry])
  jets[branch] = ak.values_astype(ak.Array(lists), np.float32)


def set_first(value):
  return lambda x: [value, *x[1:]]


def nan_in_particle(jets):
  change(jets, "part_d0val", BAD, set_first(np.nan))


def infinite_momentum(jets):
  change(jets, "part_px", BAD, set_first(np.inf))


def nan_in_jet(jets):
  jets["jet_sdmass"][BAD] = np.nan


def too_large_for_float32(jets):
  jets["jet_tau1"] = jets["jet_tau1"].astype(np.float64)
  jets["jet_tau1"][BAD] = 1e300


def no_particles(jets):
  for branch in [b for b in jets if b.startswith("part_")]:
    change(jets, branch, BAD, lambda x: [])


def negative_energy(jets):
  change(jets, "part_energy", BAD, lambda x: [*x[:-1], -x[-1]])


def spacelike(jets):
  change(jets, "part_energy", BAD, lambda x: [0.99 * x[0], *x[1:]])


def no_class(jets):
  jets["label_Hbb"][BAD] = False


def two_classes(jets):
  jets["label_QCD"][BAD] = 1.0


def half_a_class(jets):
  jets["label_QCD"][BAD] = 0.5
  jets["label_Hbb"] = jets["label_Hbb"].astype(np.float32)
  jets["label_Hbb"][BAD] = 0.5


def another_class(jets):
  jets["label_Hbb"][BAD], jets["label_Hcc"][BAD] = False, True


SPOILT_JETS = {
  nan_in_particle: ("part_d0val", "NaN or infinite"),
  infinite_momentum: ("part_px", "NaN or infinite"),
  nan_in_jet: ("jet_sdmass", "NaN or infinite"),
  too_large_for_float32: ("jet_tau1", "NaN or infinite"),
  no_particles: ("part_energy", "no particles"),
  negative_energy: ("part_energy", "energy that is not positive"),
  spacelike: ("part_energy", r"energy below \|p\|"),
  no_class: ("label", "labels that name no class, or several"),
  two_classes: ("label", "labels that name no class, or several"),
  half_a_class: ("label", "labels that name no class, or several"),
  another_class: ("label", "label of another class than the file's name"),
}


@pytest.mark.parametrize("spoil", SPOILT_JETS, ids=lambda f: f.__name__)
def test_a_spoilt_jet_is_an_error_or_a_counted_drop(spoil, tmp_path):
  branch, reason = SPOILT_JETS[spoil]
  jets = random_jets(JETS, "Hbb")
  spoil(jets)
  write_root(tmp_path / "HToBB_0.root", jets)
  with pytest.raises(DataError, match=rf"HToBB_0.root, entry {BAD}, branch '{branch}': {reason}"):
    quiet_ingest(tmp_path, tmp_path / "out")
  assert not (tmp_path / "out" / "manifest.json").exists()

  manifest = quiet_ingest(tmp_path, tmp_path / "out", on_bad="drop")
  (source,) = manifest.sources
  assert source["kept"] == JETS - 1 and list(source["drops"].values()) == [1]
  assert branch in next(iter(source["drops"]))
  left = set().union(*(read_all(open_dataset(tmp_path / "out", "full", s)) for s in SPLITS))
  assert left == set(range(JETS)) - {BAD}


def test_rounding_is_no_fault(tmp_path):
  """Massless particles whose float32 energy is a little below |p|, as in published files."""
  jets = random_jets(JETS, "Hbb")
  p = np.sqrt(sum(jets[f"part_p{c}"] ** 2 for c in "xyz"))
  jets["part_energy"] = ak.values_astype(p * (1 - 3e-7), np.float32)
  write_root(tmp_path / "HToBB_0.root", jets)
  assert quiet_ingest(tmp_path, tmp_path / "out").sources[0]["kept"] == JETS


def without(branch):
  return lambda jets: jets.pop(branch)


def truncate(path, share):
  data = path.read_bytes()
  path.write_bytes(data[: int(share * len(data))])


def spoilt_file(kind, path):
  jets = random_jets(JETS, "Hbb", seed=1)
  if kind == "missing":
    del jets["part_d0val"]
  if kind == "no energy":
    del jets["part_energy"]
  if kind == "no labels":
    jets = {k: v for k, v in jets.items() if not k.startswith("label_")}
  if kind == "unequal":
    change(jets, "part_px", BAD, lambda x: x[1:])
  write_root(path, jets, tree="events" if kind == "other tree" else "tree")
  if kind == "truncated":
    truncate(path, 0.6)
  if kind == "no ROOT file":
    path.write_bytes(b"not a ROOT file at all" * 10)
  if kind == "RNTuple":  # what uproot writes when it is not told otherwise
    with uproot.recreate(path) as file:
      file["Events"] = {"part_px": np.ones(JETS)}
  if kind == "empty":
    path.write_bytes(b"")
  return path


SPOILT_FILES = {
  "missing": (
    r"HToBB_1.root, tree 'tree': no branch 'part_d0val' \(needed by input set 'full'\). Found \d+ "
    r"branches; the nearest name is 'part_dzval'. Use --config.inputs=kinpid"
  ),
  "no energy": r"no branch 'part_energy' \(needed by every input set\)",
  "no labels": r"no branch 'label_QCD' \(needed by the class of every jet\)",
  "truncated": r"HToBB_1.root: not a readable ROOT file.*truncated or damaged",
  "no ROOT file": r"HToBB_1.root: not a readable ROOT file",
  "RNTuple": r"HToBB_1.root: has Events as RNTuple, which is not read: write a TTree",
  "empty": r"HToBB_1.root: not a readable ROOT file",
}


@pytest.mark.parametrize("kind", SPOILT_FILES)
def test_a_spoilt_file_is_an_error_or_left_out(kind, tmp_path):
  spoilt_file(kind, tmp_path / "HToBB_1.root")
  write_root(tmp_path / "HToBB_0.root", random_jets(JETS, "Hbb"))
  with pytest.raises(DataError, match=SPOILT_FILES[kind]):
    quiet_ingest(tmp_path, tmp_path / "out")
  assert not (tmp_path / "out" / "manifest.json").exists()
  good, bad = quiet_ingest(tmp_path, tmp_path / "out", on_bad="drop").sources
  assert good["kept"] == JETS and bad["kept"] == 0 and bad["refused"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_no_truncation_passes_unseen(share, tmp_path):
  path = write_root(tmp_path / "HToBB_0.root", random_jets(200, "Hbb"), basket=50)
  truncate(path, share)
  with pytest.raises(DataError, match=r"HToBB_0\.root"):
    quiet_ingest(tmp_path, tmp_path / "out")


def test_damage_in_the_middle_leaves_the_whole_file_out(tmp_path):
  """Zeroed bytes inside compressed baskets: the head of the file is fine, its jets are not."""
  write_root(tmp_path / "HToBB_0.root", random_jets(JETS, "Hbb"))
  path = write_root(tmp_path / "HToBB_1.root", random_jets(400, "Hbb", seed=1), basket=100)
  data = bytearray(path.read_bytes())
  data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
  path.write_bytes(data)
  with pytest.raises(DataError, match=r"HToBB_1\.root"):
    quiet_ingest(tmp_path, tmp_path / "out")
  good, bad = quiet_ingest(tmp_path, tmp_path / "out", on_bad="drop").sources
  assert good["kept"] == JETS and bad["kept"] == 0 and bad["refused"]


def test_branches_must_agree_in_length(tmp_path):
  spoilt_file("unequal", tmp_path / "HToBB_1.root")
  with pytest.raises(DataError, match=rf"entry {BAD}, branch 'part_px': as many values as part_en"):
    quiet_ingest(tmp_path, tmp_path / "out")


def test_a_file_name_must_tell_the_class(tmp_path):
  write_root(tmp_path / "jets.root", random_jets(JETS, "Hbb"))
  with pytest.raises(
    DataError, match=r"jets.root: the file name tells no class.*check_names=False"
  ):
    quiet_ingest(tmp_path, tmp_path / "out")
  quiet_ingest(tmp_path, tmp_path / "out", check_names=False)
  assert Manifest.load(tmp_path / "out").sources[0]["kept"] == JETS


def test_the_longest_prefix_wins(tmp_path):
  for name, prefix in PREFIXES.items():
    assert class_of_file(tmp_path / f"{prefix}_012.root") == name
  assert class_of_file(tmp_path / "mine.root") is None


def test_a_tree_of_another_name_is_found_when_it_is_the_only_one(tmp_path):
  spoilt_file("other tree", tmp_path / "HToBB_1.root")
  assert quiet_ingest(tmp_path, tmp_path / "out").sources[0]["kept"] == JETS


def test_nothing_usable_is_an_error_with_drop_too(tmp_path):
  spoilt_file("no ROOT file", tmp_path / "HToBB_1.root")
  with pytest.raises(DataError, match="none of the files can be used"):
    quiet_ingest(tmp_path, tmp_path / "out", on_bad="drop")


def test_no_files_is_an_error(tmp_path):
  with pytest.raises(DataError, match="holds no data files"):
    quiet_ingest(tmp_path / "nowhere", tmp_path / "out")
  with pytest.raises(DataError, match="no sources"):
    quiet_ingest({}, tmp_path / "out")


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"inputs": "ful"}, "no input set 'ful'; the nearest is 'full'"),
    ({"fractions": (0.8, 0.1, 0.2)}, "sum 1"),
    ({"edges": (32, 16)}, "ascending"),
    ({"block_events": 0}, "positive"),
    ({"on_bad": "ignore"}, "'error' or 'drop'"),
  ],
)
def test_settings_must_make_sense(settings, message, tmp_path):
  with pytest.raises(DataError, match=message):
    quiet_ingest(tmp_path, tmp_path / "out", **settings)
