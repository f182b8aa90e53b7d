"""The quickstart's verdict on its own results."""

import json

import pytest

from jetfm.evals.metrics import Measurement
from jetfm.evals.report import RunResults, results_json
from launch import first_result

GOOD = {
  "accuracy": 0.25,
  "gen_mass_r2": 0.6,
  "pt_kl_ratio": 0.999,
  "chamfer_ratio": 0.999,
  "reconstruction_gain": 0.3,
  "gain_over_interpolation": 0.001,
  "direction_gain": 0.001,
}
BAD = {
  "accuracy": 0.249,
  "gen_mass_r2": 0.599,
  "pt_kl_ratio": 1.0,
  "chamfer_ratio": 1.0,
  "reconstruction_gain": 0.299,
  "gain_over_interpolation": 0.0,
  "direction_gain": 0.0,
}


def verdict(tmp_path, capsys, numbers):
  tasks = {}
  for name, value in numbers.items():
    task, metric, *_ = first_result.ASKED[name]
    reason = "" if value is not None else "a single class"
    tasks.setdefault(task, {})[metric] = Measurement(value, reason=reason)
  path = tmp_path / "results.json"
  path.write_text(results_json([RunResults("run", tasks)]))
  status = first_result.main([str(path), "812.4"])
  return status, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_all_that_is_asked_for_is_enough(tmp_path, capsys):
  status, last = verdict(tmp_path, capsys, GOOD)
  assert status == 0
  shown = dict.fromkeys(first_result.SHOWN)  # in this file there is nothing but what is asked
  assert last == {**GOOD, **shown, "seconds": 812, "holds": True}


def test_what_is_shown_without_a_bound_has_no_say(tmp_path, capsys):
  places = {place[:2]: name for name, place in first_result.SHOWN.items() if place[2] == "value"}
  numbers = {**GOOD, **dict.fromkeys(places.values(), -7.0)}
  asked = {name: bound[:2] for name, bound in first_result.ASKED.items()}
  tasks = {}
  for name, value in numbers.items():
    task, metric = asked.get(name) or first_result.SHOWN[name][:2]
    tasks.setdefault(task, {})[metric] = Measurement(value)
  path = tmp_path / "results.json"
  path.write_text(results_json([RunResults("run", tasks)]))
  assert first_result.main([str(path), "1"]) == 0
  last = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert {last[name] for name in places.values()} == {-7.0}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("how", ["below", "undefined", "missing"])
def test_one_result_that_is_not_reached_is_a_failure(name, how, tmp_path, capsys):
  numbers = dict(GOOD)
  if how == "missing":
    del numbers[name]
  else:
    numbers[name] = BAD[name] if how == "below" else None
  status, last = verdict(tmp_path, capsys, numbers)
  assert status == 1 and last["holds"] is False
  assert last[name] == (BAD[name] if how == "below" else None)


CLEAR = {
  ("pretrain", "pretraining", "feature_gain"): 0.1,
  ("probe_1", "classification", "accuracy"): 0.3,
  ("differential", "classification", "accuracy"): 0.4,
  ("differential", "classification", "accuracy_hadronic"): 0.05,
}


def clear_verdict(tmp_path, capsys, numbers):
  """Of a run that has a column for each stage; always the largest class is right in 0.2."""
  stages = {}
  for (stage, task, metric), value in numbers.items():
    m = Measurement(value, reference=0.01, reference_kind="chance", baseline=0.2)
    stages.setdefault(stage, {}).setdefault(task, {})[metric] = m
  path = tmp_path / "results.json"
  path.write_text(results_json([RunResults(f"run/{s}", tasks) for s, tasks in stages.items()]))
  status = first_result.main(["clear", str(path), "100"])
  return status, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_clear_compares_stages(tmp_path, capsys):
  status, last = clear_verdict(tmp_path, capsys, CLEAR)
  assert status == 0 and last["holds"] and last["seconds"] == 100
  assert last["over_probe"] == pytest.approx(0.1) and last["over_largest_class"] == 2
  assert (last["accuracy"], last["probe_1"], last["two_stage"]) == (0.4, 0.3, None)


@pytest.mark.parametrize("place", CLEAR)
def test_clear_needs_every_stage_that_it_asks_for(place, tmp_path, capsys):
  status, last = clear_verdict(tmp_path, capsys, {k: v for k, v in CLEAR.items() if k != place})
  assert status == 1 and not last["holds"]


def test_clear_must_be_better_than_its_probe(tmp_path, capsys):
  worse = CLEAR | {("probe_1", "classification", "accuracy"): 0.4}
  assert clear_verdict(tmp_path, capsys, worse)[0] == 1


@pytest.mark.parametrize("text", ["", "{}", '{"runs": []}', '{"runs": [1]}'])
def test_a_file_that_is_something_else(text, tmp_path, capsys):
  path = tmp_path / "results.json"
  path.write_text(text)
  assert first_result.main([str(path), "1"]) == 2
  assert first_result.main([str(tmp_path / "nowhere.json"), "1"]) == 2
  assert capsys.readouterr().err.startswith("error:")
