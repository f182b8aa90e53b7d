"""Sections of what was hidden from the encoder: particles, their directions, measurements."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.evals.sections import (
  DirectionMaps,
  Guesses,
  Located,
  Reconstructed,
  Section,
  directions_section,
  features_section,
  of_different_classes,
  pretraining_section,
)
from jetfm.inference import Predictor
from jetfm.lorentz import transverse_momentum
from jetfm.models import KINEMATICS
from jetfm.objectives import Conservation, residual_sums
from jetfm.tasks import MaskedParticles
from jetfm.tasks.masked_particles import LOSSES
from jetfm.tasks.masking import pt_rank
from launch.evaluation.inputs import Inputs

CHUNK_JETS = 8192
"""Jets whose hidden particles are held padded at a time."""
SHOWN, MAP_CELLS, MAP_SIZE = 3, 80, 0.8
"""Jets in the display of directions; cells of its maps in each coordinate, and half their size."""


def pretraining(inputs: Inputs) -> Section:
  """A task of the kind 'masked_particles', by its own objective on all hidden particles."""
  particles = _particles(inputs)
  physical = None
  if inputs.options.figures and particles.hidden.any():
    physical = _physical(particles.true[particles.hidden]), _physical(particles.predicted)
  return pretraining_section(
    particles,
    objective(inputs.settings),
    physical,
    bootstrap=inputs.options.bootstrap,
    seed=inputs.options.seed,
  )


def directions(inputs: Inputs) -> Section:
  """A task of the kind 'masked_directions', beside densities that need no network."""
  options, found = inputs.options, _located(inputs)
  maps = _direction_maps(inputs, found) if options.figures and found.hidden.any() else None
  return directions_section(found, maps, bootstrap=options.bootstrap, seed=options.seed)


def features(inputs: Inputs) -> Section:
  """A task of the kind 'masked_features', all hidden measurements of each feature."""
  schema, options = inputs.predictor.schema, inputs.options
  found = inputs.predict(
    "guess",
    inputs.predictor.guess_measurements,
    inputs.sample,
    seed=options.seed,
    task=inputs.task,
  )
  weight = inputs.sample.jets.weight
  guesses = {}
  for i, feature in enumerate(schema.features):
    hidden = found.hidden[..., i]
    event, _ = np.nonzero(hidden)
    guesses[feature.name] = Guesses(
      true=found.true[..., i][hidden],
      guessed=found.guessed[..., i][hidden],
      sampled=found.sampled[..., i][hidden],
      nll=found.nll[..., i][hidden],
      event=event,
      weight=weight[event],
      categorical=feature.likelihood == "categorical",
    )
  return features_section(
    guesses, bootstrap=options.bootstrap, seed=options.seed, figures=options.figures
  )


def _particles(inputs: Inputs) -> Reconstructed:
  """Every particle of the sample, with what was predicted of the hidden ones."""
  parts: list[tuple[np.ndarray, ...]] = []
  for first, found, mask, rank in _in_chunks(
    inputs, "reconstruct", inputs.predictor.reconstruct, pt_rank
  ):
    event, _ = np.nonzero(mask)
    predicted = found.predicted[found.hidden]
    parts.append((found.true[mask], predicted, found.hidden[mask], rank[mask], first + event))
  true, predicted, hidden, rank, event = map(np.concatenate, zip(*parts, strict=True))
  return Reconstructed(true, predicted, hidden, rank, event, inputs.sample.jets.weight[event])


def _located(inputs: Inputs) -> Located:
  """Every particle of the sample, with the density that was predicted where the hidden ones are."""
  parts: list[tuple[np.ndarray, ...]] = []
  for first, found, mask, pt, rank in _in_chunks(
    inputs, "locate", inputs.predictor.locate, lambda p4, _: transverse_momentum(p4), pt_rank
  ):
    event, _ = np.nonzero(mask)
    dense = found.log_density[found.hidden]
    known = (x[mask] for x in (found.direction, pt, rank, found.hidden))
    parts.append((*known, dense, first + event))
  direction, pt, rank, hidden, dense, event = map(np.concatenate, zip(*parts, strict=True))
  return Located(direction, pt, rank, hidden, dense, event, inputs.sample.jets.weight[event])


def _direction_maps(inputs: Inputs, found: Located) -> DirectionMaps:
  """Of a few jets of different classes, those with most hidden particles."""
  sample, schema = inputs.sample, inputs.predictor.schema
  hidden = np.bincount(found.event[found.hidden], minlength=len(sample))
  order = np.argsort(-hidden, kind="stable")
  rows = of_different_classes(sample.jets.label, order, SHOWN)
  first = np.cumsum([0, *(batch.num_events for batch in sample.batches)])
  events = []
  for row in rows:
    i = int(np.searchsorted(first, row, side="right")) - 1
    events.append(jax.tree.map(lambda x, at=row - first[i]: x[at : at + 1], sample.batches[i]))
  # One program for them, of so few rows that all points fit.
  longest = max(batch.length for batch in events)
  few = Predictor(inputs.predictor.trained, (longest,), rows=len(rows))
  edges = np.linspace(-MAP_SIZE, MAP_SIZE, MAP_CELLS + 1)
  centres = (edges[1:] + edges[:-1]) / 2
  points = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
  density = few.map_directions(events, points, seed=inputs.options.seed, task=inputs.task)
  names = [schema.classes[label] if label >= 0 else "" for label in sample.jets.label[rows]]
  return DirectionMaps(density.reshape(len(rows), MAP_CELLS, MAP_CELLS), edges, rows, names)


def _in_chunks(
  inputs: Inputs, name: str, method: Callable[..., Any], *of_particles: Callable[..., Any]
) -> Iterator[tuple[Any, ...]]:
  """Batches that begin in the same chunk of events: what is padded is held for one chunk only.

  Yields: number of the first event, what the method found, mask (B, N), and for each of
  of_particles its values f(p4, mask), of all batches in one array (B, N).
  """
  batches = inputs.sample.batches
  first = 0
  before = itertools.accumulate((b.num_events for b in batches), initial=0)
  numbered = zip(before, batches, strict=False)
  for _, chunk in itertools.groupby(numbered, lambda pair: pair[0] // CHUNK_JETS):
    events = [batch for _, batch in chunk]
    found = method(inputs.watched(name, events), seed=inputs.options.seed, task=inputs.task)
    length = found.hidden.shape[1]
    each = [(b.mask, *(f(b.p4, b.mask) for f in of_particles)) for b in events]
    mask, *values = (
      np.concatenate([np.pad(x, ((0, 0), (0, length - x.shape[1]))) for x in arrays])
      for arrays in zip(*each, strict=True)
    )
    yield first, found, mask, *values
    first += len(mask)


def objective(task: MaskedParticles) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
  """loss(predicted (M, 4), true (M, 4), weight (M,)) of a task, without its mass term.

  Each particle stands for an event of its own: means over all particles are the same.
  """
  coefficients = Conservation(**task.coefficients)

  @jax.jit
  def loss(predicted, true, weight):
    sums = residual_sums(predicted[:, None], true[:, None], jnp.ones((len(true), 1), bool))
    return LOSSES[task.objective](sums, weight, coefficients)[0]

  return lambda *arrays: float(loss(*(np.asarray(a, np.float32) for a in arrays)))


def _physical(kinematics: np.ndarray) -> np.ndarray:
  """Standardised (M, 4) -> pT (GeV), eta, phi (rad), E (GeV) in the encoder's frame."""
  columns = [np.asarray(f.inverse(kinematics[:, i])) for i, f in enumerate(KINEMATICS)]
  return np.stack(columns, axis=1)
