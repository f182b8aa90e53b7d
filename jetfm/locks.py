"""One run at a time for what a run writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator


class Busy(Exception):
  """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a file, which is made if need be and stays.

  The lock ends with the process, so that a killed run holds nothing. Where the file system knows no
  locks, nothing is held.
  Raises: Busy; OSError where the file cannot be made.
  """
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise Busy(path) from None
    except OSError:  # no locks here: better than no run
      pass
    if not _is_open_at(descriptor, path):  # whoever held it moved or removed it meanwhile
      raise Busy(path)
    yield
  finally:
    os.close(descriptor)


def _is_open_at(descriptor: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  except FileNotFoundError:
    return False
