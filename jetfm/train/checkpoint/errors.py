"""What can go wrong with a checkpoint."""

from __future__ import annotations


class CheckpointError(Exception):
  """A checkpoint that cannot be written, read or used here."""


class CannotSave(CheckpointError):
  """The disk is full or not writable. What was saved before is intact."""


class DamagedCheckpoint(CheckpointError):
  """A checkpoint whose bytes are not those that were written."""


def first_line(error: BaseException) -> str:
  """What another library's error says, short enough for a line of ours."""
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300]
