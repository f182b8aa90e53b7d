"""Where hidden particles are, without a network: near the axis, or near the visible particles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from jetfm.evals.metrics.measurement import UndefinedMetric

WIDTHS = (0.02, 0.06, 0.15, 0.4)
"""Of Gaussians in (eta, phi), from which fits start."""
FIT_EVENTS, FIT_STEPS = 1000, 50
RANK_GROUPS = 8
"""Of about as many hidden particles each."""
LEAST = np.log(1e-300)
"""Of a logarithm of a density, so that one particle far from all others does not decide a mean."""
MOST_PAIRS = 2_000_000
"""Of hidden and visible particles, held at a time."""


@dataclasses.dataclass(frozen=True)
class _Pairs:
  """Hidden particles of some events, beside the visible ones of the same event.

  Attributes:
    weight: (H,) of the event; axis: (H,) squared distance from the axis.
    row: (Q,) the hidden particle of each pair, ascending; square: (Q,) squared distance;
    share: (Q,) of the visible particle in the pT of its event's visible ones.
  """

  weight: np.ndarray
  axis: np.ndarray
  row: np.ndarray
  square: np.ndarray
  share: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Mixture:
  """Parts (K,) of the density and their widths; the last `axial` are around the axis."""

  part: np.ndarray
  width: np.ndarray
  axial: int

  @classmethod
  def start(cls, kernels: Sequence[float], axial: Sequence[float]) -> _Mixture:
    width = np.asarray([*kernels, *axial])
    return cls(np.full(len(width), 1 / len(width)), width, len(axial))

  def components(self, pairs: _Pairs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(density of each term of a component, squared distance), in the order of the parts."""
    for k, (part, width) in enumerate(zip(self.part, self.width, strict=True)):
      around_axis = k >= len(self.part) - self.axial
      square = pairs.axis if around_axis else pairs.square
      share = 1.0 if around_axis else pairs.share
      yield part * share * np.exp(-0.5 * square / width**2) / (2 * np.pi * width**2), square

  def densities(self, pairs: _Pairs) -> list[np.ndarray]:
    """(H,) for each component."""
    out = []
    for terms, square in self.components(pairs):
      of_axis = square is pairs.axis
      out.append(terms if of_axis else np.bincount(pairs.row, terms, len(pairs.axis)))
    return out

  def log_density(self, pairs: _Pairs) -> np.ndarray:
    return np.log(np.maximum(np.sum(self.densities(pairs), axis=0), np.exp(LEAST)))

  def fitted(self, pairs: _Pairs) -> _Mixture:
    """By expectation and maximisation. Widths of parts that nothing belongs to stay."""
    mixture = self
    for _ in range(FIT_STEPS):
      density = np.maximum(np.sum(mixture.densities(pairs), axis=0), np.exp(LEAST))
      per_density = pairs.weight / density
      part, spread = np.zeros_like(self.part), np.zeros_like(self.part)
      for k, (terms, square) in enumerate(mixture.components(pairs)):
        rows = slice(None) if square is pairs.axis else pairs.row
        mine = terms * per_density[rows]
        part[k], spread[k] = mine.sum(), mine @ square
      some = part > 1e-9 * part.sum()
      width = np.where(some, np.sqrt(spread / (2 * np.where(some, part, 1))), mixture.width)
      mixture = dataclasses.replace(mixture, part=part / part.sum(), width=np.maximum(width, 1e-3))
    return mixture


def direction_guesses(
  direction: np.ndarray,
  pt: np.ndarray,
  event: np.ndarray,
  rank: np.ndarray,
  hidden: np.ndarray,
  weight: np.ndarray,
  *,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Log densities at the directions of hidden particles, by two guesses without a network.

      ln sum_k w_k N(x; 0, s_k^2)
      ln [sum_k w_k sum_j z_j N(x; x_j, s_k^2) + w_0 N(x; 0, s_0^2)]

  over the visible particles j of the event, each by its share z_j of their pT; N are Gaussians in
  (eta, phi). Parts w and widths s belong to a group of ranks in pT, as a model knows the rank of a
  hidden particle. They are fitted to the other of two random halves of the events (at most
  FIT_EVENTS of it), so that no particle takes part in its own guess.

  Shapes: direction (P, 2) in (eta, phi) relative to the axis; pt, event, rank from 0, hidden bool
  and weight (P,) -> (M,) each, of the hidden ones in their order.
  Raises: UndefinedMetric when one half has no hidden particle.
  """
  event = np.unique(event, return_inverse=True)[1]
  count = event.max(initial=-1) + 1
  order = np.argsort(event, kind="stable")
  direction, pt, event, rank, hidden, weight = (
    np.asarray(x)[order] for x in (direction, pt, event, rank, hidden, weight)
  )
  shuffled = np.random.default_rng(seed).permutation(count)
  by_axis, by_visible = np.zeros(len(order)), np.zeros(len(order))
  for half in (shuffled[: count // 2], shuffled[count // 2 :]):
    mine = np.isin(event, half)
    sample = np.isin(event, np.setdiff1d(shuffled, half, assume_unique=True)[:FIT_EVENTS])
    if not weight[mine & hidden].any() or not weight[sample & hidden].any():
      raise UndefinedMetric("a half of the events has no hidden particle")
    edges = np.quantile(rank[sample & hidden], np.linspace(0, 1, RANK_GROUPS + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), rank, side="right")
    for g in np.unique(group[mine & hidden]):
      here = hidden & (group == g)
      # Of ranks that the other half does not have in the group: those of all.
      fitted_to = sample & here if weight[sample & here].any() else sample & hidden
      pairs = _pairs(direction, pt, event, hidden, weight, fitted_to)
      axial = _Mixture.start((), WIDTHS).fitted(pairs)
      smeared = _Mixture.start(WIDTHS[:-1], WIDTHS[-1:]).fitted(pairs)
      for chosen in _chunks(event, hidden, mine & here):
        pairs = _pairs(direction, pt, event, hidden, weight, chosen)
        by_axis[chosen] = axial.log_density(pairs)
        by_visible[chosen] = smeared.log_density(pairs)
  back = np.argsort(order)
  hidden = hidden[back]
  return by_axis[back][hidden], by_visible[back][hidden]


def _chunks(event: np.ndarray, hidden: np.ndarray, chosen: np.ndarray) -> Iterator[np.ndarray]:
  """The chosen ones of P particles, (P,) bool, in parts of about MOST_PAIRS pairs."""
  visible = np.bincount(event, ~hidden)
  part = np.cumsum(np.where(chosen, visible[event], 0)) // MOST_PAIRS
  for number in np.unique(part[chosen]):
    yield chosen & (part == number)


def _pairs(
  direction: np.ndarray,
  pt: np.ndarray,
  event: np.ndarray,
  hidden: np.ndarray,
  weight: np.ndarray,
  chosen: np.ndarray,
) -> _Pairs:
  """Of the chosen ones, (P,) bool, of P particles in the order of their events."""
  mine, seen = np.flatnonzero(chosen), np.flatnonzero(~hidden)
  count = event.max(initial=-1) + 1
  visible = np.bincount(event[seen], minlength=count)
  start = np.cumsum(visible) - visible
  each = visible[event[mine]]
  row = np.repeat(np.arange(len(mine)), each)
  within = np.arange(len(row)) - np.repeat(np.cumsum(each) - each, each)
  other = seen[start[event[mine[row]]] + within]
  total = np.bincount(event[seen], pt[seen], count)[event[other]]
  return _Pairs(
    weight=np.asarray(weight[mine], np.float64),
    axis=_square(direction[mine]),
    row=row,
    square=_square(direction[mine[row]] - direction[other]),
    share=np.divide(pt[other], total, out=np.zeros(len(other)), where=total > 0),
  )


def _square(x: np.ndarray) -> np.ndarray:
  """eta^2 + phi^2 of differences, phi the shorter way round."""
  eta, phi = np.asarray(x, np.float64).T
  return eta**2 + (np.mod(phi + np.pi, 2 * np.pi) - np.pi) ** 2
