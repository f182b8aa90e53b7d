"""What was hidden from the encoder, and what the model makes of it."""

from __future__ import annotations

import dataclasses

import numpy as np


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
