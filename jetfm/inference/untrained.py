"""What an encoder can do before it has learned anything."""

from __future__ import annotations

import dataclasses

import jax

from jetfm.inference.groups import filler
from jetfm.inference.predictor import Predictor
from jetfm.models.foundation import named_key
from jetfm.nn.initializers import drawn_together


def untrained(predictor: Predictor, seed: int) -> Predictor:
  """The same encoder with fresh parameters and the constants of the trained one, without heads.

  What its embedding tells is in the inputs; a pretraining has to tell more.
  """
  trained = predictor.trained
  encoder, key = trained.model.encoder, named_key(jax.random.key(seed), "untrained")
  event = filler(predictor.schema, 1, predictor.lengths[0])

  @jax.jit
  def init(key):
    return drawn_together(lambda: encoder.init(key, event, deterministic=True)["params"], key)

  variables = {
    "params": {"encoder": init(key)},
    "constants": {"encoder": trained.variables["constants"]["encoder"]},
  }
  return Predictor(
    dataclasses.replace(trained, variables=variables), predictor.lengths, predictor.rows
  )
