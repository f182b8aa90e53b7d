"""Early stopping: when the validation result has not improved for a while."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
  """The best result so far and how long ago it was. Part of every checkpoint.

  Attributes:
    monitor: name of the validation result.
    largest: True when larger is better.
    patience: evaluations without improvement before stopping; 0 never stops.
    best: the best finite result, None before the first.
    waited: evaluations since then.
    evaluated: step of the last evaluation.
  """

  monitor: str = "loss"
  largest: bool = False
  patience: int = 0
  best: float | None = None
  best_step: int = 0
  waited: int = 0
  evaluated: int = 0

  @property
  def stopped(self) -> bool:
    return 0 < self.patience <= self.waited

  def update(self, step: int, value: float) -> tuple[EarlyStopping, bool]:
    """The new state, and whether this result is the best."""
    sign = 1 if self.largest else -1
    better = math.isfinite(value) and (self.best is None or sign * value > sign * self.best)
    if better:
      return dataclasses.replace(self, best=value, best_step=step, waited=0, evaluated=step), True
    return dataclasses.replace(self, waited=self.waited + 1, evaluated=step), False

  def to_dict(self) -> dict[str, Any]:
    return {name: getattr(self, name) for name in ("best", "best_step", "waited", "evaluated")}

  def resumed(self, saved: dict[str, Any]) -> EarlyStopping:
    """These options with the saved state."""
    return dataclasses.replace(self, **saved)
