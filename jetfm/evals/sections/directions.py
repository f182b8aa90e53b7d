"""Part of the section of pretraining: densities over the directions of hidden particles."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jetfm.evals.metrics import Measurement, UndefinedMetric, bootstrap_error
from jetfm.evals.metrics.directions import LEAST, direction_guesses
from jetfm.evals.metrics.weighting import event_weights, weighted_mean
from jetfm.evals.sections.jets import Section

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Located:
  """All P particles of a sample of jets; of M hidden ones the density of their true direction.

  Attributes:
    direction: (P, 2) (eta, phi) relative to the axis of the visible particles.
    pt: (P,) GeV; rank: (P,) in pT within the jet, from 0; hidden: (P,) bool.
    log_density: (M,) that the model gives to the true direction, of the hidden ones in their order.
    event: (P,) number of the jet; weight: (P,) of the jet.
  """

  direction: np.ndarray
  pt: np.ndarray
  rank: np.ndarray
  hidden: np.ndarray
  log_density: np.ndarray
  event: np.ndarray
  weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class DirectionMaps:
  """Densities of the hidden particles of J jets over G x G cells of eta and phi.

  Attributes:
    density: (J, G, G); edges: (G + 1,) of the cells, in both, relative to the visible axis.
    event: numbers of the jets, as in `Located`; titles: words above them.
  """

  density: np.ndarray
  edges: np.ndarray
  event: Sequence[int]
  titles: Sequence[str]


def directions_section(
  particles: Located, maps: DirectionMaps | None = None, *, bootstrap: int = 0, seed: int = 0
) -> Section:
  """How much denser than without a network the predicted density is at the true directions.

      direction_gain = <ln p(x) - ln q(x)>   in nats per hidden particle

  q are the visible particles of the jet, smeared by their pT; the baseline is a density around the
  axis that knows nothing of the jet. Both are those of `direction_guesses`, and know the rank.
  """
  some = particles.hidden
  name = "direction_gain"
  try:
    axis, visible = direction_guesses(
      particles.direction,
      particles.pt,
      particles.event,
      particles.rank,
      some,
      particles.weight,
      seed=seed,
    )
    weight = event_weights(particles.weight[some], int(some.sum()))
  except UndefinedMetric as undefined:
    return Section({name: Measurement(None, reason=str(undefined))})
  number = np.unique(particles.event[some], return_inverse=True)[1]

  # Particles of one jet are not independent: whole jets are resampled.
  def gain(jets: np.ndarray, log_density: np.ndarray = particles.log_density) -> float:
    drawn = weight * jets[number]
    if not drawn.any():
      raise UndefinedMetric("no hidden particle")
    return weighted_mean(np.maximum(log_density, LEAST) - visible, drawn)

  jets = np.ones(number.max() + 1)
  error = None
  if bootstrap > 1:
    with contextlib.suppress(UndefinedMetric):
      error = bootstrap_error(gain, jets, replicas=bootstrap, seed=seed)
  measurement = Measurement(
    gain(jets),
    error,
    reference=0.0,
    reference_kind="the visible particles, smeared",
    baseline=gain(jets, axis),
    baseline_kind="directions in other jets",
  )
  section = Section({name: measurement}, {"located particles": int(some.sum())})
  if maps is not None:
    section.figures.append(("directions", "", _draw(particles, maps)))
  return section


def _draw(particles: Located, maps: DirectionMaps) -> Figure:
  from jetfm.evals import plots

  columns = np.column_stack([particles.pt, particles.direction])
  of_jets = [particles.event == event for event in maps.event]
  visible = [columns[jet & ~particles.hidden] for jet in of_jets]
  hidden = [columns[jet & particles.hidden] for jet in of_jets]
  return plots.directions_figure(maps.density, maps.edges, visible, hidden, maps.titles)
