"""The benchmark that moves the last digit of the momenta."""

import dataclasses

import numpy as np

from benchmarks import rounding
from tests.inference.toy import make_events


def test_momenta_move_to_a_neighbour_at_most():
  batch = make_events([3, 5, 1, 8, 8, 2], 8)
  p4, moved = batch.p4, rounding.moved(batch, np.random.default_rng(0)).p4
  assert moved.dtype == p4.dtype == np.float32
  assert (moved != p4).mean() > 0.1
  assert ((moved >= np.nextafter(p4, -np.inf)) & (moved <= np.nextafter(p4, np.inf))).all()


def test_the_change_is_the_largest_of_a_real_jet():
  batch = make_events([3, 5, 1, 8], 8)
  batch = dataclasses.replace(batch, weight=np.array([1, 1, 0, 1], np.float32))

  class Predictor:
    """Scores that change with the momenta, those of filler most."""

    def classify(self, batches):
      (found,) = batches
      change = np.where((found.p4 != batch.p4).any(), [[0.1, -0.3], [0, 0], [9, 9], [0.2, 0.1]], 0)
      return 0.5 + change

  found = rounding.changes(rounding.scores_of_jetfm(Predictor()), [batch])
  np.testing.assert_allclose(found, [0.3, 0, 0.2])
