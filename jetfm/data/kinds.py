"""Kinds of data that can be ingested: what tells jets from e+e- events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jetfm.data.errors import DataError
from jetfm.data.event_schema import EVENT_INPUT_SETS
from jetfm.data.events import flag_of
from jetfm.data.jet_schema import INPUT_SETS, SPECTATORS, TARGETS
from jetfm.names import nearest
from jetfm.schema import Feature


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of data.

  Attributes:
    what: the word for its entries.
    input_sets: features by input set, the largest last.
    targets: of regression.
    spectators: columns that are kept beside the features.
    partly_missing: whether a detector group can miss a particle; then its flags are stored too.
  """

  what: str
  input_sets: Mapping[str, tuple[Feature, ...]]
  targets: tuple[Feature, ...] = ()
  spectators: tuple[str, ...] = ()
  partly_missing: bool = False

  def stored(self, inputs: str) -> tuple[str, ...]:
    """Names of the particle columns that an input set needs."""
    features = self.input_sets[inputs]
    names = tuple(f.name for f in features if not f.derived)
    if not self.partly_missing:
      return names
    return names + tuple(dict.fromkeys(flag_of(f.group) for f in features))


JETS = Kind("jets", INPUT_SETS, TARGETS, SPECTATORS)
EVENTS = Kind("events", EVENT_INPUT_SETS, partly_missing=True)
KINDS = (JETS, EVENTS)


def kind_of(inputs: str) -> Kind:
  """The kind of data with that input set.

  Raises: DataError for an unknown one.
  """
  for kind in KINDS:
    if inputs in kind.input_sets:
      return kind
  known = [name for kind in KINDS for name in kind.input_sets]
  raise DataError(f"no input set '{inputs}'; the nearest is '{nearest(inputs, known)}' of {known}")
