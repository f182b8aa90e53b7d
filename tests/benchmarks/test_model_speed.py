"""The two sides of a comparison: the same jets, each of them once, and a protocol of lines."""

import io
import json

import numpy as np
import pytest

from benchmarks import model_jets, own_model, side


@pytest.fixture
def jets(tmp_path, monkeypatch):
  def of(**options):
    model_jets.write_jets(tmp_path / "jets.npz", 24, **options)
    return np.load(tmp_path / "jets.npz")

  monkeypatch.setenv("JETFM_REAL_JETS", str(tmp_path / "none"))
  return of


def test_padded_jets_fill_every_slot(jets):
  assert jets(padded=True)["mask"].all()
  free = jets()
  assert not free["mask"].all() and free["mask"].any(axis=1).all()
  for name in ("p4", "features"):
    assert np.isfinite(free[name]).all() and not free[name][~free["mask"]].any()


@pytest.mark.parametrize("padded", [False, True])
def test_every_jet_is_in_one_group(jets, padded):
  made = jets(padded=padded)
  lengths = (model_jets.PARTICLES,) if padded else own_model.INFERENCE_LENGTHS
  batches = own_model.group_batches(made, model_jets.model_schema(), lengths, 8)
  groups = [group for groups in batches for group in groups]
  assert len(batches) == 3 and sum(g.weight.sum() for g in groups) == 24
  found = np.concatenate([g.p4[g.weight > 0].sum(axis=(1, 2)) for g in groups])
  np.testing.assert_allclose(np.sort(found), np.sort(made["p4"].sum(axis=(1, 2))), rtol=1e-4)
  for i, first in enumerate(batches[0]):
    assert all(groups[i].p4.shape == first.p4.shape for groups in batches)


def test_a_side_answers_line_by_line(monkeypatch, capsys):
  steps = []
  monkeypatch.setattr("sys.stdin", io.StringIO("rate 0.01\nmemory\n"))
  side.serve({"parameters": 3}, steps.append, lambda: None, [2, 5], "cpu", 0, lambda: 11)
  lines = capsys.readouterr().out.splitlines()
  assert all(line.startswith(side.ANSWER) for line in lines)
  about, rate, memory = (json.loads(line.removeprefix(side.ANSWER)) for line in lines)
  assert about == {"parameters": 3} and rate > 0
  assert memory["used"] == 11 and memory["host_peak_with_compiler"] >= memory["host_peak"] > 0
  assert set(steps) == {0, 1}
