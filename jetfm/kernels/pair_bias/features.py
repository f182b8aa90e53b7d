"""Kinds of pair features, and the fixed numbers that standardise them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jetfm.lorentz import PairMomenta, pairwise_features
from jetfm.names import nearest


class PairKind(NamedTuple):
  """Attributes:
  source: the kind of `jetfm.lorentz.pairwise_features` that computes them.
  columns: which of its features are used.
  symmetric: the features of (i, j) are those of (j, i).
  mean, std: of each feature, rounded, over pairs of different particles of 100 real JetClass jets;
    of 'event' over those of generated J/psi events.
  """

  source: str
  columns: tuple[int, ...]
  symmetric: bool
  mean: tuple[float, ...]
  std: tuple[float, ...]


PAIR_KINDS: dict[str, PairKind] = {
  "part": PairKind("part", (0, 1, 2, 3), True, (-0.3, -1.6, -1.5, 0.8), (1.2, 0.8, 1.0, 2.1)),
  "lorentz_part": PairKind(
    "lorentz_part", (0, 1, 2, 3), False, (0.0, 0.0, 0.3, 3.7), (0.3, 0.3, 0.25, 1.6)
  ),
  # ln m2 of the pair: alone among all of these, invariant under every Lorentz transformation.
  "invariant": PairKind("part", (3,), True, (0.8,), (2.1,)),
  # Of 3.1 GeV collisions; the mass in units in which a rho's width is near one.
  "event": PairKind("event", (0, 1, 2, 3), True, (-0.1, -2.3, 0.6, -1.6), (0.6, 1.3, 0.5, 1.6)),
}
"""ParT's features, those of the 2026 seed, the invariant part of ParT's, those of e+e- events."""


def check_kind(kind: str) -> None:
  """Raises ValueError for a kind that does not exist."""
  if kind not in PAIR_KINDS:
    near = nearest(kind, PAIR_KINDS)
    raise ValueError(f"no pair features '{kind}'; the nearest is '{near}' of {list(PAIR_KINDS)}")


def features_of(
  i: PairMomenta,
  j: PairMomenta,
  kind: str,
  log: Callable[[jax.Array], jax.Array] = jnp.log,
) -> tuple[jax.Array, ...]:
  """The features of a kind, not standardised, for momenta whose shapes broadcast.

  log: see `jetfm.lorentz.pairwise_features`.
  """
  chosen = PAIR_KINDS[kind]
  features = pairwise_features(i, j, chosen.source, log)
  return tuple(features[column] for column in chosen.columns)
