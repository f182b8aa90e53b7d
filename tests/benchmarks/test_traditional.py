"""benchmarks.traditional: what it compares, on events that need no data set."""

import json

import numpy as np
import pytest

from benchmarks import traditional
from jetfm.evals.selection import CHANNELS, find_objects, find_three_pions
from jetfm.evals.selection.channels import RHO_MASS, nearest_rho
from tests.evals.three_pions import SCHEMA, make_batch, true_events


def make_sample(seed, model=None):
  """Events whose channel is told by the masses; a model that is right, or never names any."""
  events = true_events(3000, seed=seed)
  found = find_three_pions(find_objects(make_batch(events, seed=seed), SCHEMA))
  near = np.abs(found.masses() - RHO_MASS).min(axis=1) < 0.1
  channel = np.full(len(events), -1)
  channel[found.event] = np.where(near, nearest_rho(found), 3)
  probabilities = None
  if model is not None:
    own = 0.9 * np.eye(len(CHANNELS) + 1)[channel][:, :-1] * (model == "right")
    probabilities = own, np.where(own.max(axis=1) > 0, own.max(axis=1), 0.8)
  return traditional.Sample(found, channel, probabilities)


@pytest.fixture(scope="module")
def selection():
  return traditional.tune(make_sample(0))


def test_a_model_that_is_right_has_no_errors_and_reaches_the_precision(selection):
  valid, test = make_sample(1, "right"), make_sample(2, "right")
  for quality in traditional.qualities(test, selection)["model"]:
    assert [quality[name].value for name in traditional.QUANTITIES] == [1, 1, 1]
  points = traditional.working_points(valid, test, selection, 0.9)
  assert set(points) == {"traditional, chi2", "traditional, tightened", "model"}
  assert all(point.recall.value == 1 for point in points["model"])


def test_a_class_beyond_the_four_is_none_of_them(selection):
  quality = traditional.qualities(make_sample(2, "none"), selection)["model"]
  assert all(q["precision"].value is None and q["recall"].value == 0 for q in quality)


def test_the_tables_are_json_and_say_who_is_better(selection, capsys):
  valid, test = make_sample(1, "none"), make_sample(2, "none")
  measured = traditional.qualities(test, selection)
  points = traditional.working_points(valid, test, selection, 0.99)
  traditional.print_qualities(measured)
  traditional.print_points(points, 0.99)
  assert "not reached" in capsys.readouterr().out
  rows = traditional.rows_of(measured, points, traditional.pulls(test), 0.99)
  again = {row["name"]: row for row in json.loads(json.dumps(rows, allow_nan=False))}
  for name in CHANNELS:
    assert again[f"traditional_f1: {name}"]["value"] > 0.5
    assert not again[f"model_f1: {name}"]["holds"]


def test_mistakes_of_the_user_are_one_line(tmp_path, capsys):
  assert traditional.main([f"--data={tmp_path}"]) == 2
  assert capsys.readouterr().err.startswith("error: ")
  with pytest.raises(SystemExit):
    traditional.main(["--data=x", "--precision=99"])
