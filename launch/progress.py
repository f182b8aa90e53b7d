"""One line that says how far long work is: redrawn on a terminal, now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 10.0


class Progress:
  """`update(done, total)` shows share, rate and time left; `unit` is what is counted."""

  def __init__(self, name: str, unit: str, stream: TextIO | None = None):
    self._name, self._unit = name, unit
    self._stream = sys.stderr if stream is None else stream
    self._terminal = self._stream.isatty()
    self._start = time.monotonic()
    self._shown = self._start if not self._terminal else 0.0
    self._open = False

  def update(self, done: int, total: int) -> None:
    """Shows `done` of `total`, unless a line was shown just before."""
    now = time.monotonic()
    pause = _TERMINAL_SECONDS if self._terminal else _LOG_SECONDS
    if now - self._shown < pause and done < total:
      return
    self._shown = now
    rate = done / max(now - self._start, 1e-9)
    left = (total - done) / rate if rate else float("inf")
    line = (
      f"{self._name} {done:,} of {total:,} {self._unit} ({100 * done / max(total, 1):.0f} %)  "
      f"{rate:,.0f}/s  "
      + (f"ETA {_clock(left)}" if done < total else f"in {_clock(now - self._start)}")
    )
    self._stream.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
    self._stream.flush()
    self._open = self._terminal

  def close(self) -> None:
    """Ends the line, so that what is printed next has its own."""
    if self._open:
      self._stream.write("\n")
      self._open = False


def _clock(seconds: float) -> str:
  if seconds == float("inf"):
    return "unknown"
  minutes, seconds = divmod(int(seconds + 0.5), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
