"""The one error of this package: bad data, said in full."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(ValueError):
  """Data that cannot be used: says which file and entry, what was expected, and what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
  """The known name that looks most like `name`, '' when nothing is known."""
  return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0)), "")
