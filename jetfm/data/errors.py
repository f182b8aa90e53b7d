"""The one error of this package: bad data, said in full."""

from __future__ import annotations


class DataError(ValueError):
  """Data that cannot be used: says which file and entry, what was expected, and what to do."""
