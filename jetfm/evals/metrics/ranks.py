"""Guesses of hidden particles without a network: from their rank in pT alone, and from neighbours.

A hidden particle keeps its rank, and most of the spread of pT and E is between ranks: what a model
learned shows only beside these guesses.
"""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric

SMALLEST_SHARE = 0.005
"""Of the weight: neighbouring ranks are put together until they hold this."""


def rank_guesses(
  values: np.ndarray,
  event: np.ndarray,
  rank: np.ndarray,
  hidden: np.ndarray,
  weight: np.ndarray,
  *,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Hidden values by the mean at their rank, and by interpolation from the same event.

      m_r = <x>_hidden(r),      i = T_r + I(x - T)(r),      I + <x - i>_hidden(r)

  T_r is the mean of all particles of rank r; I interpolates linearly in rank between the nearest
  visible particles of the event, and is constant beyond the first and the last. The last mean takes
  out what is hidden more often. Means are those of the other of two random halves of the events, so
  that no particle takes part in its own guess.

  Shapes: values (P, F) of all particles; event, rank from 0, hidden bool and weight (P,) ->
  (M, F) each, of the hidden ones in their order.
  Raises: UndefinedMetric when one half has no hidden particle.
  """
  values, weight = np.asarray(values, np.float64), np.asarray(weight, np.float64)
  event = np.unique(event, return_inverse=True)[1]
  order = np.lexsort((rank, event))
  back = np.argsort(order)
  first = np.random.default_rng(seed).permutation(event.max(initial=-1) + 1)[event] % 2 == 0
  by_rank, by_neighbours = np.zeros_like(values), np.zeros_like(values)
  for half in (first, ~first):
    other = ~half
    if not weight[half & hidden].any() or not weight[other & hidden].any():
      raise UndefinedMetric("a half of the events has no hidden particle")

    def at_rank(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
      return _mean_at(x[rows], rank[rows], weight[rows], int(rank.max()) + 1)[rank]

    typical = at_rank(values, other)
    deviation = (values - typical)[order]
    guess = typical + _interpolated(deviation, event[order], rank[order], ~hidden[order])[back]
    guess += at_rank(values - guess, other & hidden)
    by_rank[half] = at_rank(values, other & hidden)[half]
    by_neighbours[half] = guess[half]
  return by_rank[hidden], by_neighbours[hidden]


def _mean_at(x: np.ndarray, rank: np.ndarray, weight: np.ndarray, ranks: int) -> np.ndarray:
  """Weighted mean at each rank, (P, F) -> (ranks, F)."""
  total = np.bincount(rank, weights=weight, minlength=ranks)
  # Whole groups only: the rest of the last one belongs to the group before.
  below = np.cumsum(total) - total
  group = np.zeros(ranks, int)
  start, g, least = 0.0, 0, SMALLEST_SHARE * total.sum()
  for r in range(1, ranks):
    if below[r] - start >= least and total[r:].sum() >= least:
      start, g = below[r], g + 1
    group[r] = g
  which = group[rank]
  share = np.bincount(which, weights=weight)
  means = [np.bincount(which, weights=weight * column) / share for column in x.T]
  return np.stack(means, axis=1)[group]


def _interpolated(
  x: np.ndarray, event: np.ndarray, rank: np.ndarray, visible: np.ndarray
) -> np.ndarray:
  """From the nearest visible particles of the event; (P, F) and (P,), ordered by event and rank.

  0 in an event of which nothing is visible.
  """
  index = np.arange(len(x))
  before = np.maximum.accumulate(np.where(visible, index, -1))
  after = np.minimum.accumulate(np.where(visible, index, len(x))[::-1])[::-1]
  has_before = (before >= 0) & (event[before] == event)
  after_or_last = np.minimum(after, len(x) - 1)
  has_after = (after < len(x)) & (event[after_or_last] == event)
  before = np.where(has_before, before, after_or_last)
  after = np.where(has_after, after_or_last, before)
  gap = rank[after] - rank[before]
  share = np.where(gap > 0, (rank - rank[before]) / np.maximum(gap, 1), 0.0)[:, None]
  found = (1 - share) * x[before] + share * x[after]
  return np.where((has_before | has_after)[:, None], found, 0.0)
