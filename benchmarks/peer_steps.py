"""Which jets a step of a peer's training sees, and at which learning rate: as jetfm's own.

Needs numpy alone: peers run it in an environment of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


def rows_of(jets: int, size: int, seed: int, first: int, steps: int) -> Iterator[np.ndarray]:
  """The jets of each step from `first`: every epoch another order."""
  per_epoch = jets // size
  for step in range(first, steps):
    epoch, place = divmod(step, per_epoch)
    if step == first or not place:
      order = np.random.default_rng((seed, epoch)).permutation(jets)
    yield order[place * size : (place + 1) * size]


def rate(step: int, steps: int, optimizer: dict[str, Any]) -> float:
  """That of `jetfm.train.optim.schedule`: rises linearly, falls as half a cosine to `final`."""
  peak, warmup, low = (optimizer[name] for name in ("rate", "warmup", "final"))
  if step < warmup:
    return peak * (step + 1) / (warmup + 1)
  fallen = (step - warmup) / max(1, steps - warmup)
  return peak * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * fallen)))
