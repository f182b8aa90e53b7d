"""Help with names that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
  """The known name that looks most like `name`, '' when nothing is known."""
  return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0)), "")
