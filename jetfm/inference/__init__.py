"""Using what was trained: events in, scores, masses, embeddings and jets out.

Needs a checkpoint and nothing else: it holds the model, its schema and its standardisation.
"""

from jetfm.inference.checkpoints import find_checkpoint, load
from jetfm.inference.groups import LENGTHS, ROWS
from jetfm.inference.hidden import GuessedMeasurements, LocatedParticles, Reconstruction
from jetfm.inference.online import Online
from jetfm.inference.predictor import EMBED, Predictor
from jetfm.inference.untrained import untrained

__all__ = [
  "EMBED",
  "GuessedMeasurements",
  "LENGTHS",
  "LocatedParticles",
  "Online",
  "ROWS",
  "Predictor",
  "Reconstruction",
  "find_checkpoint",
  "load",
  "untrained",
]
