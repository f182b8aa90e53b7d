"""benchmarks.weaver_cell: the other library sees the same jets and the same numbers."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.bench import Failed
from benchmarks.peer_steps import rate, rows_of
from benchmarks.weaver_cell import settings, write_split
from jetfm.data import Manifest, jet_schema, open_dataset
from jetfm.data.ingest import ingest
from jetfm.data.plan import Settings
from jetfm.nn.standardise import StandardiseInputs
from jetfm.train.optim import Optimizer, schedule
from launch import cli
from tests.jets import write_files


def test_every_jet_is_written_once_with_the_features_that_models_see(tmp_path):
  files = write_files(tmp_path / "root", ("QCD", "Tbqq"), jets=60, mean_particles=10)
  chosen = Settings("kin4", fractions=(0.6, 0.2, 0.2), edges=(8, 16))
  ingest({"": str(files)}, tmp_path / "records", chosen, say=lambda line: None)
  schema = Manifest.load(tmp_path / "records").schema("kin4")
  write_split(tmp_path / "records", "train", schema, tmp_path / "train.npz")
  written = np.load(tmp_path / "train.npz")
  dataset = open_dataset(tmp_path / "records", "kin4", "train")
  assert len(written["count"]) == len(written["label"]) == dataset.num_events
  ends = np.cumsum(written["count"])
  assert ends[-1] == len(written["particles"])
  jets = np.split(written["particles"], ends[:-1])
  found = {
    jet[:, :4].tobytes(): (jet, label) for jet, label in zip(jets, written["label"], strict=True)
  }
  assert len(found) == dataset.num_events
  batches = dataset.loader(8, shuffle=False, epochs=1).iterate()
  for batch in (batch for groups in batches for batch in groups):
    inputs = StandardiseInputs(schema)
    arrays = (batch.p4, batch.features, batch.present, batch.mask)
    seen = np.asarray(inputs.apply(inputs.init(jax.random.key(0), *arrays), *arrays))
    for i in np.flatnonzero(batch.weight):
      jet, label = found.pop(batch.p4[i][batch.mask[i]].tobytes())
      assert label == batch.label[i]
      np.testing.assert_allclose(jet[:, 4:], seen[i, batch.mask[i]], rtol=1e-5, atol=1e-6)
  assert not found


def test_it_is_trained_as_the_stage_is():
  config = cli.load_file("configs/lorentz_part.py:short")
  found = settings(config, jet_schema("kin4"), seed=3)
  assert found["model"]["block_params"]["dropout"] == config.encoder.dropout > 0
  assert found["model"]["embed_dims"][-1] == config.encoder.width
  assert found["model"]["num_layers"] == config.encoder.depth
  deeper = settings(config, jet_schema("kin4"), seed=3, more_blocks=1)
  found["model"]["num_layers"] += 1
  assert deeper == found
  config.stage.classify.accumulate = 2
  with pytest.raises(Failed, match="accumulate: the peer knows 1 alone, got 2"):
    settings(config, jet_schema("kin4"), seed=3)


def test_rates_are_those_of_our_optimizer():
  options = Optimizer(rate=3e-3, warmup=5, final=0.1)
  ours = schedule(options, 40)
  for step in range(40):
    theirs = rate(step, 40, dataclasses.asdict(options))
    np.testing.assert_allclose(theirs, ours(step), rtol=1e-5)


def test_steps_see_every_jet_once_an_epoch_and_go_on_where_they_stopped():
  whole = list(rows_of(12, 3, seed=1, first=0, steps=9))
  assert sorted(np.concatenate(whole[:4])) == sorted(np.concatenate(whole[4:8])) == list(range(12))
  assert any((a != b).any() for a, b in zip(whole[:4], whole[4:8], strict=True))
  for a, b in zip(rows_of(12, 3, seed=1, first=5, steps=9), whole[5:], strict=True):
    np.testing.assert_array_equal(a, b)
