"""Asking a run to stop: SIGTERM to any of its processes."""

from __future__ import annotations

import signal
import threading

import jax

from jetfm.train.processes import any_process


class TerminationFlag:
  """Set by SIGTERM while the `with` block lasts: the loop saves and leaves between two batches."""

  def __init__(self):
    self._asked = threading.Event()
    self._reported: jax.Array | None = None
    self._agreed = False

  def __enter__(self) -> TerminationFlag:
    # Python delivers signals to the main thread only; elsewhere the flag can still be set by hand.
    self._main = threading.current_thread() is threading.main_thread()
    if self._main:
      self._before = signal.signal(signal.SIGTERM, lambda *_: self.set())
    return self

  def __exit__(self, *_) -> None:
    if self._main:
      signal.signal(signal.SIGTERM, self._before)

  def set(self) -> None:
    self._asked.set()

  def __call__(self) -> bool:
    """Whether any process of the run was asked to stop: the same answer in all of them.

    Several processes must call together. They answer what was so at the call before: that has
    been computed on the devices meanwhile, so that nobody waits for this step's work.
    """
    if jax.process_count() == 1:
      return self._asked.is_set()
    if not self._agreed:
      before, self._reported = self._reported, any_process(self._asked.is_set())
      self._agreed = before is not None and bool(before)
    return self._agreed
