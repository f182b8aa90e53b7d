"""What was hidden from the encoder, and what the model makes of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.lorentz import transform_vectors, wrap_angle
from jetfm.models import direction_of, standardise_kinematics
from jetfm.schema import Schema
from jetfm.tasks import MaskedFeatures, Predicted, Views
from jetfm.tasks.hiding import hidden_measurements
from jetfm.tasks.masking import hidden_particles
from jetfm.typing import Batch

Read = Callable[[Predicted, Views, Batch, jax.Array], dict[str, jax.Array]]
"""(a head's outputs, the views that it read, the whole batch, a key for draws) -> named arrays."""


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """Hidden particles, true and predicted.

  Kinematics are (pT, eta, phi, E) standardised as in `jetfm.models.KINEMATICS`, in the encoder's
  frame; `jetfm.models.physical_momenta` and the inverse of `frame` lead back to the laboratory.
  """

  hidden: np.ndarray
  """(B, N) bool: particles that the encoder did not see."""
  true: np.ndarray
  """(B, N, 4) float32, 0 for padding."""
  predicted: np.ndarray
  """(B, N, 4) float32, 0 where nothing was hidden."""
  frame: np.ndarray
  """(B, 4, 4) float32, from the laboratory into the encoder's frame, of the visible particles."""


@dataclasses.dataclass(frozen=True)
class LocatedParticles:
  """Directions of hidden particles, and how dense the model's prediction is there."""

  hidden: np.ndarray
  """(B, N) bool: particles that the encoder did not see."""
  direction: np.ndarray
  """(B, N, 2) float32, true (eta, phi) of all particles in the encoder's frame, less those of the
  sum of the visible ones; 0 for padding."""
  log_density: np.ndarray
  """(B, N) float32, of eta and phi (rad) at the true direction, 0 where nothing was hidden."""


@dataclasses.dataclass(frozen=True)
class GuessedMeasurements:
  """Hidden measurements of F features, true and guessed.

  On the scale of the network's inputs; of categorical features numbers of categories.
  """

  hidden: np.ndarray
  """(B, N, F) bool: measurements that the encoder did not see."""
  true: np.ndarray
  """(B, N, F) float32, 0 where nothing was hidden."""
  guessed: np.ndarray
  """(B, N, F) float32, 0 where nothing was hidden."""
  sampled: np.ndarray
  """(B, N, F) float32, drawn from the density that was predicted, 0 where nothing was hidden."""
  nll: np.ndarray
  """(B, N, F) float32, negative log density of the truth in nats, 0 where nothing was hidden."""


def read_reconstruction(view: str) -> Read:
  """The fields of `Reconstruction`, of the head that read that view."""

  def read(outputs: Predicted, views: Views, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    hidden = hidden_particles(views[view], batch)
    true = standardise_kinematics(transform_vectors(outputs.frame, batch.p4))
    return {
      "hidden": hidden,
      "true": jnp.where(batch.mask[..., None], true, 0),
      "predicted": jnp.where(hidden[..., None], outputs.output, 0),
      "frame": outputs.frame,
    }

  return read


def read_location(view: str) -> Read:
  """The fields of `LocatedParticles`, of the head that read that view."""

  def read(outputs: Predicted, views: Views, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    hidden, real = hidden_particles(views[view], batch), batch.mask[..., None]
    direction = direction_of(transform_vectors(outputs.frame, jnp.where(real, batch.p4, 0)))
    eta, phi = jnp.moveaxis(direction - outputs.output.axis[:, None], -1, 0)
    relative = jnp.stack([eta, wrap_angle(phi)], axis=-1)
    return {
      "hidden": hidden,
      "direction": jnp.where(real, relative, 0),
      "log_density": jnp.where(hidden, -outputs.output.nll(direction), 0),
    }

  return read


def read_direction_map(view: str, points: np.ndarray) -> Read:
  """`density` (B, P), as `Predictor.map_directions` says, of the head that read that view."""

  def read(outputs: Predicted, views: Views, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    hidden, found = hidden_particles(views[view], batch), outputs.output

    def at(point: jax.Array) -> jax.Array:
      direction = jnp.broadcast_to((found.axis + point)[:, None], found.centres.shape)
      return jnp.where(hidden, jnp.exp(-found.nll(direction)), 0).sum(axis=1)

    return {"density": jax.lax.map(at, jnp.asarray(points, jnp.float32)).T}

  return read


def read_guesses(task: MaskedFeatures, schema: Schema) -> Read:
  """The fields of `GuessedMeasurements`, of that task's head."""
  likelihood = task.likelihood

  def read(outputs: Predicted, views: Views, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    hidden = hidden_measurements(views[task.view], batch, schema)
    values = jnp.where(hidden, schema.values(batch.p4, batch.features, batch.mask), 0)
    found = outputs.output
    numbers = (found.raw, values, found.mean, found.std)
    guessed, true = likelihood.guesses(*numbers)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.asarray(batch.event_id))
    sampled = jax.vmap(likelihood.draws, (0, 0, None, None))(keys, found.raw, found.mean, found.std)
    made = {"true": true, "guessed": guessed, "sampled": sampled}
    made["nll"] = likelihood.nll(*numbers)
    return {"hidden": hidden} | {name: jnp.where(hidden, x, 0) for name, x in made.items()}

  return read
