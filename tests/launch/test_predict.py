"""launch.predict as users run it: friend trees, and what is refused."""

import json
import os
import pathlib
import shutil
import signal
import types

import awkward as ak
import numpy as np
import pytest
import uproot

from jetfm import inference
from jetfm.data import open_dataset
from jetfm.data.ingest import ingest
from jetfm.data.jet_schema import jet_schema
from jetfm.data.plan import Settings
from launch import cli, evaluate, predict
from launch.evaluation import tasks
from tests.inference.toy import SCHEMA, TARGETS, TASKS, save_checkpoint
from tests.jets import random_jets, write_root

pytestmark = pytest.mark.usefixtures("loaded_once")

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "predict.py")
LONGEST = 24
JETS = 150
SCORES = [f"score_{name}" for name in SCHEMA.classes]
MASSES = [f"pred_{name}" for name in TASKS["regression"]["targets"]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
  """The folder of a run with the stages classify and regress, of different encoders."""
  run = tmp_path_factory.mktemp("run")
  save_checkpoint(run / "classify" / "best", ["classification"], seed=1)
  save_checkpoint(run / "regress" / "best", ["regression"], seed=2)
  return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Two files of jets, some too long; in the second, particles come in the wrong order."""
  folder = tmp_path_factory.mktemp("root")
  write_root(folder / "TTBar_0.root", jets_of("Tbqq"))
  turned = {k: v[:, ::-1] if k.startswith("part_") else v for k, v in jets_of("QCD").items()}
  write_root(folder / "ZJetsToNuNu_0.root", turned)
  return folder


@pytest.fixture(scope="module")
def predicted(files, checkpoints, tmp_path_factory):
  """The friend trees of `files`, by stem of the file, from both checkpoints, in small chunks."""
  out = tmp_path_factory.mktemp("predictions")
  both = f"{checkpoints / 'classify'},{checkpoints / 'regress'}"
  assert status(both, files, out, embedding=True, chunk=64) == 0
  return {path.stem: read(path) for path in sorted(out.glob("*.root"))}


def jets_of(label, n=JETS):
  return random_jets(n, label, mean_particles=16)


def status(checkpoint, sources, out, **keys):
  """Exit status of a run in this process."""
  keys = {"checkpoint": checkpoint, "sources": sources, "out": out, "max_particles": LONGEST} | keys
  arguments = [f"--config.{key}={value}" for key, value in keys.items()]
  with pytest.raises(SystemExit) as stop:
    cli.run(predict.main, CONFIG, argv=["predict", *arguments], doc=predict.__doc__)
  return stop.value.code


def read(path):
  """All branches of a friend tree."""
  with uproot.open(path) as file:
    return file["tree_friend"].arrays(library="np")


def assert_same(got, want):
  assert list(got) == list(want)
  for name in want:
    np.testing.assert_array_equal(got[name], want[name], strict=True, err_msg=name)


def test_a_friend_has_the_entries_of_its_file(predicted, files):
  assert list(predicted) == ["TTBar_0", "ZJetsToNuNu_0"]
  for stem, branches in predicted.items():
    assert list(branches) == [*SCORES, "embedding", *MASSES]
    with uproot.open(files / f"{stem}.root") as file:
      assert {len(x) for x in branches.values()} == {file["tree"].num_entries}
    assert {x.dtype for x in branches.values()} == {np.dtype(np.float32)}
    assert branches["embedding"].shape[1:] == (16,)
    total = sum(branches[name] for name in SCORES)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert all(len(np.unique(branches[name])) > JETS / 2 for name in MASSES)


def test_equal_to_the_ingested_data_set_bit_for_bit(predicted, files, checkpoints, tmp_path):
  """File -> friend, and file -> records -> batches -> Predictor, where events are shuffled."""
  settings = Settings(edges=(12, LONGEST), block_events=16)
  ingest({"": str(files)}, tmp_path, settings, say=lambda line: None)
  datasets = [open_dataset(tmp_path, "full", split) for split in ("train", "valid", "test")]
  batches = [
    batch
    for dataset in datasets
    for groups in dataset.loader(32, epochs=1, seed=3).iterate()
    for batch in groups
  ]
  ids = np.concatenate([batch.event_id for batch in batches])
  used = ids >= 0
  assert sorted(ids[used]) == list(range(2 * JETS))

  classify = inference.load(str(checkpoints / "classify"))
  regress = inference.load(str(checkpoints / "regress"))
  columns = dict(zip(SCORES, classify.classify(batches).T, strict=True))
  columns |= {f"pred_{name}": x for name, x in regress.regress(batches).items()}
  columns["embedding"] = classify.embed(batches)
  for name, values in columns.items():
    # Events are numbered through the files in the order of their names.
    friend = np.concatenate([branches[name] for branches in predicted.values()])
    np.testing.assert_array_equal(friend[ids[used]], values[used], err_msg=name)


def test_equal_to_what_evaluation_sees_bit_for_bit(
  predicted, files, checkpoints, tmp_path, monkeypatch
):
  """File -> friend, and file -> records -> launch.evaluate, with the defaults of both."""
  settings = Settings(classes=SCHEMA.classes, edges=(12, LONGEST), block_events=16)
  ingest({"": str(files)}, tmp_path / "data", settings, say=lambda line: None)
  seen = []
  section = tasks.classification_section

  def watched(jets, probabilities, *args, **options):
    seen.append(probabilities)
    return section(jets, probabilities, *args, **options)

  monkeypatch.setattr(tasks, "classification_section", watched)
  keys = {"runs": checkpoints / "classify", "data": tmp_path / "data", "out": tmp_path / "out"}
  keys |= {"probes": "", "figures": False, "train_events": 0}
  argv = ["evaluate", *(f"--config.{key}={value}" for key, value in keys.items())]
  with pytest.raises(SystemExit) as stop:
    cli.run(evaluate.main, str(ROOT / "configs" / "evaluate.py"), argv=argv, doc=evaluate.__doc__)
  assert stop.value.code == 0
  classify = inference.load(str(checkpoints / "classify"))
  sample = evaluate.Samples(str(tmp_path / "data"), "test", 0, 0).test(classify)
  ids = np.concatenate([batch.event_id for batch in sample.batches])
  friend = [
    np.stack([branches[name] for name in SCORES], axis=1) for branches in predicted.values()
  ]
  np.testing.assert_array_equal(np.concatenate(friend)[ids], seen[0])


@pytest.mark.parametrize("kind", ["other order", "only what is needed", "parquet", "other names"])
def test_what_else_is_in_the_file_does_not_matter(kind, predicted, checkpoints, tmp_path):
  jets = jets_of("Tbqq")
  path = tmp_path / "in" / "TTBar_0.root"
  path.parent.mkdir()
  keys = {"chunk": 1000}
  if kind == "other order":
    write_root(path, dict(reversed(jets.items())))
  else:
    needed = ("part_px", "part_py", "part_pz", "part_energy", *SCHEMA.stored)
    jets = {name: jets[name] for name in needed}
    if kind == "other names":
      keys["branches"] = "part_py=pf_py,part_d0val=pf_d0"
      jets = {{"part_py": "pf_py", "part_d0val": "pf_d0"}.get(k, k): v for k, v in jets.items()}
    if kind == "parquet":
      path = path.with_suffix(".parquet")
      ak.to_parquet(ak.Array(jets), path)
    else:
      write_root(path, jets)
  assert status(checkpoints / "classify", path, tmp_path / "out", **keys) == 0
  want = {name: predicted["TTBar_0"][name] for name in SCORES}
  assert_same(read(tmp_path / "out" / "TTBar_0.root"), want)


def test_arrays_without_labels_give_what_root_gives(tmp_path):
  schema = jet_schema("kin", SCHEMA.classes).fitted(TARGETS)
  checkpoint = tmp_path / "run" / "classify" / "best"
  save_checkpoint(checkpoint, ["classification"], schema=schema)
  momenta = {f"part_{c}": jets_of("Tbqq")[f"part_{c}"] for c in ("energy", "px", "py", "pz")}
  root, npz = (tmp_path / suffix / f"jets.{suffix}" for suffix in ("root", "npz"))
  for path in (root, npz):
    path.parent.mkdir()
  write_root(root, momenta)
  longest = int(ak.max(ak.num(momenta["part_px"])))
  padded = [ak.fill_none(ak.pad_none(x, longest), 0) for x in momenta.values()]
  np.savez(npz, p4=np.stack([ak.to_numpy(x) for x in padded], axis=-1).astype(np.float32))
  for path in (root, npz):
    assert status(checkpoint, path, tmp_path / f"{path.suffix[1:]}_out") == 0
  friends = [read(tmp_path / f"{path.suffix[1:]}_out" / "jets.root") for path in (npz, root)]
  assert_same(*friends)


def test_no_entries(checkpoints, tmp_path):
  path = write_root(tmp_path / "TTBar_0.root", {k: v[:0] for k, v in jets_of("Tbqq", 3).items()})
  assert status(checkpoints / "classify", path, tmp_path / "out", embedding=True) == 0
  branches = read(tmp_path / "out" / "TTBar_0.root")
  assert list(branches) == [*SCORES, "embedding"]
  assert {len(x) for x in branches.values()} == {0}


def broken(kind):
  """Jets of which some cannot be used, and which."""
  jets = jets_of("Tbqq")
  bad = [5, 70]
  if kind == "no particles":
    for name, x in jets.items():
      if name.startswith("part_"):
        counts = ak.to_numpy(ak.num(x))
        counts[bad] = 0
        jets[name] = x[ak.local_index(x) < counts]
  else:
    flat, counts = ak.flatten(jets["part_d0val"]).to_numpy().copy(), ak.num(jets["part_d0val"])
    flat[np.cumsum(counts)[bad] - 1] = np.nan
    jets["part_d0val"] = ak.unflatten(flat, counts)
  return jets, bad


@pytest.mark.parametrize("kind", ["no particles", "NaN"])
def test_unusable_jets(kind, predicted, checkpoints, tmp_path, capsys):
  jets, bad = broken(kind)
  path, out = write_root(tmp_path / "TTBar_0.root", jets), tmp_path / "out"
  assert status(checkpoints / "classify", path, out, chunk=60) == 2
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert "TTBar_0.root, entry 5, branch 'part_" in error and "--config.on_bad=nan" in error
  assert not list(out.iterdir())

  assert status(checkpoints / "classify", path, out, chunk=60, on_bad="nan", embedding=True) == 0
  assert "NaN: 2 jets of" in capsys.readouterr().out
  good = np.setdiff1d(np.arange(JETS), bad)
  for name, values in read(out / "TTBar_0.root").items():
    assert np.isnan(values[bad]).all() and len(values) == JETS
    np.testing.assert_array_equal(values[good], predicted["TTBar_0"][name][good])


def test_a_missing_branch_is_found_before_any_work(files, checkpoints, tmp_path, capsys):
  jets = {k: v for k, v in jets_of("Tbl").items() if k != "part_d0val"}
  path = write_root(tmp_path / "ZZZ_last.root", jets)
  out = tmp_path / "out"
  assert status(checkpoints / "classify", f"{files},{path}", out) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  for words in ("ZZZ_last.root, tree 'tree'", "no branch 'part_d0val'", "nearest", "classify/best"):
    assert words in error
  assert not out.exists()


def test_a_file_damaged_inside_leaves_nothing(checkpoints, tmp_path, capsys):
  """The last basket of a branch is found to be bad when chunks have been written already."""
  path = write_root(tmp_path / "TTBar_0.root", jets_of("Tbqq", 400), basket=100)
  with uproot.open(path) as file:
    start = int(file["tree"]["part_dzerr"].member("fBasketSeek")[3])
  data = bytearray(path.read_bytes())
  data[start : start + 200] = bytes(200)
  path.write_bytes(bytes(data))
  out = tmp_path / "out"
  assert status(checkpoints / "classify", path, out, chunk=100) == 2
  assert "not a readable ROOT file" in capsys.readouterr().err
  assert not list(out.iterdir())


def test_sigterm_leaves_nothing(files, checkpoints, tmp_path, monkeypatch, capsys):
  def end(*_):
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(predict.Progress, "update", end)  # after the first chunk
  out = tmp_path / "out"
  assert status(checkpoints / "classify", files, out, chunk=100) == 130
  assert "interrupted" in capsys.readouterr().err
  assert not list(out.iterdir())


def test_nothing_is_overwritten_unasked(checkpoints, tmp_path, capsys):
  path, out = write_root(tmp_path / "TTBar_0.root", jets_of("Tbqq", 20)), tmp_path / "out"
  before = path.read_bytes()
  for overwrite in (False, True):
    assert status(checkpoints / "classify", path, tmp_path, overwrite=overwrite) == 2
    assert "is one of the sources" in capsys.readouterr().err
  assert path.read_bytes() == before

  assert status(checkpoints / "classify", path, out) == 0
  first = (out / "TTBar_0.root").read_bytes()
  assert status(checkpoints / "regress", path, out) == 2
  error = capsys.readouterr().err
  assert "is there already, made with other checkpoints: use --config.overwrite=True" in error
  assert (out / "TTBar_0.root").read_bytes() == first
  assert status(checkpoints / "regress", path, out, overwrite=True) == 0
  assert list(read(out / "TTBar_0.root")) == MASSES


def test_the_same_command_goes_on(checkpoints, tmp_path, monkeypatch, capsys):
  """What is there is kept, and only that which the same work would make again."""
  for stem in ("TTBar_0", "TTBar_1"):
    path = write_root(tmp_path / "root" / f"{stem}.root", jets_of("Tbqq", 20))
  run, out = tmp_path / "run", tmp_path / "out"
  shutil.copytree(checkpoints / "classify", run)
  assert status(run, tmp_path / "root", out) == 0
  kept, missing = (out / f"{stem}.root" for stem in ("TTBar_0", "TTBar_1"))
  before, whole = kept.stat().st_mtime_ns, read(missing)
  missing.unlink()
  moved = run.rename(tmp_path / "moved")
  other_device = types.SimpleNamespace(device_kind="another")
  capsys.readouterr()
  with monkeypatch.context() as patch:
    patch.setattr(predict.jax, "devices", lambda: [other_device])
    assert status(moved, tmp_path / "root", out) == 0
  assert "1 of 2 files were there already" in capsys.readouterr().out
  assert kept.stat().st_mtime_ns == before
  for name, values in read(missing).items():
    np.testing.assert_array_equal(values, whole[name])

  for keys, words in (({"max_particles": 10}, "max_particles"), ({"embedding": True}, "embedding")):
    assert status(moved, tmp_path / "root", out, **keys) == 2
    assert f"made with other {words}: use" in capsys.readouterr().err
  write_root(path, jets_of("Tbqq", 21))
  assert status(moved, tmp_path / "root", out) == 2
  assert "TTBar_1.root is there already, made with other source: use" in capsys.readouterr().err
  again = tmp_path / "again"  # as many steps, and other parameters
  save_checkpoint(again / "best", ["classification"], seed=3)
  assert status(again, path.with_name("TTBar_0.root"), out) == 2
  assert "made with other checkpoints: use" in capsys.readouterr().err
  write_root(missing, jets_of("Tbqq", 5))
  assert status(moved, path, out) == 2
  assert "TTBar_1.root is there already, not made by launch.predict" in capsys.readouterr().err


def test_two_files_of_one_name(checkpoints, tmp_path, capsys):
  for folder in ("a", "b"):
    (tmp_path / folder).mkdir()
    write_root(tmp_path / folder / "TTBar_0.root", jets_of("Tbqq", 5))
  assert status(checkpoints / "classify", tmp_path, tmp_path / "out") == 2
  assert "would both be predicted in" in capsys.readouterr().err


def test_the_file_says_where_it_comes_from(checkpoints, tmp_path):
  path, out = write_root(tmp_path / "TTBar_0.root", jets_of("Tbqq", 5)), tmp_path / "out"
  assert status(checkpoints / "classify", path, out) == 0
  with uproot.open(out / "TTBar_0.root") as file:
    told = json.loads(str(file["jetfm"]))
  source = told["source"]
  assert (source["file"], source["entries"]) == (str(path), 5)
  assert source["bytes"] == path.stat().st_size
  (checkpoint,) = told["checkpoints"]
  assert checkpoint["step"] == 7 and checkpoint["tasks"] == ["classification"]
  assert pathlib.Path(checkpoint["folder"]).parent == checkpoints / "classify" / "best"
  assert {"jetfm", "jax", "numpy", "uproot"} <= set(told["versions"])


def test_pretraining_gives_an_embedding_only(checkpoints, tmp_path, capsys):
  path, out = write_root(tmp_path / "TTBar_0.root", jets_of("Tbqq", 5)), tmp_path / "out"
  save_checkpoint(tmp_path / "pretrain" / "last", ["masked_particles"])
  assert status(tmp_path / "pretrain", path, out) == 2
  assert "tasks ['masked_particles']" in capsys.readouterr().err
  assert status(tmp_path / "pretrain", path, out, embedding=True) == 0
  assert list(read(out / "TTBar_0.root")) == ["embedding"]
  both = f"{checkpoints / 'classify'},{checkpoints / 'classify' / 'best'}"
  assert status(both, path, out) == 2
  assert "branch 'score_QCD' comes from both" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("keys", "words"),
  [
    ({"checkpoint": "{run}"}, "classify/best, regress/best"),
    ({"checkpoint": "{run}/classify/lst"}, "does not exist"),
    ({"checkpoint": ""}, "give --config.checkpoint"),
    ({"sources": ""}, "give --config.sources"),
    ({"sources": "nowhere"}, "'nowhere' holds no data files"),
    ({"out": ""}, "give --config.out"),
    ({"out": "/proc/x"}, "cannot write predictions to '/proc/x'"),
    ({"on_bad": "drop"}, "'error' or 'nan'"),
    ({"max_particles": 1000}, "from 1 to 512"),
    ({"chunk": 0}, "at least 1"),
    ({"branches": "part_px"}, "expected NAME=BRANCH"),
    ({"branches": "part_pz2=x"}, "the nearest is 'part_pz'"),
    ({"checkpoints": "x"}, "nearest is 'checkpoint'"),
  ],
)
def test_a_mistake_is_one_line_and_status_2(keys, words, files, checkpoints, tmp_path, capsys):
  keys = {"checkpoint": "{run}/classify", "sources": files, "out": tmp_path / "out"} | keys
  keys = {key: str(value).format(run=checkpoints) for key, value in keys.items()}
  assert status(**keys) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_help_explains_every_key(capsys):
  with pytest.raises(SystemExit) as stop:
    cli.run(predict.main, CONFIG, argv=["predict", "--help"], doc=predict.__doc__)
  assert stop.value.code == 0
  text = capsys.readouterr().out
  for key in cli.load_file(CONFIG):
    assert f"\n{key} " in text
  assert "AddFriend" in text
