"""Programs compiled ahead of time say what the predictor says, and only ever run."""

import jax
import numpy as np
import pytest

from jetfm.inference.groups import filler
from tests.inference.toy import SCHEMA, TASKS, make_events

NAMES = ("classification", "regression", "embed")
COUNTS = (3, 14, 1, 9)


@pytest.fixture(scope="module")
def online(predictor):
  return predictor.online(NAMES, lengths=(32, 16), rows=4)


def call(online, batch, rows=slice(None), keep=None):
  fields = (batch.p4, batch.features, batch.present, batch.mask)
  return flat(online(*(x[rows, :keep] for x in fields)))


def flat(made):
  """One array for each result and target."""
  made = {name: x if isinstance(x, dict) else {"": x} for name, x in made.items()}
  return {f"{name} {key}": x for name, of in made.items() for key, x in of.items()}


def assert_same_bits(got, want):
  assert got.keys() == want.keys()
  for name in want:
    np.testing.assert_array_equal(got[name], want[name], strict=True, err_msg=name)


def test_says_what_the_predictor_says(predictor, online):
  events = make_events((*COUNTS[:3], 20), 24)
  ours, theirs = call(online, events), flat(predictor.predict(events, NAMES))
  assert ours.keys() == theirs.keys()
  assert {f"regression {target}" for target in TASKS["regression"]["targets"]} < ours.keys()
  for name, want in theirs.items():
    assert ours[name].shape == want.shape and ours[name].dtype == want.dtype
    np.testing.assert_allclose(ours[name], want, rtol=1e-3, atol=2e-3, err_msg=name)


def test_other_events_and_earlier_calls_do_not_matter(online):
  events = make_events(COUNTS, 16)
  together = call(online, events)
  for row in range(len(COUNTS)):
    alone = call(online, events, slice(row, row + 1))
    assert_same_bits(alone, {name: x[row : row + 1] for name, x in together.items()})
  backwards = call(online, events, slice(None, None, -1))
  assert_same_bits({name: x[::-1] for name, x in backwards.items()}, together)
  assert_same_bits(call(online, events), together)


def test_padding_does_not_leak(online):
  events = make_events(COUNTS, 24)
  want = call(online, events, keep=16)
  assert_same_bits(call(online, events), want)
  events.p4[~events.mask] = np.nan
  events.features[~events.mask] = np.inf
  assert_same_bits(call(online, events), want)


@pytest.mark.parametrize("counts", [(7, 7), (7, 3)])
def test_without_a_mask_slots_with_energy_hold_particles(online, counts):
  events = make_events(counts, 7)
  made = flat(online(events.p4, events.features))
  assert_same_bits(made, call(online, events))


def test_empty_events_are_finite(online):
  nothing = filler(SCHEMA, 2, 5)
  for name, values in call(online, nothing).items():
    assert len(values) == 2 and np.isfinite(values).all(), name


@pytest.mark.parametrize("count, length", [(1, 16), (16, 16), (17, 32), (32, 32)])
def test_calls_run_the_shortest_program_that_fits(online, count, length):
  assert online.lengths == (16, 32)
  assert all(isinstance(program, jax.stages.Compiled) for program in online.programs.values())
  events = make_events((count,), 32)
  packed = online.pack(events.p4, events.features, None, events.mask)
  assert packed.shape[:2] == (4, length) and packed.dtype == np.float32


def test_what_does_not_fit_is_refused(predictor, online):
  long = make_events((33,), 40)
  with pytest.raises(ValueError, match="33 particles, expected at most 32"):
    call(online, long)
  with pytest.raises(ValueError, match=r"got 5 events, expected 1 to 4.*rows=5"):
    call(online, make_events((1,) * 5, 4))
  events = make_events((3,), 4)
  with pytest.raises(ValueError, match="p4 has shape"):
    online(events.p4[0], events.features)
  with pytest.raises(ValueError, match=r"features has shape \(1, 4, 2\).*part_charge"):
    online(events.p4, events.features[..., :2])
  with pytest.raises(ValueError, match="features has shape None"):
    online(events.p4)
  with pytest.raises(ValueError, match="present has shape"):
    online(events.p4, events.features, events.present[..., :0])
  with pytest.raises(ValueError, match=r"mask has shape \(1, 2\), expected \(1, 4\)"):
    online(events.p4, events.features, mask=events.mask[:, :2])
  with pytest.raises(ValueError, match="event 0 has padding before a particle"):
    online(events.p4, events.features, mask=~events.mask)
  with pytest.raises(ValueError, match="nothing to predict is named 'generation'"):
    predictor.online(["generation"])
  with pytest.raises(ValueError, match="expected at least one each"):
    predictor.online(NAMES, lengths=())
