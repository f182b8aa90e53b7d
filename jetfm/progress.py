"""One line that says how far long work is: rewritten on a terminal, now and then one in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 15.0


class Progress:
  """`update(done, total)` shows share, rate and time left.

  The rate is that since the first update: starting up, and compiling the first step, do not count.

  Args:
    unit: what `done` counts.
    rate_unit: what `counted` of `update` counts, when the rate is not in the same unit.
    stream: stderr if not given.
    interval: seconds between lines.
  """

  def __init__(
    self,
    name: str,
    unit: str,
    rate_unit: str | None = None,
    stream: TextIO | None = None,
    interval: float | None = None,
  ):
    self._name, self._unit, self._rate_unit = name, unit, rate_unit or unit
    self._stream = sys.stderr if stream is None else stream
    self._terminal = self._stream.isatty()
    usual = _TERMINAL_SECONDS if self._terminal else _LOG_SECONDS
    self._interval = usual if interval is None else interval
    self._created = self._shown = time.monotonic()
    self._first: tuple[float, int] | None = None
    self._counted = 0
    self._values = ""
    self._open = False

  def update(
    self,
    done: int,
    total: int,
    counted: int | None = None,
    values: Mapping[str, float] | None = None,
  ) -> None:
    """Shows `done` of `total`, unless a line was shown just before.

    Args:
      counted: what was done since the last update, in units of the rate.
      values: replace what is shown behind.
    """
    if values is not None:
      self._values = "".join(f"  {name} {value:.4g}" for name, value in values.items())
    now = time.monotonic()
    first = self._first is None
    if self._first is None:
      self._first = now, done
    elif counted is not None:
      self._counted += counted
    begun = first and (done > 0 or self._terminal)
    if begun or done >= total or now - self._shown >= self._interval:
      self._shown = now
      self._show(now, done, total, counted is not None)

  def message(self, text: str) -> None:
    """A line that stays."""
    self._stream.write(f"\r\x1b[K{text}\n" if self._open else f"{text}\n")
    self._stream.flush()
    self._open = False

  def close(self) -> None:
    """Ends the line, so that what is printed next has its own."""
    if self._open:
      self._stream.write("\n")
      self._stream.flush()
      self._open = False

  def _show(self, now: float, done: int, total: int, counts: bool) -> None:
    assert self._first is not None
    begin, before = self._first
    parts = [f"{self._name}  {done:,}/{total:,} {self._unit} ({100 * done // max(total, 1)} %)"]
    if done > before:
      seconds = max(now - begin, 1e-9)
      counted = self._counted if counts else done - before
      parts.append(f"{counted / seconds:,.0f} {self._rate_unit}/s")
      if done < total:
        parts.append(f"ETA {_clock((total - done) * seconds / (done - before))}")
    if done >= total or done == before:
      parts.append(f"after {_clock(now - self._created)}")
    line = "  ".join(parts) + self._values
    self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
    self._stream.flush()
    self._open = self._terminal


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
