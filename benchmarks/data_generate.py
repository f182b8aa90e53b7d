"""How fast jets are generated: the row `generate` of benchmarks/throughput.py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from jetfm.generate import CLASS_NAMES, generate_jets, take

TARGET = 80.0  # jets per second


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
