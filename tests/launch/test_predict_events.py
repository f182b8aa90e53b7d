"""launch.predict for e+e- events: the same friend trees, from objects with missing measurements."""

import json
import pathlib

import awkward as ak
import numpy as np
import pytest
import uproot

import jetfm
from jetfm.data import open_dataset
from jetfm.data.event_schema import event_schema
from launch import cli, predict
from tests.data.test_events import CHAINS, N, ingest, random_events, write
from tests.inference.toy import TASKS, save_checkpoint
from tests.jets import random_jets, write_root

pytestmark = pytest.mark.usefixtures("loaded_once")

CONFIG = str(pathlib.Path(__file__).parents[2] / "configs" / "predict.py")
CLEAR = {
  "kind": "clear",
  "width": 16,
  "depth": 1,
  "class_depth": 1,
  "heads": 2,
  "embed_widths": [16],
  "pair_widths": [8],
}
SCORES = ["score_0", "score_1", "score_2"]


def fitted():
  """The schema of events with z-scores of order one."""
  schema = event_schema(CHAINS)
  return schema.fitted({f.name: (0.1, 0.9) for f in schema.features if f.needs_fit})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Stages tag, of events, pretrain, without classes, and jets, of another kind of data."""
  folder = tmp_path_factory.mktemp("run")
  events = {"schema": fitted(), "encoder": CLEAR}
  save_checkpoint(folder / "tag" / "best", {"classification": {}}, seed=1, **events)
  save_checkpoint(folder / "pretrain" / "best", {"masked_features": {}}, seed=2, **events)
  save_checkpoint(folder / "jets" / "best", {"classification": TASKS["classification"]})
  return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp("root")
  for i in range(2):
    write(folder / f"jpsi_{i}.root", random_events(seed=i))
  return folder


@pytest.fixture(scope="module")
def predicted(files, run, tmp_path_factory):
  """The friend trees of `files` by stem, in small chunks."""
  out = tmp_path_factory.mktemp("predictions")
  assert status(run / "tag", files, out, embedding=True, chunk=25) == 0
  return {path.stem: read(path) for path in sorted(out.glob("*.root"))}


def status(checkpoint, sources, out, **keys):
  """Exit status of a run in this process."""
  keys = {"checkpoint": checkpoint, "sources": sources, "out": out, "max_particles": 16} | keys
  arguments = [f"--config.{key}={value}" for key, value in keys.items()]
  with pytest.raises(SystemExit) as stop:
    cli.run(predict.main, CONFIG, argv=["predict", *arguments], doc=predict.__doc__)
  return stop.value.code


def read(path):
  with uproot.open(path) as file:
    return file["tree_friend"].arrays(library="np")


def test_probabilities_and_embedding_of_every_event(predicted):
  assert list(predicted) == ["jpsi_0", "jpsi_1"]
  for branches in predicted.values():
    assert list(branches) == [*SCORES, "embedding"]
    assert {len(x) for x in branches.values()} == {N}
    assert {x.dtype for x in branches.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(sum(branches[name] for name in SCORES), 1, rtol=1e-5)
    assert len(np.unique(branches["score_0"])) == N
    assert branches["embedding"].shape == (N, CLEAR["width"])


def test_equal_to_the_ingested_data_set_bit_for_bit(predicted, files, run, tmp_path):
  ingest(files, tmp_path / "data")
  batches = [
    batch
    for split in ("train", "valid", "test")
    for groups in open_dataset(tmp_path / "data", "bes", split).loader(16, epochs=1).iterate()
    for batch in groups
  ]
  ids = np.concatenate([batch.event_id for batch in batches])
  used = ids >= 0
  assert sorted(ids[used]) == list(range(2 * N))
  predictor = jetfm.load(str(run / "tag"))
  columns = dict(zip(SCORES, predictor.classify(batches).T, strict=True))
  columns["embedding"] = predictor.embed(batches)
  for name, values in columns.items():
    friend = np.concatenate([branches[name] for branches in predicted.values()])
    np.testing.assert_array_equal(friend[ids[used]], values[used], err_msg=name)


@pytest.mark.parametrize("kind", ["no chains", "other names", "missing values are not numbers"])
def test_what_does_not_matter(kind, predicted, run, tmp_path):
  events, keys, chains = random_events(seed=0), {}, CHAINS
  if kind == "no chains":
    events = {k: v for k, v in events.items() if k not in ("chain", "event_number")}
    chains = None
  elif kind == "other names":
    events["trk_q"] = events.pop("q")
    keys["branches"] = "q=trk_q"
  else:
    values = np.where(ak.flatten(events["has_MUC"]) > 0, ak.flatten(events["muc_dpt"]), np.nan)
    events["muc_dpt"] = ak.unflatten(np.float32(values), ak.num(events["has_MUC"]))
  path = write(tmp_path / "in" / "jpsi_0.root", events, chains)
  assert status(run / "tag", path, tmp_path / "out", **keys) == 0
  for name, values in read(tmp_path / "out" / "jpsi_0.root").items():
    np.testing.assert_array_equal(values, predicted["jpsi_0"][name], err_msg=name)


def test_unusable_events_are_nan_and_counted(predicted, run, tmp_path, capsys):
  events = random_events(seed=0)
  flat, counts = ak.flatten(events["mdc_p3_px"]).to_numpy().copy(), ak.num(events["mdc_p3_px"])
  tracks = np.flatnonzero(ak.flatten(events["has_MDC"]).to_numpy())
  flat[tracks[0]] = np.nan
  events["mdc_p3_px"] = ak.unflatten(flat, counts)
  path, out = write(tmp_path / "in" / "jpsi_0.root", events), tmp_path / "out"
  assert status(run / "tag", path, out) == 2
  assert "branch 'mdc_p3_px'" in capsys.readouterr().err
  assert status(run / "tag", path, out, on_bad="nan") == 0
  assert "NaN: 1 events of" in capsys.readouterr().out
  bad = int(np.searchsorted(np.cumsum(counts), tracks[0], side="right"))
  for name, values in read(out / "jpsi_0.root").items():
    np.testing.assert_array_equal(np.isnan(values), np.arange(N) == bad)
    good = np.arange(N) != bad
    np.testing.assert_array_equal(values[good], predicted["jpsi_0"][name][good])


def test_pretraining_gives_an_embedding(files, run, tmp_path, capsys):
  assert status(run / "pretrain", files, tmp_path) == 2
  assert "tasks ['masked_features']" in capsys.readouterr().err
  assert status(run / "pretrain", files, tmp_path, embedding=True) == 0
  assert list(read(tmp_path / "jpsi_0.root")) == ["embedding"]


def test_the_file_names_its_classes(run, files, tmp_path):
  assert status(run / "tag", files, tmp_path) == 0
  with uproot.open(tmp_path / "jpsi_0.root") as file:
    told = json.loads(str(file["jetfm"]))
  assert told["checkpoints"][0]["classes"] == list(CHAINS)
  assert told["source"]["entries"] == N


def test_jets_and_events_are_not_mixed_up(files, run, tmp_path, capsys):
  jets = write_root(tmp_path / "TTBar_0.root", random_jets(3, "Tbqq"))
  for checkpoint, sources, words in (
    (run / "tag", jets, "no branch 'mdc_p3_px'"),
    (run / "jets", files, "a file of e+e- events"),
    (f"{run / 'tag'},{run / 'jets'}", files, "predict in two runs"),
  ):
    assert status(checkpoint, sources, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
