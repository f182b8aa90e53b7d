"""Choosing one of several implementations of an operation by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping


def select(operation: str, implementation: str, table: Mapping[str, Callable]) -> Callable:
  """The implementation of that name.

  Raises: ValueError for a name that is not in the table.
  """
  if implementation not in table:
    near = difflib.get_close_matches(implementation, table, n=1, cutoff=0)[0]
    raise ValueError(
      f"{operation} has no implementation '{implementation}'; the nearest is '{near}' of "
      f"{list(table)}, and None chooses by itself"
    )
  return table[implementation]
