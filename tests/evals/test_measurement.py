"""What a measurement says when it has no value, and how seeds combine."""

import json

import numpy as np
import pytest

from jetfm.evals.metrics import (
  Measurement,
  UndefinedMetric,
  bootstrap_error,
  combine_seeds,
  measure,
)


def undefined():
  raise UndefinedMetric("no such event")


def test_undefined_is_a_reason_and_never_a_nan():
  m = measure(undefined, reference=0.5, reference_kind="chance", error=1.0)
  assert m.value is None and m.reason == "no such event" and m.error is None
  with pytest.raises(ValueError, match="undefined instead"):
    Measurement(float("nan"))
  with pytest.raises(ValueError, match="a value or a reason"):
    Measurement(None)
  with pytest.raises(ValueError, match="a value or a reason"):
    Measurement(1.0, reason="but why")


def test_round_trip_through_json():
  for m in (Measurement(np.float32(0.5), 0.1, note="few"), measure(undefined)):
    assert Measurement.from_dict(json.loads(json.dumps(m.to_dict()))) == m


def test_seeds_combine_to_mean_and_spread():
  runs = [{"a": Measurement(v, error=0.1, reference=0.2)} for v in (1.0, 2.0, 3.0)]
  both = combine_seeds(runs)["a"]
  assert (both.value, both.spread, both.seeds, both.error) == (2.0, 1.0, 3, pytest.approx(0.1))
  assert combine_seeds(runs[:1]) == runs[0]
  broken = combine_seeds([*runs, {"a": measure(undefined)}])["a"]
  assert broken.value is None and broken.reason == "no such event"
  with pytest.raises(ValueError, match="different metrics"):
    combine_seeds([*runs, {"b": runs[0]["a"]}])
  with pytest.raises(ValueError, match="no run"):
    combine_seeds([])


def test_bootstrap_of_a_mean_is_its_standard_error():
  x = np.random.default_rng(0).normal(size=1000)
  error = bootstrap_error(lambda w: np.average(x, weights=w), np.ones(1000), replicas=300)
  assert error == pytest.approx(x.std() / np.sqrt(1000), rel=0.15)
  with pytest.raises(UndefinedMetric, match="0 of 4"):
    bootstrap_error(lambda w: undefined(), np.ones(3), replicas=4)
