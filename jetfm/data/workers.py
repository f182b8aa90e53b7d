"""What processes that read or write for another one do at their start."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
  """Ends this process when its parent is killed: it would wait forever, and keep its memory."""
  parent = multiprocessing.parent_process()

  def watch() -> None:
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
