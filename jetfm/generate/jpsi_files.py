"""Files of e+e- -> J/psi events: which ones, and what is in them."""

from __future__ import annotations

import importlib.metadata
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jetfm.generate.generator import take
from jetfm.generate.jpsi_decays import DECAYS_PER_CALL
from jetfm.generate.jpsi_events import generate_events
from jetfm.generate.table import Table

# To be raised whenever a change here gives other events for the same seed.
REVISION = 1


@dataclass(frozen=True)
class EventFile:
  """One file to be made.

  Attributes:
    path: where it goes.
    number: its number within the data set.
    count: how many events it holds.
    seed: seed of the whole data set.
    chains: decay chains of its events; branch `chain` is a place in this list.
  """

  path: pathlib.Path
  number: int
  count: int
  seed: int
  chains: tuple[str, ...]

  def tables(self) -> Iterator[Table]:
    """Its events, chunk by chunk."""
    return take(generate_events(self.chains, self.seed, self.number), self.count)

  def provenance(self) -> dict[str, Any]:
    """Everything that its content depends on."""
    return {
      "chains": list(self.chains),
      "file_number": self.number,
      "events": self.count,
      "seed": self.seed,
      "revision": REVISION,
      "decays_per_call": DECAYS_PER_CALL,
      "pythia8mc": importlib.metadata.version("pythia8mc"),
      "decaylanguage": importlib.metadata.version("decaylanguage"),
    }


def plan_event_files(
  out: pathlib.Path, chains: Sequence[str], events: int, events_per_file: int, seed: int
) -> list[EventFile]:
  """The files of a data set, the last one taking the rest."""
  return [
    EventFile(
      out / f"jpsi_{number:03d}.root",
      number,
      min(events_per_file, events - first),
      seed,
      tuple(chains),
    )
    for number, first in enumerate(range(0, events, events_per_file))
  ]
