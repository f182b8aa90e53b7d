"""Index arithmetic: every event once, constant shapes, no drift."""

import pickle

import numpy as np
import pytest

from jetfm.data.errors import DataError
from jetfm.data.schedule import make_schedule, nested_cuts, padding_waste

EDGES = (16, 32, 48, 64, 128)
COUNTS = {
  "typical": (40, 900, 1300, 500, 90),
  "one class": (0, 0, 333, 0, 0),
  "one event": (0, 1, 0, 0, 0),
  "nearly all long": (1, 0, 0, 7, 800),
  "where independent floors go negative": (0, 0, 1, 0, 7),
  "equal suffixes": (1, 1, 1, 1, 1),
}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("parts", [1, 2, 5, 7, 64])
def test_cuts_share_everything_evenly(counts, parts):
  cuts = nested_cuts(counts, parts, np.arange(parts + 1)).T
  suffix = np.cumsum(counts[::-1])[::-1]
  np.testing.assert_array_equal(cuts[0], 0)
  np.testing.assert_array_equal(cuts[-1], suffix)
  shares = np.diff(cuts, axis=0)
  assert np.all(shares >= 0)
  assert np.all(shares[:, :-1] >= shares[:, 1:])  # no class gets a negative number of events
  assert np.ptp(shares[:, 0]) <= 1
  # No drift: the error stays below the number of nested floors, wherever the cut is.
  exact = np.arange(parts + 1)[:, None] * suffix / parts
  assert np.abs(cuts - exact).max() < len(counts)


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("lengths", [None, (32, 64, 128), (128,)])
@pytest.mark.parametrize(("lanes", "multiple_of"), [(1, 1), (4, 1), (4, 8), (2, 3)])
def test_every_step_fits_its_slots(counts, lengths, lanes, multiple_of):
  schedule = make_schedule(counts, EDGES, 48, lengths, lanes, multiple_of)
  assert schedule.batch_size <= 48
  assert all(size % multiple_of == 0 for size in schedule.group_sizes)
  slots = dict(zip(schedule.lengths, schedule.slots, strict=True))
  taken = np.zeros(len(EDGES), int)
  for lane in range(lanes):
    for step in range(schedule.steps):
      first, last = schedule.share(lane, step)
      taken += last - first
      for c, edge in enumerate(EDGES):
        # Events of this class or longer have slots that are long enough.
        assert (last - first)[c:].sum() <= sum(s for n, s in slots.items() if n >= edge)
  np.testing.assert_array_equal(taken, counts)


def test_a_schedule_is_as_small_for_a_hundred_million_events():
  """Every worker gets a copy of it."""
  small, large = (
    make_schedule([n * scale for n in COUNTS["typical"]], EDGES, 512, lanes=64)
    for scale in (1, 40_000)
  )
  assert large.steps > 10_000 * small.steps
  assert len(pickle.dumps(large)) < len(pickle.dumps(small)) + 100


def test_filler_is_less_than_one_slot_per_lane_when_the_data_are_many():
  schedule = make_schedule(COUNTS["typical"], EDGES, 64, None, lanes=4)
  assert schedule.steps * schedule.batch_size - sum(COUNTS["typical"]) < schedule.steps * 4


def test_groups_waste_less_than_one_length():
  counts = np.repeat(EDGES, COUNTS["typical"])
  grouped = make_schedule(COUNTS["typical"], EDGES, 64)
  single = make_schedule(COUNTS["typical"], EDGES, 64, (128,))
  assert padding_waste(counts.sum(), grouped) < padding_waste(counts.sum(), single)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"batch_size": 30}, "batch_size 30 is not a multiple of 4"),
    ({"batch_size": 32, "multiple_of": 64}, "not a multiple of 64"),
    ({"batch_size": 32, "lengths": (32, 50, 128)}, r"\[50\] are not among the stored ones"),
    ({"batch_size": 32, "lengths": (32, 64)}, "some events need 128: add 128"),
    ({"batch_size": 32, "counts": (0, 0, 0, 0, 0)}, "the split is empty"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
  arguments = {"counts": COUNTS["typical"], "edges": EDGES, **arguments}
  with pytest.raises(DataError, match=message):
    make_schedule(**arguments)
