"""The doors beside ROOT, and the branch types that published files have."""

import contextlib

import awkward as ak
import numpy as np
import pytest

from jetfm.data import read_parquet
from jetfm.data.errors import DataError
from jetfm.data.events import Layout
from jetfm.data.manifest import SPLITS
from jetfm.data.pipeline import open_dataset
from jetfm.data.sources import find_files, jet_columns, open_source
from tests.data.conftest import quiet_ingest, read_all
from tests.jets import random_jets, write_root

N = 60


def everything(directory, inputs):
  found = {}
  for split in SPLITS:
    found |= read_all(open_dataset(directory, inputs, split))
  return found


def same(a, b):
  assert a.keys() == b.keys()
  for i in a:
    for x, y in zip(a[i], b[i], strict=True):
      np.testing.assert_array_equal(x, y)


def padded(jets, length=200):
  """(n, length, 4) momenta and (n,) counts of a dict of branches."""
  counts = ak.to_numpy(ak.num(jets["part_px"]))
  p4 = np.zeros((len(counts), length, 4), np.float32)
  mask = np.arange(length) < counts[:, None]
  names = ("part_energy", "part_px", "part_py", "part_pz")
  p4[mask] = np.stack([ak.to_numpy(ak.flatten(jets[n])) for n in names], axis=1)
  return p4, counts


@pytest.fixture
def reference(tmp_path):
  """The same jets through ROOT: what every other door must give."""
  jets = random_jets(N, "Hbb")
  write_root(tmp_path / "HToBB_0.root", jets)
  quiet_ingest(tmp_path / "HToBB_0.root", tmp_path / "root")
  return jets, tmp_path / "root"


@pytest.mark.parametrize("types", ["all bool", "all float", "all double", "all int64", "mixed"])
def test_published_branch_types_vary(reference, tmp_path, types):
  jets, root = reference
  kinds = {"all bool": bool, "all float": "f4", "all double": "f8", "all int64": "i8"}
  for i, branch in enumerate(jets):
    kind = kinds.get(types, (bool, "f4", "i4", "u1")[i % 4])
    if branch.startswith("label_"):
      jets[branch] = jets[branch].astype(kind)
    elif branch.startswith("part_is"):
      jets[branch] = ak.values_astype(jets[branch], kind)
  (tmp_path / "other").mkdir()
  write_root(tmp_path / "other" / "HToBB_0.root", jets)
  quiet_ingest(tmp_path / "other", tmp_path / "out")
  same(everything(tmp_path / "out", "full"), everything(root, "full"))


def test_labels_of_other_classes_than_jetclass(tmp_path):
  jets = {k: v for k, v in random_jets(N, "Hbb").items() if not k.startswith("label_")}
  jets |= {"label_signal": np.arange(N) % 2 == 0, "label_background": np.arange(N) % 2}
  write_root(tmp_path / "mine.root", jets)
  manifest = quiet_ingest(tmp_path, tmp_path / "out", check_names=False)
  assert manifest.classes == ("signal", "background")
  assert {i: e[2] for i, e in everything(tmp_path / "out", "kin4").items()} == {
    i: i % 2 for i in range(N)
  }


def test_text_in_a_branch_is_refused(tmp_path):
  jets = random_jets(N, "Hbb")
  jets["part_charge"] = jets["jet_pt"]
  write_root(tmp_path / "HToBB_0.root", jets)
  with pytest.raises(DataError, match="'part_charge' has 1 axes, expected 2: one entry per jet"):
    quiet_ingest(tmp_path, tmp_path / "out")


def test_parquet_gives_what_root_gives(reference, tmp_path):
  jets, root = reference
  pytest.importorskip("pyarrow")
  table = ak.Array({k: v if isinstance(v, ak.Array) else ak.from_numpy(v) for k, v in jets.items()})
  ak.to_parquet(table, tmp_path / "HToBB_0.parquet", row_group_size=17)
  quiet_ingest(tmp_path / "HToBB_0.parquet", tmp_path / "out")
  found = everything(tmp_path / "out", "full")
  expected = everything(root, "full")
  assert found.keys() == expected.keys()
  same(found, expected)
  (tmp_path / "HToBB_1.parquet").write_bytes(b"PAR1 no")
  with pytest.raises(DataError, match=r"HToBB_1.parquet: not a readable Parquet file"):
    quiet_ingest(tmp_path / "HToBB_1.parquet", tmp_path / "bad")


@pytest.mark.parametrize("row_group_size", [50, 5000])
def test_a_parquet_file_is_not_in_memory_as_a_whole(tmp_path, monkeypatch, row_group_size):
  pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
  monkeypatch.setattr(read_parquet, "READ_BYTES", 1 << 12)
  path = tmp_path / "HToBB_0.parquet"
  jets = random_jets(5000, "Hbb")
  table = ak.Array({k: v if isinstance(v, ak.Array) else ak.from_numpy(v) for k, v in jets.items()})
  # Dictionaries and pages are read whole, whatever the file: a megabyte each if nothing is said.
  options = {"use_dictionary": False, "data_page_size": 1 << 14}
  pq.write_table(ak.to_arrow_table(table), path, row_group_size, **options)
  source = read_parquet.open_source(path, {})
  layout = Layout(("part_px", "part_py", "part_pz", "part_energy", "part_d0val"), ())
  before = pa.total_allocated_bytes()
  held = [
    pa.total_allocated_bytes() - before
    for _ in source.chunks(layout, ("QCD", "Hbb"), 0, source.entries, 50)
  ]
  source.close()
  assert len(held) == 100 and max(held) < path.stat().st_size / 5


@pytest.mark.parametrize("style", ["zeros", "num_particles", "mask"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_what_root_gives(reference, tmp_path, style, save):
  jets, root = reference
  p4, counts = padded(jets)
  extra = {
    "zeros": {},
    "num_particles": {"num_particles": counts},
    "mask": {"mask": np.arange(p4.shape[1]) < counts[:, None]},
  }[style]
  if style != "zeros":  # what padded slots hold has no meaning
    p4[np.arange(p4.shape[1]) >= counts[:, None]] = np.nan
  save(tmp_path / "jets.npz", p4=p4, label=np.ones(N, np.int32), **extra)
  quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", inputs="kin", classes=("QCD", "Hbb"))
  found, expected = everything(tmp_path / "out", "kin"), everything(root, "kin")
  assert found.keys() == expected.keys()
  for i, event in found.items():
    np.testing.assert_array_equal(event[0], expected[i][0])
    assert event[2] == 1


def test_jets_without_jet_branches_get_them_from_their_constituents():
  counts, p4 = (
    np.array([2, 0, 1]),
    np.array([[5, 3, 0, 4], [10, 0, 6, -8], [2, 0, 0, 0]], np.float32),
  )
  pt, eta, phi, energy = jet_columns(counts, p4, ("jet_pt", "jet_eta", "jet_phi", "jet_energy")).T
  np.testing.assert_allclose(pt, [np.hypot(3, 6), 0, 0])
  np.testing.assert_allclose(eta[0], np.arcsinh(-4 / np.hypot(3, 6)), rtol=1e-6)
  np.testing.assert_allclose(phi[0], np.arctan2(6, 3), rtol=1e-6)
  np.testing.assert_allclose(energy, [15, 0, 2])


def npz(tmp_path, **arrays):
  jets, n = padded(random_jets(N, "Hbb"))
  mask = np.arange(jets.shape[1]) < n[:, None]
  arrays = {"p4": jets, "label": np.zeros(N, int), "mask": mask, **arrays}
  np.savez(tmp_path / "jets.npz", **{k: v for k, v in arrays.items() if v is not None})
  return mask, jets


@pytest.mark.parametrize("spoil", ["hole in the mask", "hole of zeros", "half a mask", "label"])
def test_bad_npz_jets(tmp_path, spoil):
  mask, p4 = npz(tmp_path)
  label = np.zeros(N, int)
  if spoil == "hole in the mask":
    mask[7, 1] = False
    npz(tmp_path, mask=mask)
  if spoil == "hole of zeros":
    p4[7, 1] = 0
    npz(tmp_path, p4=p4, mask=None)
  if spoil == "half a mask":
    mask = np.where(mask, 1.0, 0.0)
    mask[7, 0] = 0.5
    npz(tmp_path, mask=mask)
  if spoil == "label":
    label[7] = 3
    npz(tmp_path, label=label)
  where = {"hole in the mask": "'mask': mask with holes", "label": "'label': labels that name no"}
  where |= {"half a mask": "'mask': mask that is neither 0 nor 1"}
  arguments = {"inputs": "kin", "classes": ("QCD", "top")}
  where |= {"hole of zeros": "'p4': mask with holes"}
  message = rf"jets.npz, entry 7, branch {where[spoil]}"
  with pytest.raises(DataError, match=message):
    quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", **arguments)
  manifest = quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", on_bad="drop", **arguments)
  assert manifest.sources[0]["kept"] == N - 1 and sum(manifest.sources[0]["drops"].values()) == 1


@pytest.mark.parametrize("layout", ["label", "y", "num_particles"])
@pytest.mark.parametrize("value", [0.9, np.nan, -1.0, 1000.0])
def test_numbers_that_count_are_whole_and_in_range(tmp_path, layout, value):
  """Never cut to the next whole one: with file, entry and value an error, or counted."""
  p4, counts = padded(random_jets(N, "Hbb"))
  numbers = (counts if layout == "num_particles" else np.arange(N) % 2).astype(np.float64)
  numbers[7] = value
  arrays = {"p4": p4, "label": np.zeros(N), layout: numbers}
  if layout == "y":
    arrays = {"X": np.where(p4[..., :1] > 0, (50.0, 0.5, 1.0, 22), 0), "y": numbers}
  np.savez(tmp_path / "jets.npz", **arrays)
  keys = {"inputs": "kin", "classes": ("gluon", "quark")}
  with pytest.raises(DataError, match=r"jets.npz, entry 7, branch '(y|label|num_p.*)'") as error:
    quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", **keys)
  if layout == "num_particles" or value != np.rint(value):
    assert f"'{layout}': no whole number" in str(error.value) and f"({value})" in str(error.value)
  (source,) = quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", on_bad="drop", **keys).sources
  assert source["kept"] == N - 1


@pytest.mark.parametrize("names", [("p4", "label"), ("X", "y")])
def test_npz_files_to_predict_need_no_labels(tmp_path, names):
  """Nor are those looked at that are there."""
  momenta = np.where(padded(random_jets(N, "Hbb"))[0][..., :1] > 0, (50.0, 0.5, 1.0, 22), 0)
  found = []
  for labels in ({}, {names[1]: np.arange(N) % 2}, {names[1]: np.full((N, 2), 0.5)}):
    np.savez(tmp_path / "jets.npz", **{names[0]: momenta}, **labels)
    with contextlib.closing(open_source(tmp_path / "jets.npz", labels=False)) as source:
      found.append([chunk.events for chunk in source.chunks(Layout(), (), 0, N, 25)])
  for events in found[1:]:
    for a, b in zip(found[0], events, strict=True):
      np.testing.assert_array_equal(a.p4, b.p4)
      np.testing.assert_array_equal(b.label, -1)
  with pytest.raises(
    DataError, match=rf"'{names[1]}' has shape \(60, 2\), expected \(60,\).*argmax"
  ):
    open_source(tmp_path / "jets.npz")


@pytest.mark.parametrize(
  ("arrays", "classes", "message"),
  [
    ({"label": None}, ("a", "b"), r"no branch 'label' \(needed by every input set\)"),
    ({}, None, "labels are bare numbers; name them"),
    ({"p4": np.zeros((N, 4))}, ("a", "b"), r"shape \(60, 4\), expected \(jets, particles, 4\)"),
    ({"label": np.zeros(3)}, ("a", "b"), r"'label' has shape \(3,\), expected \(60,\)"),
    (
      {"label": np.zeros((N, 2))},
      ("a", "b"),
      r"expected \(60,\).*of one-hot ones, store the argmax",
    ),
    ({"label": np.full(N, "QCD")}, ("a", "b"), "plain numbers"),
    (
      {"mask": np.ones((N, 3), bool)},
      ("a", "b"),
      r"'mask' has shape \(60, 3\), expected \(60, 200\)",
    ),
    ({"mask": np.ones(N, bool)}, ("a", "b"), r"'mask' has shape \(60,\), expected \(60, 200\)"),
    (
      {"mask": None, "num_particles": np.ones((N, 1), int)},
      ("a", "b"),
      r"'num_particles' has shape \(60, 1\), expected \(60,\)",
    ),
    ({"p4": np.zeros((N, 5, 4), object)}, ("a", "b"), "plain numbers"),
  ],
)
def test_npz_files_of_another_layout(tmp_path, arrays, classes, message):
  npz(tmp_path, **arrays)
  with pytest.raises(DataError, match=message):
    quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", inputs="kin", classes=classes)


def test_a_truncated_npz_file(tmp_path):
  npz(tmp_path)
  data = (tmp_path / "jets.npz").read_bytes()
  (tmp_path / "jets.npz").write_bytes(data[: len(data) // 2])
  with pytest.raises(DataError, match="not a readable NPZ file"):
    quiet_ingest(tmp_path / "jets.npz", tmp_path / "out", inputs="kin", classes=("a", "b"))


def test_quark_gluon_layout(tmp_path):
  """(pT, y, phi, id) of known particles: on shell, flags and charges from the id."""
  ids = np.array([22, 211, -211, 130, 11, -13, 2212, -2112, 0])
  r = np.random.default_rng(0)
  x = np.zeros((N, len(ids), 4))
  x[..., 0], x[..., 1], x[..., 2] = np.sort(r.uniform(1, 99, (N, 9)))[:, ::-1], 0.5, 1.0
  x[..., 3] = ids
  x[:, -1] = 0
  np.savez(tmp_path / "QG_jets.npz", X=x, y=np.arange(N) % 2)
  manifest = quiet_ingest(tmp_path, tmp_path / "out", inputs="kinpid")
  assert manifest.classes == ("gluon", "quark")
  schema = manifest.schemas["kinpid"]
  mass = np.array([0, 0.13957, 0.13957, 0.497611, 0.000511, 0.105658, 0.938272, 0.939565])
  for i, (p4, features, label, _, spectators) in everything(tmp_path / "out", "kinpid").items():
    assert label == i % 2
    energy, px, py, pz = p4.T.astype(np.float64)
    np.testing.assert_allclose(np.hypot(px, py), x[i, :-1, 0], rtol=1e-6)
    np.testing.assert_allclose(np.arctanh(pz / energy), 0.5, rtol=1e-4)
    np.testing.assert_allclose(energy**2 - px**2 - py**2 - pz**2, mass**2, atol=1e-6 * 99**2 * 4)
    column = dict(zip(schema.stored, features.T, strict=True))
    np.testing.assert_array_equal(column["part_charge"], [0, 1, -1, 0, -1, 1, 1, 0])
    np.testing.assert_array_equal(column["part_isPhoton"], ids[:-1] == 22)
    np.testing.assert_array_equal(column["part_isElectron"], ids[:-1] == 11)
    np.testing.assert_array_equal(column["part_isChargedHadron"], [0, 1, 1, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(spectators[0], np.hypot(px.sum(), py.sum()), rtol=1e-5)


def test_an_unknown_particle_is_refused(tmp_path):
  x = np.zeros((N, 3, 4))
  x[:, :2] = (10.0, 0.5, 1.0, 22)
  x[7, 1, 3] = 9999
  np.savez(tmp_path / "QG_jets.npz", X=x, y=np.arange(N) % 2)
  with pytest.raises(DataError, match="entry 7, branch 'X': NaN"):
    quiet_ingest(tmp_path, tmp_path / "out", inputs="kin")


class TestTopTagging:
  """The pandas table, written here as pandas writes it: names of columns pickled in attributes."""

  @staticmethod
  def write(path, p4, signal, drop=()):
    h5py = pytest.importorskip("h5py")
    import pickle

    slots = p4.shape[1]
    momenta = [f"{c}_{i}" for i in range(slots) for c in ("E", "PX", "PY", "PZ")]
    floats, integers = [*momenta, "truthE"], [n for n in ("ttv", "is_signal_new") if n not in drop]
    dtype = [
      ("index", "i8"),
      ("values_block_0", "f4", (len(floats),)),
      ("values_block_1", np.asarray(signal).dtype, (len(integers),)),
    ]
    rows = np.zeros(len(p4), dtype)
    rows["values_block_0"][:, :-1] = p4.reshape(len(p4), -1)
    if "is_signal_new" not in drop:
      rows["values_block_1"][:, -1] = signal
    with h5py.File(path, "w") as file:
      table = file.create_dataset("table/table", data=rows, chunks=(16,), compression="gzip")
      table.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(floats, protocol=0))
      table.attrs["values_block_1_kind"] = np.bytes_(pickle.dumps(integers, protocol=0))

  def test_gives_what_root_gives(self, reference, tmp_path):
    jets, root = reference
    p4, _ = padded(jets)
    self.write(tmp_path / "train.h5", p4, np.arange(N) % 2)
    manifest = quiet_ingest(tmp_path / "train.h5", tmp_path / "out", inputs="kin")
    assert manifest.classes == ("QCD", "top")
    found, expected = everything(tmp_path / "out", "kin4"), everything(root, "kin4")
    assert found.keys() == expected.keys()
    for i, event in found.items():
      np.testing.assert_array_equal(event[0], expected[i][0])
      assert event[2] == i % 2

  def test_bad_files(self, reference, tmp_path):
    p4, _ = padded(reference[0])
    self.write(tmp_path / "a.h5", p4, 0, drop=("is_signal_new",))
    with pytest.raises(DataError, match=r"no branch 'is_signal_new'.*nearest name"):
      quiet_ingest(tmp_path / "a.h5", tmp_path / "out", inputs="kin")
    p4[7, 2] = 0
    self.write(tmp_path / "b.h5", p4, 0)
    with pytest.raises(DataError, match=r"b.h5, entry 7, branch 'E_\*': mask with holes"):
      quiet_ingest(tmp_path / "b.h5", tmp_path / "out", inputs="kin")
    (tmp_path / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n no")
    with pytest.raises(DataError, match=r"c\.h5: not a readable HDF5 file"):
      quiet_ingest(tmp_path / "c.h5", tmp_path / "out", inputs="kin")

  def test_a_label_that_is_not_whole(self, reference, tmp_path):
    signal = np.arange(N) % 2 + np.where(np.arange(N) == 7, -0.1, 0)
    self.write(tmp_path / "a.h5", padded(reference[0])[0], signal)
    message = r"a.h5, entry 7, branch 'is_signal_new': no whole number \(0.9\)"
    with pytest.raises(DataError, match=message):
      quiet_ingest(tmp_path / "a.h5", tmp_path / "out", inputs="kin")

  def test_files_to_predict_need_no_labels(self, reference, tmp_path):
    p4, counts = padded(reference[0])
    self.write(tmp_path / "a.h5", p4, 0, drop=("is_signal_new",))
    with contextlib.closing(open_source(tmp_path / "a.h5", labels=False)) as source:
      (chunk,) = source.chunks(Layout(), (), 0, N, N)
    np.testing.assert_array_equal(chunk.events.p4, p4[np.arange(200) < counts[:, None]])

  def test_what_pandas_writes_can_be_read(self, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    p4, _ = padded(random_jets(N, "Hbb"))
    names = [f"{c}_{i}" for i in range(p4.shape[1]) for c in ("E", "PX", "PY", "PZ")]
    frame = pandas.DataFrame(p4.reshape(N, -1), columns=names).assign(
      is_signal_new=np.arange(N) % 2
    )
    frame.to_hdf(tmp_path / "train.h5", key="table", format="table", mode="w")
    manifest = quiet_ingest(tmp_path / "train.h5", tmp_path / "out", inputs="kin")
    assert manifest.sources[0]["kept"] == N


def test_files_of_different_classes_do_not_mix(tmp_path):
  write_root(tmp_path / "HToBB_0.root", random_jets(N, "Hbb"))
  np.savez(tmp_path / "QG.npz", X=np.ones((N, 3, 4)), y=np.zeros(N))
  with pytest.raises(DataError, match="make two data sets"):
    quiet_ingest(tmp_path, tmp_path / "out", inputs="kin")


def test_linked_folders_are_entered_once(tmp_path):
  """As data sets of a site are collected; a link to a folder above does not go round for ever."""
  for name in ("elsewhere/a.root", "mine/b.root"):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
  mine = tmp_path / "mine"
  (mine / "site").symlink_to(tmp_path / "elsewhere")
  (mine / "again").symlink_to(tmp_path / "elsewhere")
  (mine / "up").symlink_to(mine)
  assert [path.name for path in find_files(str(mine))] == ["a.root", "b.root"]
