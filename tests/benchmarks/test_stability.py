"""benchmarks.stability: what counts as steady, from the metrics that training writes."""

import json

import numpy as np
import pytest

from benchmarks import stability

STEPS = np.arange(10, 2001, 10)
FALL = 1 + np.exp(-STEPS / 300)


def stage(folder, values, nonfinite=0):
  folder.mkdir(parents=True)
  lines = [
    {"step": int(s), "split": "train", "masked_features/loss": v, "nonfinite_steps": nonfinite}
    for s, v in zip(STEPS, values, strict=True)
  ]
  lines += [{"step": 2000, "split": "valid", "masked_features/loss": float(values[-1])}]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  return folder


def test_a_fall_has_no_excursion_and_noise_little():
  assert stability.excursion(FALL) == 0
  noise = 0.02 * np.random.default_rng(0).normal(size=len(FALL))
  assert stability.excursion(stability.smoothed(FALL + noise)) < stability.LARGEST_EXCURSION


def test_a_rise_counts_by_its_share_of_the_fall():
  curve = np.array([3.0, 2.0, 2.5, 1.0])
  assert stability.excursion(curve) == pytest.approx(0.25)
  assert stability.excursion(curve[::-1]) == float("inf")


def test_the_status_tells_a_steady_run_from_one_that_jumped(tmp_path, capsys):
  steady = stage(tmp_path / "seed0" / "pretrain", FALL)
  jumped = stage(tmp_path / "seed1" / "pretrain", FALL + (abs(STEPS - 1000) < 100))
  lost = stage(tmp_path / "seed2" / "pretrain", FALL, nonfinite=1)
  results = tmp_path / "steady.json"
  figure = tmp_path / "steady.png"
  options = [f"--runs={steady}", f"--results={results}", f"--figure={figure}"]
  assert stability.main(options) == 0
  assert figure.read_bytes().startswith(b"\x89PNG")
  assert json.loads(results.read_text())["rows"][0]["name"] == "excursion: seed0"
  assert stability.main([f"--runs={tmp_path}/seed*/pretrain"]) == 1
  rows = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert [row["holds"] for row in rows] == [True, False, False]
  assert stability.main([f"--runs={lost},{jumped}", "--term=loss"]) == 2
  assert "there are ['masked_features/loss']" in capsys.readouterr().err


def test_a_folder_that_is_none(tmp_path, capsys):
  assert stability.main([f"--runs={tmp_path}/nothing"]) == 2
  assert stability.main([f"--runs={tmp_path}"]) == 2
  assert "expected the folder of a trained stage" in capsys.readouterr().err
