"""How fast jets and J/psi events are generated: rows of benchmarks/throughput.py."""

from __future__ import annotations

import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from jetfm.generate import (
  CLASS_NAMES,
  generate_jets,
  make_files,
  plan_event_files,
  read_chains,
  take,
)

TARGET = 80.0  # jets per second
EVENT_TARGET = 5_000.0  # J/psi events per second


def measure_generate(
  jets_per_class: int = 1000, seed: int = 0, classes: Sequence[str] = CLASS_NAMES
) -> dict[str, Any]:
  """Accepted jets of equal class counts over the summed seconds of all classes, in one process.

  Initialisation is included; writing files is not (it takes less than 1 %).

  Returns: the row `generate`, with the rate of each class under `detail`.
  """
  seconds = {}
  for name in classes:
    start = time.perf_counter()
    for _ in take(generate_jets(name, seed), jets_per_class):
      pass
    seconds[name] = time.perf_counter() - start
  rate = jets_per_class * len(classes) / sum(seconds.values())
  return {
    "name": "generate",
    "value": round(rate, 1),
    "unit": "jets/s",
    "target": f">= {TARGET:g}",
    "holds": rate >= TARGET,
    "detail": {name: round(jets_per_class / value, 1) for name, value in seconds.items()},
  }


def measure_events(events: int = 50_000, seed: int = 0) -> dict[str, Any]:
  """Recorded J/psi events of the 100 chains over the seconds of one process, file and all.

  Returns: the row `generate_events`; under `detail` the rate after the start (reading the decay
    table and starting Pythia), and the bytes of an event on disk.
  """
  chains = tuple(read_chains())
  seen: list[tuple[float, int]] = []
  start = time.perf_counter()
  with tempfile.TemporaryDirectory() as folder:
    (file,) = plan_event_files(pathlib.Path(folder), chains, events, events, seed)
    make_files([file], progress=lambda made, _: seen.append((time.perf_counter(), made)))
    end = time.perf_counter()
    size = file.path.stat().st_size
  first_time, first_made = seen[0]
  rate = events / (end - start)
  return {
    "name": "generate_events",
    "value": round(rate, 1),
    "unit": "events/s",
    "target": f">= {EVENT_TARGET:g}",
    "holds": rate >= EVENT_TARGET,
    "detail": {
      "events": events,
      "after the start": round((events - first_made) / (end - first_time), 1),
      "seconds to start": round(first_time - start, 2),
      "bytes per event": round(size / events),
    },
  }
