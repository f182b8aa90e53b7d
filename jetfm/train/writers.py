"""What a run says while it works: a progress line, metrics.jsonl, TensorBoard files."""

from __future__ import annotations

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO


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
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    self._file.write(json.dumps({"step": step, "split": split, **finite}) + "\n")

  def close(self) -> None:
    self._file.close()


class Progress:
  """One line that is rewritten on a terminal; plain lines, a few per minute, elsewhere."""

  def __init__(
    self,
    name: str,
    total: int,
    start: int = 0,
    stream: TextIO | None = None,
    interval: float | None = None,
  ):
    self._name, self._total, self._start = name, total, start
    self._stream = sys.stderr if stream is None else stream
    self._terminal = self._stream.isatty()
    self._interval = (0.2 if self._terminal else 20.0) if interval is None else interval
    self._begin: float | None = None
    self._created = self._last = time.monotonic()
    self._events = 0
    self._shown = False
    self._text = ""

  def update(self, step: int, events: int, values: Mapping[str, float] | None = None) -> None:
    """`events` were processed since the last call; `values` replace what is shown beside."""
    if values is not None:
      self._text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
    now = time.monotonic()
    if self._begin is None:
      # The first step compiles: the rate is that of the others.
      self._begin, self._start = now, step
      self._text = self._text or f"first step after {now - self._created:.0f} s"
    else:
      self._events += events
    if now - self._last >= self._interval or step == self._total or not self._shown:
      self._last = now
      self._show(step, now - self._begin)

  def message(self, text: str) -> None:
    """A line that stays."""
    if self._terminal:
      self._stream.write("\r\x1b[K")
    self._stream.write(text + "\n")
    self._stream.flush()

  def close(self) -> None:
    if self._terminal and self._shown:
      self._stream.write("\n")
      self._stream.flush()

  def _show(self, step: int, seconds: float) -> None:
    done = step - self._start
    rate, eta = "-", "--:--"
    if done:
      rate = f"{self._events / max(seconds, 1e-9):,.0f}"
      eta = _clock(seconds / done * (self._total - step))
    line = f"{self._name}  {step}/{self._total}  {rate} events/s  ETA {eta}  {self._text}"
    self._stream.write(f"\r\x1b[K{line}" if self._terminal else line + "\n")
    self._stream.flush()
    self._shown = True


class Writers:
  """All of them behind one call; only the first process of a run writes.

  TensorBoard files are written where tensorboardX is installed (the extra `evaluate`).
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    name: str,
    steps: int,
    resume_step: int = 0,
    primary: bool = True,
    stream: TextIO | None = None,
  ):
    folder = pathlib.Path(folder)
    stream = stream if primary else open(os.devnull, "w")  # noqa: SIM115
    self.progress = Progress(name, steps, resume_step, stream)
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
    for writer in (self._metrics, self._board):
      if writer is not None:
        writer.close()


def _tensorboard(folder: pathlib.Path, resume_step: int) -> Any:
  try:
    from tensorboardX import SummaryWriter
  except ImportError:
    return None
  return SummaryWriter(str(folder), purge_step=resume_step + 1 if resume_step else None)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
