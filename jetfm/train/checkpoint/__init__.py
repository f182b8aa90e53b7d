"""Orbax checkpoints that say what they hold, and are verified when read."""

from jetfm.train.checkpoint.contents import digests
from jetfm.train.checkpoint.description import differences
from jetfm.train.checkpoint.errors import CannotSave, CheckpointError, DamagedCheckpoint
from jetfm.train.checkpoint.folder import Checkpoints
from jetfm.train.checkpoint.reading import Loaded, load, newest_progress
from jetfm.train.checkpoint.steps import complete_steps

__all__ = [
  "CannotSave",
  "CheckpointError",
  "Checkpoints",
  "DamagedCheckpoint",
  "Loaded",
  "complete_steps",
  "differences",
  "digests",
  "load",
  "newest_progress",
]
