"""benchmarks.roofline: what a step cannot do without."""

import types

import numpy as np
import pytest

from benchmarks.roofline import floor_of

ENCODER = types.SimpleNamespace(width=8, heads=2, depth=3)
PARAMS = {"block": {"kernel": np.zeros((8, 24))}, "pair_bias": {"kernel_0": np.zeros((4, 2))}}


def test_the_floor_counts_products_once_forward_and_twice_backward():
  """Of tokens, of half of the pairs, and of attention: scores and mixing, in every layer."""
  floor = floor_of(ENCODER, PARAMS, events=5, n=7, itemsize=2)
  forward = 2 * 5 * (7 * 8 * 24 + 7 * 8 / 2 * 4 * 2) + 3 * 2 * (2 * 5 * 7 * 7 * 8)
  assert 1e12 * floor.teraflop == pytest.approx(3 * forward)


def test_the_floor_moves_more_for_more_events_and_wider_numbers():
  one = floor_of(ENCODER, PARAMS, events=5, n=7, itemsize=2).gigabytes
  for events, itemsize in ((10, 2), (5, 4)):
    two = floor_of(ENCODER, PARAMS, events=events, n=7, itemsize=itemsize).gigabytes
    assert two == pytest.approx(2 * one)
