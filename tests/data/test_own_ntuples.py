"""Ntuples of one's own: other branch names, other coordinates, labels from file names."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jetfm.data.errors import DataError
from jetfm.data.jet_schema import INPUT_SETS
from jetfm.data.manifest import SPLITS, Manifest
from jetfm.data.pipeline import open_dataset
from tests.data.conftest import quiet_ingest, read_all
from tests.jets import random_jets, write_root

N, BAD = 60, 7
OWN_NAMES = {
  "part_px": "pf_px",
  "part_py": "pf_py",
  "part_pz": "pf_pz",
  "part_energy": "pf_e",
  "part_charge": "pf_q",
  "jet_pt": "fatjet_pt",
  "jet_genmass": "truth_mass",
  "event_number": "eventNumber",
  "label_Hbb": "is_hbb",
}


def everything(directory, inputs="full"):
  found = {}
  for split in SPLITS:
    found |= read_all(open_dataset(directory, inputs, split))
  return found


def same(a, b):
  assert a.keys() == b.keys()
  for i in a:
    for x, y in zip(a[i], b[i], strict=True):
      np.testing.assert_array_equal(x, y)


def write(path, jets):
  """ROOT or Parquet, by the suffix."""
  path.parent.mkdir(exist_ok=True)
  if path.suffix == ".root":
    jagged = next(name for name, x in jets.items() if isinstance(x, ak.Array))
    # `write_root` counts jets by this branch.
    return write_root(path, {"part_px": jets[jagged]} | jets)
  pytest.importorskip("pyarrow")
  ak.to_parquet(ak.Array(dict(jets)), path)
  return path


def renamed(jets, names):
  return {names.get(name, name): values for name, values in jets.items()}


def polar(jets, with_mass):
  """The same jets as (pt, eta, phi) and mass or energy."""
  px, py, pz, energy = (
    ak.values_astype(jets.pop(f"part_{c}"), np.float64) for c in ("px", "py", "pz", "energy")
  )
  pt = np.hypot(px, py)
  jets |= {"part_pt": pt, "part_eta": np.arcsinh(pz / pt), "part_phi": np.arctan2(py, px)}
  if with_mass:
    m2 = energy**2 - px**2 - py**2 - pz**2
    jets["part_mass"] = np.sign(m2) * np.sqrt(np.abs(m2))
  else:
    jets["part_energy"] = energy
  return jets


@pytest.mark.parametrize("suffix", [".root", ".parquet"])
def test_other_names_give_the_same_data_set(tmp_path, suffix):
  jets = random_jets(N, "Hbb")
  write(tmp_path / "a" / f"HToBB_0{suffix}", jets)
  # A branch of the layout's name that means something else: the user's word counts.
  other = renamed(jets, OWN_NAMES) | {"jet_pt": jets["jet_pt"] * 0}
  write(tmp_path / "b" / f"HToBB_0{suffix}", other)
  quiet_ingest(tmp_path / "a", tmp_path / "plain")
  manifest = quiet_ingest(tmp_path / "b", tmp_path / "named", branches=OWN_NAMES)
  same(everything(tmp_path / "named"), everything(tmp_path / "plain"))
  assert manifest.schemas == Manifest.load(tmp_path / "plain").schemas
  assert manifest.settings["branches"] == OWN_NAMES


def test_names_belong_to_what_a_data_set_is(tmp_path):
  jets = random_jets(N, "Hbb")
  jets["other_sdmass"] = jets["jet_sdmass"] + 1
  write(tmp_path / "in" / "HToBB_0.root", jets)
  quiet_ingest(tmp_path / "in", tmp_path / "out")
  with pytest.raises(DataError, match=r"another data set \(branches {} instead of {'jet_sdmass'"):
    quiet_ingest(tmp_path / "in", tmp_path / "out", branches={"jet_sdmass": "other_sdmass"})


def test_one_of_several_trees(tmp_path):
  """As experiments write them: events beside trees of runs and of bookkeeping."""
  jets = random_jets(N, "Hbb")
  write(tmp_path / "a" / "HToBB_0.root", jets)
  path = tmp_path / "b" / "HToBB_0.root"
  path.parent.mkdir()
  types = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in jets.items()}
  with uproot.recreate(path) as file:
    file.mktree("Runs", {"run": np.dtype(np.int64)})
    file.mktree("Events", types)
    file["Events"].extend(jets)
  for branches, words in (({}, "no tree 'tree'"), ({"tree": "Event"}, "no tree 'Event'")):
    with pytest.raises(DataError, match=rf"{words}; the file has the trees \['Events', 'Runs'\]"):
      quiet_ingest(path.parent, tmp_path / "named", branches=branches)
  quiet_ingest(tmp_path / "a", tmp_path / "plain")
  quiet_ingest(path.parent, tmp_path / "named", branches={"tree": "Events"})
  same(everything(tmp_path / "named"), everything(tmp_path / "plain"))


def test_a_data_set_older_than_a_setting_is_kept(tmp_path):
  write(tmp_path / "in" / "HToBB_0.root", random_jets(N, "Hbb"))
  manifest = quiet_ingest(tmp_path / "in", tmp_path / "out")
  del manifest.settings["branches"]
  manifest.save(tmp_path / "out")
  time = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
  quiet_ingest(tmp_path / "in", tmp_path / "out")
  assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == time


@pytest.mark.parametrize("with_mass", [True, False])
def test_polar_coordinates_give_the_same_momenta(tmp_path, with_mass):
  jets = random_jets(N, "Hbb")
  write(tmp_path / "a" / "HToBB_0.root", jets)
  write(tmp_path / "b" / "HToBB_0.parquet", polar(dict(jets), with_mass))
  quiet_ingest(tmp_path / "a", tmp_path / "cartesian")
  quiet_ingest(tmp_path / "b", tmp_path / "polar")
  found, expected = everything(tmp_path / "polar"), everything(tmp_path / "cartesian")
  assert found.keys() == expected.keys()
  for i, event in found.items():
    np.testing.assert_allclose(event[0], expected[i][0], rtol=2e-6, atol=1e-4)
    for x, y in zip(event[1:], expected[i][1:], strict=True):
      np.testing.assert_array_equal(x, y)


def test_cartesian_momenta_with_a_mass(tmp_path):
  jets = random_jets(N, "Hbb")
  energy = jets.pop("part_energy")
  p2 = sum(ak.values_astype(jets[f"part_p{c}"], np.float64) ** 2 for c in "xyz")
  jets["part_mass"] = np.sqrt(np.maximum(ak.values_astype(energy, np.float64) ** 2 - p2, 0))
  write(tmp_path / "in" / "HToBB_0.parquet", jets)
  quiet_ingest(tmp_path / "in", tmp_path / "out")
  found = everything(tmp_path / "out")
  for i, event in found.items():
    np.testing.assert_allclose(event[0][:, 0].sum(), ak.sum(energy[i]), rtol=1e-5)


@pytest.mark.parametrize(
  ("branch", "value", "reason"),
  [
    ("part_phi", np.nan, "NaN or infinite value"),
    ("part_eta", np.inf, "NaN or infinite value"),
    ("part_mass", np.nan, "NaN or infinite value"),
    ("part_pt", -1.0, "pT that is negative"),
    ("part_mass", -50.0, "energy below"),
  ],
)
def test_spoilt_polar_momenta_are_named_as_the_file_does(tmp_path, branch, value, reason):
  jets = polar(random_jets(N, "Hbb"), with_mass=True)
  counts = ak.num(jets[branch])
  flat = ak.to_numpy(ak.flatten(jets[branch])).copy()
  flat[int(ak.sum(counts[:BAD]))] = value
  jets[branch] = ak.unflatten(flat, counts)
  write(tmp_path / "in" / "HToBB_0.parquet", renamed(jets, {branch: "mine"}))
  with pytest.raises(DataError, match=rf"entry {BAD}, branch 'mine': {reason}"):
    quiet_ingest(tmp_path / "in", tmp_path / "out", branches={branch: "mine"})
  manifest = quiet_ingest(
    tmp_path / "in", tmp_path / "out", on_bad="drop", branches={branch: "mine"}
  )
  (source,) = manifest.sources
  assert source["kept"] == N - 1
  assert [r for r in source["drops"] if reason in r and "mine" in r]


@pytest.mark.parametrize(
  ("branches", "message"),
  [
    (
      {"part_px": "pf_pxx"},
      r"no branch 'pf_pxx' \(needed by --config.branches=part_px=pf_pxx\).*nearest name is 'pf_px'",
    ),
    ({}, r"no branch 'part_energy'.*--config.branches=part_energy=NAME; part_mass will do too"),
    ({"part_energy": "pf_e"}, r"no branch 'part_px'.*part_pt, part_eta and part_phi will do too"),
    ({"part_ps": "pf_px"}, "names no branch of the layout; the nearest is 'part_p"),
  ],
)
def test_a_branch_that_is_not_there_is_named(tmp_path, branches, message):
  write(tmp_path / "in" / "HToBB_0.parquet", renamed(random_jets(N, "Hbb"), OWN_NAMES))
  with pytest.raises(DataError, match=message):
    quiet_ingest(tmp_path / "in", tmp_path / "out", branches=branches)


def test_arrays_of_other_formats_have_no_other_names(tmp_path):
  np.savez(tmp_path / "jets.npz", p4=np.ones((3, 2, 4)), label=np.zeros(3))
  with pytest.raises(DataError, match=r"jets.npz: branches can be named in files of \['.root'"):
    quiet_ingest(
      tmp_path, tmp_path / "out", inputs="kin", classes=("a", "b"), branches={"part_px": "p4"}
    )


def without_labels(label):
  return {k: v for k, v in random_jets(N, label).items() if not k.startswith("label_")}


def test_file_names_tell_the_class_where_nothing_else_does(tmp_path):
  """By names of classes, the longest that fits, and by published prefixes."""
  files = ("top_0", "top_leptonic_0", "TTBar_0", "ZJetsToNuNu_0")
  for name in files:
    write(tmp_path / "in" / f"{name}.root", without_labels("QCD"))
  classes = ("QCD", "Tbqq", "top", "top_leptonic")
  manifest = quiet_ingest(tmp_path / "in", tmp_path / "out", classes=classes)
  first = {s["first_event_id"]: s["path"].split("/")[-1] for s in manifest.sources}
  told = {"top_0": 2, "top_leptonic_0": 3, "TTBar_0": 1, "ZJetsToNuNu_0": 0}
  for event_id, event in everything(tmp_path / "out").items():
    file = first[event_id // N * N]
    assert event[2] == told[file.removesuffix(".root")]


def test_files_without_any_label_are_refused(tmp_path):
  write(tmp_path / "in" / "mine.root", without_labels("QCD"))
  with pytest.raises(DataError, match=r"no branch 'label_QCD'.*name the classes, with which"):
    quiet_ingest(tmp_path / "in", tmp_path / "out")
  with pytest.raises(DataError, match=r"mine.root: it has no label branches, and its name begins"):
    quiet_ingest(tmp_path / "in", tmp_path / "out", classes=("signal", "background"))


def test_names_of_files_of_other_classes_are_free(tmp_path):
  jets = without_labels("QCD") | {"label_QCD": np.ones(N, bool), "label_top": np.zeros(N, bool)}
  write(tmp_path / "in" / "mine.root", jets)
  assert quiet_ingest(tmp_path / "in", tmp_path / "out").classes == ("QCD", "top")


def test_kin_needs_nothing_but_momenta_and_labels(tmp_path):
  jets = random_jets(N, "Hbb")
  jets = {k: jets[k] for k in ("part_px", "part_py", "part_pz", "part_energy", "label_QCD")}
  jets |= {"label_top": 1 - jets["label_QCD"]}
  write(tmp_path / "in" / "mine.root", jets)
  manifest = quiet_ingest(tmp_path / "in", tmp_path / "out", inputs="kin")
  assert set(manifest.schemas) == {
    name for name, f in INPUT_SETS.items() if all(x.derived for x in f)
  }
