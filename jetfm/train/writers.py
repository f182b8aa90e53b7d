"""What a run says while it works: a progress line, metrics.jsonl, TensorBoard files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TextIO

from jetfm.progress import Progress
from jetfm.train.checkpoint import CannotSave


class MetricsFile:
  """metrics.jsonl: one JSON object per line, with `step` and `split`.

  Opening it for a run that resumes at a step removes later lines: they will be written again.
  """

  def __init__(self, path: str | os.PathLike[str], resume_step: int = 0):
    self._path = pathlib.Path(path)
    kept = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        try:
          if json.loads(line)["step"] <= resume_step and resume_step > 0:
            kept.append(line + "\n")
        except json.JSONDecodeError:
          pass  # the half line of a run that was killed
    # Replaced at once: a kill in between leaves the old file or the new one.
    new = self._path.with_suffix(".new")
    new.write_text("".join(kept))
    new.replace(self._path)
    self._file = open(self._path, "a", buffering=1)  # noqa: SIM115, closed by close()

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Raises: CannotSave when the disk is full or not writable."""
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    try:
      self._file.write(json.dumps({"step": step, "split": split, **finite}) + "\n")
    except OSError as error:
      raise CannotSave(
        f"cannot write {self._path}: {error.strerror}. Make room and start again: the run resumes "
        "from its newest checkpoint"
      ) from error

  def close(self) -> None:
    with contextlib.suppress(OSError):  # of what `write` could not write, and has reported
      self._file.close()


class Writers:
  """All of them behind one call; only the first process of a run writes.

  TensorBoard files are written where tensorboardX is installed (the extra `evaluate`).
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    name: str,
    resume_step: int = 0,
    primary: bool = True,
    stream: TextIO | None = None,
  ):
    folder = pathlib.Path(folder)
    self._nowhere = None if primary else open(os.devnull, "w")  # noqa: SIM115, closed by close()
    self.progress = Progress(name, "steps", "events", stream=self._nowhere or stream)
    self._metrics = self._board = None
    if primary:
      folder.mkdir(parents=True, exist_ok=True)
      self._metrics = MetricsFile(folder / "metrics.jsonl", resume_step)
      self._board = _tensorboard(folder / "tensorboard", resume_step)

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    if self._metrics is not None:
      self._metrics.write(step, split, values)
    if self._board is not None:
      for name, value in values.items():
        self._board.add_scalar(f"{split}/{name}", value, step)

  def close(self) -> None:
    self.progress.close()
    for writer in (self._metrics, self._board, self._nowhere):
      if writer is not None:
        writer.close()


def _tensorboard(folder: pathlib.Path, resume_step: int) -> Any:
  try:
    from tensorboardX import SummaryWriter
  except ImportError:
    return None
  return SummaryWriter(str(folder), purge_step=resume_step + 1 if resume_step else None)
