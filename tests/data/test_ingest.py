"""Files -> data set: what is kept, in which split and order, and that it is all or nothing."""

import dataclasses
import gc
import itertools
import json
import pathlib
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
import scipy.stats
import uproot

from jetfm.data import ingest as ingest_module
from jetfm.data import scatter
from jetfm.data.errors import DataError
from jetfm.data.manifest import SPLITS, Manifest
from jetfm.data.pipeline import open_dataset
from jetfm.data.plan import Settings, list_files, make_plan
from jetfm.data.scatter import ScatterJob
from jetfm.locks import locked
from tests.data.conftest import CLASSES, quiet_ingest, read_all
from tests.jets import PREFIXES, random_jets, write_root


def split_of_jets(directory):
  """(file name, entry) -> split, for every jet of a data set."""
  manifest = Manifest.load(directory)
  first = {s["first_event_id"]: s["path"].rsplit("/", 1)[-1] for s in manifest.sources}
  starts = np.array(sorted(first))
  found = {}
  for split in SPLITS:
    for i in read_all(open_dataset(directory, "kin4", split)):
      start = int(starts[np.searchsorted(starts, i, side="right") - 1])
      found[first[start], i - start] = split
  return found


def snapshot(directory):
  return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix == ".arrayrecord"}


def test_what_is_read_is_what_was_in_the_files(files, directory):
  manifest = Manifest.load(directory)
  entries = {}
  for source in manifest.sources:
    with uproot.open(source["path"]) as file:
      entries[source["first_event_id"]] = file["tree"].arrays().to_list()
  starts = sorted(entries)
  total = 0
  for split in SPLITS:
    dataset = open_dataset(directory, "full", split)
    schema = dataset.schema
    for i, (p4, features, label, targets, spectators) in read_all(dataset).items():
      start = max(s for s in starts if s <= i)
      jet = entries[start][i - start]
      n = min(len(jet["part_px"]), 128)
      names = ("part_energy", "part_px", "part_py", "part_pz")
      np.testing.assert_array_equal(p4, np.stack([jet[b][:n] for b in names], -1))
      for j, name in enumerate(schema.stored):
        np.testing.assert_array_equal(features[:, j], np.asarray(jet[name][:n], np.float32))
      assert jet[f"label_{schema.classes[label]}"] == 1
      np.testing.assert_array_equal(targets, np.float32([jet["jet_genmass"]]))
      np.testing.assert_array_equal(spectators, np.float32([jet[s] for s in schema.spectators]))
      total += 1
  assert total == sum(len(a) for a in entries.values())


def test_the_manifest_counts_what_is_there(directory):
  manifest = Manifest.load(directory)
  manifest.verify(directory)
  for split in SPLITS:
    events = read_all(open_dataset(directory, "kin4", split))
    chosen = manifest.splits[split]
    assert chosen.num_events == len(events)
    assert chosen.num_particles == sum(len(e[0]) for e in events.values())
    labels = [e[2] for e in events.values()]
    np.testing.assert_array_equal(chosen.class_counts(10), np.bincount(labels, minlength=10))
    assert sum(chosen.length_counts(manifest.edges)) == len(events)
  assert sum(s["kept"] for s in manifest.sources) == sum(
    manifest.splits[s].num_events for s in SPLITS
  )


@pytest.mark.parametrize("inputs", ["kin4", "kin", "full"])
def test_constants_are_those_of_the_training_split(directory, inputs):
  dataset = open_dataset(directory, inputs)
  schema = dataset.schema
  (batch,) = dataset.loader(4096, (128,), lanes=1)[0]
  assert batch.num_events == dataset.num_events
  values = np.asarray(schema.values(batch.p4, batch.features, batch.mask))[batch.mask]
  targets = np.asarray(schema.target_values(batch.p4, batch.targets, batch.mask))
  found = {f.name: f.before_zscore(values[:, i]) for i, f in enumerate(schema.features)}
  found |= {t.name: t.before_zscore(targets[:, i]) for i, t in enumerate(schema.targets)}
  assert (found["gen_mass"] == 0).any()  # jets without a particle-level one do not count
  found["gen_mass"] = found["gen_mass"][found["gen_mass"] != 0]
  fitted = 0
  for f in (*schema.features, *schema.targets):
    if any(t.kind == "zscore" for t in f.transforms):
      x = np.asarray(found[f.name]).astype(np.float64)
      np.testing.assert_allclose((f.mean, f.std), (x.mean(), x.std()), rtol=1e-5, atol=1e-6)
      fitted += 1
  assert fitted == {"kin4": 6}.get(inputs, 3)


@pytest.mark.parametrize(
  "options",
  [pytest.param({"processes": 2}, marks=pytest.mark.slow), {"chunk": 37, "job": 100}],
  ids=["processes", "chunks"],
)
def test_the_result_depends_on_nothing_but_files_and_settings(
  files, directory, tmp_path, options, monkeypatch
):
  monkeypatch.setattr(scatter, "CHUNK_EVENTS", options.get("chunk", 10_000))
  monkeypatch.setattr("jetfm.data.ingest.JOB_EVENTS", options.get("job", 50_000))
  quiet_ingest(files, tmp_path, processes=options.get("processes", 1), block_events=32)
  assert snapshot(tmp_path) == snapshot(directory)
  a, b = (json.loads((d / "manifest.json").read_text()) for d in (tmp_path, directory))
  assert a == b


def test_jets_of_one_generated_event_stay_together(files, directory):
  split = split_of_jets(directory)
  together = 0
  for path in files.iterdir():
    with uproot.open(path) as file:
      number = file["tree/event_number"].array(library="np")
    for i in np.flatnonzero(np.diff(number) == 0):
      assert split[path.name, i] == split[path.name, i + 1]
      together += 1
  assert together > 100 and len(set(split.values())) == 3


@pytest.mark.parametrize("numbered", [True, False])
def test_a_number_names_the_same_event_in_every_file(tmp_path, numbered):
  """The two jets of an event may be in two files. Numbers of entries mean nothing of the kind."""
  number = random_jets(200)["event_number"]
  for label in ("QCD", "Hbb"):
    jets = random_jets(200, label) | {"event_number": number}
    if not numbered:
      del jets["event_number"]
    write_root(tmp_path / f"{PREFIXES[label]}_0.root", jets)
  quiet_ingest(tmp_path, tmp_path / "out", fractions=(0.4, 0.3, 0.3))
  split = split_of_jets(tmp_path / "out")
  one, two = ([split[f"{PREFIXES[c]}_0.root", i] for i in range(200)] for c in ("QCD", "Hbb"))
  same = np.mean([a == b for a, b in zip(one, two, strict=True)])
  if numbered:
    assert same == 1 and len(set(one)) == 3
  else:  # as often as by chance, 0.34, within five standard deviations
    assert abs(same - 0.34) < 5 * np.sqrt(0.34 * 0.66 / 200)


def test_adding_a_file_moves_no_other_event(files, directory, tmp_path):
  extra = write_root(tmp_path / "HToBB_000a.root", random_jets(50, "Hbb", seed=77))
  quiet_ingest(f"{files},{extra}", tmp_path / "more")
  before, after = split_of_jets(directory), split_of_jets(tmp_path / "more")
  assert len(after) == len(before) + 50
  assert {k: after[k] for k in before} == before


def test_fractions_and_given_splits(files, tmp_path):
  quiet_ingest(files, tmp_path / "half", fractions=(0.5, 0.0, 0.5))
  counts = [Manifest.load(tmp_path / "half").splits[s].num_events for s in SPLITS]
  assert counts[1] == 0 and abs(counts[0] - counts[2]) < 5 * np.sqrt(sum(counts))
  quiet_ingest({"train": f"{files}/*_000.root", "test": f"{files}/*_001.root"}, tmp_path / "given")
  for (name, _), split in split_of_jets(tmp_path / "given").items():
    assert split == {"000": "train", "001": "test"}[name[-8:-5]]


@pytest.mark.parametrize("splits", [("train", "test"), ("", "valid"), ("train", "train"), ("", "")])
@pytest.mark.parametrize("copy", [pathlib.Path.symlink_to, shutil.copyfile, None])
def test_a_file_is_stored_once(tmp_path, splits, copy):
  """Whether it is named twice, or there twice under two names."""
  first = write_root(tmp_path / "HToBB_0.root", random_jets(40, "Hbb"))
  second = tmp_path / "HToBB_1.root" if copy else first.parent / ".." / tmp_path.name / first.name
  if copy is shutil.copyfile:
    copy(first, second)
  elif copy:
    copy(second, first)
  sources = {}
  for split, path in zip(splits, (first, second), strict=True):
    sources[split] = f"{sources[split]},{path}" if split in sources else str(path)
  reason = "stored twice" if len(sources) == 1 else "named for two splits"
  with pytest.raises(DataError, match=reason) as error:
    quiet_ingest(sources, tmp_path / "out", on_bad="drop")
  assert str(first) in str(error.value) and str(second) in str(error.value)


def test_files_without_entries_are_no_copies(tmp_path):
  """What a tight selection leaves is often the same empty table."""
  write_root(tmp_path / "HToBB_0.root", random_jets(40, "Hbb"))
  empty = write_root(tmp_path / "HToBB_1.root", {k: v[:0] for k, v in random_jets(1).items()})
  shutil.copyfile(empty, tmp_path / "HToBB_2.root")
  assert [s["kept"] for s in quiet_ingest(tmp_path, tmp_path / "out").sources] == [40, 0, 0]


def test_seeds_give_other_splits_and_orders(files, directory, tmp_path):
  quiet_ingest(files, tmp_path, seed=1, block_events=32)
  before, after = split_of_jets(directory), split_of_jets(tmp_path)
  assert before.keys() == after.keys() and before != after


def test_every_block_is_a_random_sample_of_its_length_class(directory):
  """Classes come in files of one class each; in the blocks they are mixed."""
  total, degrees = 0.0, 0
  shards = Manifest.load(directory).splits["train"].shards
  for shard in shards:
    table = np.array(shard.blocks)[:, np.sum(shard.blocks, axis=0) > 0]
    if min(table.shape) > 1:
      result = scipy.stats.chi2_contingency(table)
      total, degrees = total + result.statistic, degrees + result.dof
  assert degrees > 20 and total < scipy.stats.chi2.ppf(1 - 1e-4, degrees)


def test_blocks_hold_one_length_class(directory):
  manifest = Manifest.load(directory)
  shortest = dict(zip(manifest.edges, (0, *manifest.edges), strict=False))
  dataset = open_dataset(directory, "kin4")
  for edge, blocks in zip(manifest.edges, dataset.blocks, strict=True):
    one = dataclasses.replace(
      dataset, blocks=tuple(blocks if e == edge else () for e in manifest.edges)
    )
    for p4, *_ in read_all(one).values() if blocks else ():
      assert shortest[edge] < len(p4) <= edge
    assert all(b.events <= 32 for b in blocks)


def test_long_jets_keep_their_leading_particles(files, directory, tmp_path):
  manifest = quiet_ingest(files, tmp_path, edges=(8, 24))
  cut, particles = 0, Manifest.load(directory).truncated["particles"]
  for split in SPLITS:
    short = read_all(open_dataset(tmp_path, "full", split))
    long = read_all(open_dataset(directory, "full", split))
    assert short.keys() == long.keys()
    for i, (p4, features, *_) in short.items():
      np.testing.assert_array_equal(p4, long[i][0][:24])
      np.testing.assert_array_equal(features, long[i][1][:24])
      cut += len(long[i][0]) > 24
      particles += max(len(long[i][0]) - 24, 0)
  assert manifest.truncated == {"events": cut, "particles": particles} and cut > 0


def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
  monkeypatch.setattr(scatter, "CHUNK_EVENTS", 250)

  def peak(jets):
    path = tmp_path / f"HToBB_{jets}.root"
    source = write_root(path, random_jets(jets, "Hbb"), basket=250)
    found = []
    for again in range(3):  # the least: threads of other tests may allocate meanwhile
      out = tmp_path / f"out{jets}_{again}"
      gc.collect()
      tracemalloc.start()
      quiet_ingest(source, out, memory_megabytes=4, edges=(128,))
      found.append(tracemalloc.get_traced_memory()[1])
      tracemalloc.stop()
    shards = Manifest.load(out).splits["train"].shards
    assert max(s.bytes for s in shards) < 1.5 * 2**20
    return min(found), len(shards)

  peak(100)  # what is loaded once
  (small, few), (large, many) = peak(1500), peak(6000)
  assert many > 2 * few
  assert large < 1.3 * small


def test_reports_do_not_grow_with_the_number_of_shards(files, tmp_path):
  """Thousands of them go through the parent."""
  settings = Settings()
  plan = make_plan(list_files({"": str(files)}), settings, say=lambda line: None)
  file = plan.files[0]

  def size(buckets):
    job = ScatterJob(
      0, file.path, file.split, 0, file.entries, 0, file.expected_class, tmp_path / "index"
    )
    report = scatter.scatter(job, plan.layout, plan.classes, settings, buckets)
    assert report.kept == file.entries
    return len(pickle.dumps(report))

  assert size(4096) == size(1)


def test_a_complete_data_set_is_kept_and_another_is_not_overwritten(files, tmp_path):
  quiet_ingest(files, tmp_path)
  before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
  quiet_ingest(files, tmp_path)
  assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
  with pytest.raises(DataError, match=r"seed 0 instead of 5.*overwrite=True"):
    quiet_ingest(files, tmp_path, seed=5)
  with pytest.raises(DataError, match="6 differ"):
    quiet_ingest(f"{files}/HToBB_*", tmp_path)
  assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
  mine = tmp_path / "notes.txt"
  mine.write_text("mine")
  quiet_ingest(files, tmp_path, seed=5, overwrite=True)
  assert Manifest.load(tmp_path).settings["seed"] == 5 and mine.exists()


@pytest.mark.parametrize("phase", ["read", "write"])
@pytest.mark.parametrize("older", [False, True])
def test_an_interrupted_ingest_leaves_what_there_was(files, tmp_path, phase, older):
  from jetfm.data.ingest import ingest

  if older:
    quiet_ingest(f"{files}/HToBB_000.root", tmp_path)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

  def interrupt(name, done, total):
    if name == phase and done == (total if phase == "write" else done) > 0:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    ingest({"": str(files)}, tmp_path, overwrite=True, say=lambda line: None, progress=interrupt)
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_bad_input_leaves_an_older_data_set_as_it_was(files, tmp_path):
  quiet_ingest(files, tmp_path / "out")
  before = snapshot(tmp_path / "out")
  jets = random_jets(20, "Hbb")
  jets["jet_pt"][7] = np.nan
  write_root(tmp_path / "HToBB_bad.root", jets)
  with pytest.raises(DataError, match="entry 7"):
    quiet_ingest(tmp_path / "HToBB_bad.root", tmp_path / "out", overwrite=True)
  assert snapshot(tmp_path / "out") == before
  Manifest.load(tmp_path / "out").verify(tmp_path / "out")


def test_leftovers_of_a_killed_run_do_not_matter(files, tmp_path):
  (tmp_path / ".ingest").mkdir()
  (tmp_path / ".ingest" / "spool-000000.events").write_bytes(b"half")
  (tmp_path / "train-00000-of-00099.arrayrecord").write_bytes(b"half")
  quiet_ingest(files, tmp_path)
  names = {s.file for split in SPLITS for s in Manifest.load(tmp_path).splits[split].shards}
  assert {p.name for p in tmp_path.iterdir()} == names | {"manifest.json"}


def test_a_data_set_that_came_meanwhile_is_not_replaced(files, tmp_path, monkeypatch):
  plan = ingest_module.make_plan

  def slowly(*arguments):
    monkeypatch.setattr(ingest_module, "make_plan", plan)
    quiet_ingest(files, tmp_path, seed=1)
    return plan(*arguments)

  monkeypatch.setattr(ingest_module, "make_plan", slowly)
  with pytest.raises(DataError, match="holds another data set"):
    quiet_ingest(files, tmp_path, seed=2)
  assert Manifest.load(tmp_path).settings["seed"] == 1


def test_one_ingest_at_a_time_writes_a_data_set(files, tmp_path):
  """The second one touches nothing of the first; a killed one holds nothing."""
  (tmp_path / ".ingest").mkdir()
  (tmp_path / ".ingest" / "spool").write_bytes(b"of the first")
  with locked(tmp_path / ".ingest.lock"):
    with pytest.raises(DataError, match="another ingest is writing"):
      quiet_ingest(files, tmp_path)
    assert (tmp_path / ".ingest" / "spool").exists()
  quiet_ingest(files, tmp_path)
  Manifest.load(tmp_path)
  assert not list(tmp_path.glob(".ingest*"))


def test_optional_columns_are_left_out_aloud(tmp_path):
  jets = random_jets(40, "Hbb")
  del jets["jet_genmass"], jets["aux_truth_match"]
  write_root(tmp_path / "HToBB_0.root", jets)
  write_root(tmp_path / "HToBB_1.root", random_jets(40, "Hbb", seed=1))
  said = []
  from jetfm.data.ingest import ingest

  manifest = ingest({"": str(tmp_path)}, tmp_path / "out", say=said.append)
  assert "gen_mass (no branch 'jet_genmass' in 1 of 2 files)" in said[0]
  assert "aux_truth_match" in said[0] and "jet_pt" not in said[0]
  schema = manifest.schemas["kin"]
  assert [t.name for t in schema.targets] == ["mass", "seed_mass"]
  assert "aux_truth_match" not in schema.spectators and "jet_pt" in schema.spectators


def test_a_target_that_no_event_has_is_left_out_aloud(tmp_path):
  from jetfm.data.ingest import ingest

  jets = random_jets(40, "Hbb")
  jets["jet_genmass"] = 0 * jets["jet_genmass"]
  write_root(tmp_path / "HToBB_0.root", jets)
  said = []
  ingest({"": str(tmp_path)}, tmp_path / "out", say=said.append)
  assert said == ["left out of the schema: gen_mass (0 for every event of the training split)"]
  dataset = open_dataset(tmp_path / "out", "kin4")
  assert [t.name for t in dataset.schema.targets] == ["mass", "seed_mass"]
  assert not any(f.needs_fit for f in (*dataset.schema.features, *dataset.schema.targets))
  place = dataset.schema.spectators.index("jet_sdmass")  # columns keep their names
  for i, (*_, targets, spectators) in read_all(dataset).items():
    assert len(targets) == 0 and spectators[place] == jets["jet_sdmass"][i]


class TestManifest:
  """What is refused when a data set is opened."""

  @pytest.fixture
  def damaged(self, directory, tmp_path):
    for path in directory.iterdir():
      (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path

  def test_a_directory_without_one_is_no_data_set(self, tmp_path):
    with pytest.raises(DataError, match=r"no manifest.json.*launch.ingest"):
      Manifest.load(tmp_path)

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      (lambda d: d.update(version=99), "version 99, this library reads 1"),
      (lambda d: d.update(format="other"), "not a manifest"),
      (lambda d: d.pop("classes"), r"damaged \(KeyError\('classes'\)"),
    ],
  )
  def test_contents_that_make_no_sense(self, damaged, change, message):
    path = damaged / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
      Manifest.load(damaged)

  def test_half_a_manifest(self, damaged):
    path = damaged / "manifest.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(DataError, match="not JSON"):
      Manifest.load(damaged)

  def test_missing_and_cut_shards(self, damaged):
    shard = next(damaged.glob("train-*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    with pytest.raises(DataError, match=f"{shard.name}: .* bytes, the manifest"):
      Manifest.load(damaged)
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
      Manifest.load(damaged)

  def test_flipped_bytes(self, damaged):
    manifest = Manifest.load(damaged)
    shard = damaged / manifest.splits["train"].shards[2].file
    data = bytearray(shard.read_bytes())
    for at in range(2000, len(data), 4096):
      data[at] ^= 0x10
    shard.write_bytes(data)
    with pytest.raises(DataError, match="checksum differs"):
      manifest.verify(damaged)
    with pytest.raises(DataError, match="damaged"):
      read_all(open_dataset(damaged, "kin4"))

  def test_json_brings_it_back(self, directory, tmp_path):
    manifest = Manifest.load(directory)
    manifest.save(tmp_path)
    for shard in itertools.chain(*(s.shards for s in manifest.splits.values())):
      (tmp_path / shard.file).write_bytes((directory / shard.file).read_bytes())
    assert Manifest.load(tmp_path) == manifest


def test_classes_are_those_of_jetclass(directory):
  assert Manifest.load(directory).classes == tuple(PREFIXES) and set(CLASSES) < set(PREFIXES)
