"""benchmarks.embeddings: what it compares, on a checkpoint that has learnt nothing."""

import json

import jax
import numpy as np
import optax
import pytest

from benchmarks import embeddings
from jetfm import inference, train
from jetfm.data.ingest import ingest
from jetfm.data.manifest import Manifest
from jetfm.data.plan import Settings
from tests.jets import write_files
from tests.variables import initial

ENCODER = {"kind": "part", "width": 8, "depth": 1, "heads": 2, "embed_widths": [8], "pair": None}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  folder = tmp_path_factory.mktemp("jets")
  files = write_files(folder / "root", ("QCD", "Tbqq"), jets=60, mean_particles=10)
  settings = Settings("kin", fractions=(0.5, 0.1, 0.4), edges=(8, 16))
  ingest({"": str(files)}, folder / "records", settings, say=lambda line: None)
  return folder / "records"


@pytest.fixture(scope="module")
def checkpoint(dataset, tmp_path_factory):
  """Fresh parameters, as training would save them."""
  folder = tmp_path_factory.mktemp("run") / "pretrain" / "best"
  schema = Manifest.load(dataset).schema("kin")
  description = train.describe_model(schema, ENCODER, {"masked_particles": {}})
  model, tasks, _ = train.build_model(description)
  (task,) = tasks.values()
  key = jax.random.key(0)

  def init(key, events):
    return model.init(key, {task.name: task.views(key, events, False)})

  variables = initial(init, key, inference.groups.filler(schema, 1, 16))
  labels = train.label(variables["params"], train.make_strategy("full", 1))
  checkpoints = train.Checkpoints(folder, {"model": description}, optimizer=False)
  checkpoints.save(train.create(variables, optax.sgd(0.1), labels, key), {"finished": True})
  checkpoints.close()
  return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory):
  """Padded jets of two classes, in one of the two published files."""
  folder = tmp_path_factory.mktemp("real")
  rng = np.random.default_rng(0)
  label = rng.integers(0, 2, 40)
  count = rng.integers(3, 8, 40) + 4 * label
  p3 = rng.normal(size=(40, 12, 3)) * 5 + [20, 3, -8]
  p4 = np.concatenate([np.sqrt((p3**2).sum(-1, keepdims=True) + 0.02), p3], axis=-1)
  np.savez(folder / embeddings.REAL["top"], p4=p4, num_particles=count, label=label)
  return folder


@pytest.mark.slow
def test_a_random_encoder_gains_nothing_over_itself(checkpoint, dataset, real):
  predictor = inference.untrained(inference.load(checkpoint), 0)
  samples = [
    embeddings.read_data_set(dataset, "kin", 1000),
    embeddings.read_real("top", real / embeddings.REAL["top"], predictor.schema),
  ]
  rows = embeddings.measure(predictor, samples, 1)
  assert {row["name"]: (row["value"], row["holds"]) for row in rows} == {
    f"{probe}_{sample}_gain": (0, False)
    for probe in ("knn", "linear")
    for sample in ("jetclass", "top")
  }


def test_every_event_is_learnt_from_or_asked_once_and_filler_never(dataset):
  sample = embeddings.read_data_set(dataset, "kin", 1000)
  splits = Manifest.load(dataset).splits
  (train_rows, test_rows) = sample.divisions[0]
  assert len(train_rows) == splits["train"].num_events
  assert len(test_rows) == splits["test"].num_events
  ids = np.concatenate([batch.event_id for batch in sample.batches])
  assert len(set(ids[train_rows]) | set(ids[test_rows])) == len(train_rows) + len(test_rows)
  assert len(set(sample.label[test_rows])) == 2


def test_halves_have_equal_shares_of_the_classes():
  label = np.random.default_rng(1).integers(0, 2, 101)
  for first, second in embeddings._halves(label):
    assert sorted([*first, *second]) == list(range(101))
    assert abs(int(label[first].sum()) - int(label[second].sum())) <= 1


@pytest.mark.slow
def test_the_last_line_is_json_and_tells_the_status(checkpoint, dataset, real, capsys):
  argv = [f"--checkpoint={checkpoint}", f"--data={dataset}", f"--real={real}", "--seeds=2"]
  status = embeddings.main(argv)
  out = capsys.readouterr().out
  rows = json.loads(out.splitlines()[-1])
  assert status == (0 if all(row["holds"] for row in rows) else 1)
  assert [len(row["detail"]["gain_by_seed"]) for row in rows] == [2] * 4
  assert "quark_gluon: left out, no " in out
  assert embeddings.main(["--checkpoint=nowhere", f"--data={dataset}"]) == 2
  assert capsys.readouterr().err.startswith("error: no checkpoint in nowhere")
