"""Jets of one class without end: Pythia, detector and clustering, in chunks of events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jetfm.generate import pythia
from jetfm.generate.acceptance_veto import veto_class
from jetfm.generate.jets import make_jets
from jetfm.generate.processes import COMMON_SETTINGS, PROCESSES
from jetfm.generate.table import Table

# Part of what a seed means: another size gives other jets.
EVENTS_PER_CHUNK = 100
_PYTHIA_SEEDS = 900_000_000


def generate_jets(class_name: str, seed: int, file_number: int = 0) -> Iterator[Table]:
  """Jets of a class, one table per chunk of events, forever.

  The jets depend on these three arguments alone (and on the versions of the packages).

  Args:
    class_name: one of CLASS_NAMES.
    seed: seed of the whole data set.
    file_number: number of the file within its class.
  """
  process = PROCESSES[class_name]
  # Tables may be empty. Classes that need two generators use them in turn.
  detector, *generators = np.random.SeedSequence([seed, process.class_id, file_number]).spawn(
    1 + len(process.settings)
  )
  rng = np.random.default_rng(detector)
  running = [
    pythia.Generator(
      (*COMMON_SETTINGS, *settings),
      int(source.generate_state(1)[0]) % _PYTHIA_SEEDS + 1,
      veto_class()(process),
    )
    for settings, source in zip(process.settings, generators, strict=True)
  ]
  first_event = 0
  while True:
    for instance in running:
      records = instance.next_events(EVENTS_PER_CHUNK)
      yield make_jets(rng, records, process, first_event)
      first_event += EVENTS_PER_CHUNK


def take(tables: Iterator[Table], count: int) -> Iterator[Table]:
  """Tables that together hold exactly `count` jets."""
  missing = count
  while missing > 0:
    table = next(tables).head(missing)
    missing -= len(table)
    yield table
