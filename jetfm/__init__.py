"""jetfm: foundation models of collider events in JAX.

`jetfm.lorentz` four-momenta and the algebra Cl(1,3); `jetfm.nn` layers; `jetfm.models` encoders and
heads; `jetfm.tasks` and `jetfm.train` what they are trained for, and how; `jetfm.data` records and
batches, `jetfm.batch_of` those of arrays in memory; `jetfm.inference` and `jetfm.load` what was
trained, in use. Importing jetfm needs jax, flax and numpy only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jetfm import lorentz, models, nn
from jetfm.batches import batch_of
from jetfm.schema import Feature, Schema, Transform
from jetfm.typing import Batch

if TYPE_CHECKING:
  from jetfm.inference import Predictor

__version__ = "0.1.0"


def load(path: str | os.PathLike[str]) -> Predictor:
  """A trained model from its checkpoint, such as RUN/classify/best; see `jetfm.inference.load`.

  Raises: jetfm.train.CheckpointError when there is none, or when it is damaged.
  """
  # Only here: reading checkpoints needs more packages than `import jetfm` may.
  from jetfm import inference

  return inference.load(path)


__all__ = [
  "Batch",
  "Feature",
  "Schema",
  "Transform",
  "batch_of",
  "load",
  "lorentz",
  "models",
  "nn",
]
