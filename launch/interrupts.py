"""Stopping where it does no harm."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interruptible(*signals: signal.Signals) -> Iterator[Callable[[], None]]:
  """Signals are obeyed where the yielded function is called, and at once the second time.

  An exception raised at any moment can be lost, in a callback of the garbage collector for
  example, or come out of an import as an ImportError; out of XLA's compiler it has left a process
  that crashes at its end.

  Args:
    signals: without any, Ctrl-C alone.
  Raises: KeyboardInterrupt.
  """
  asked = False

  def ask(number: int, frame: Any) -> None:
    nonlocal asked
    if asked:
      raise KeyboardInterrupt
    asked = True
    os.write(2, b"\nstopping; Ctrl-C again to stop at once\n")

  def stop_if_asked() -> None:
    if asked:
      raise KeyboardInterrupt

  before = {number: signal.signal(number, ask) for number in signals or (signal.SIGINT,)}
  try:
    yield stop_if_asked
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
