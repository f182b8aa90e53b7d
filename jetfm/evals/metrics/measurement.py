"""What a measured number carries with it: its error, what it compares to, or why there is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


class UndefinedMetric(ValueError):
  """The data do not define this metric; the message says why."""


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One number of a results table.

  Attributes:
    value: None where the metric is undefined; then `reason` says why.
    error: one standard deviation, statistical, of the finite test set.
    reference: what a model that learned nothing reaches (chance), or what perfect agreement gives
      in a finite sample (floor); `reference_kind` says which.
    baseline: the same metric of a trivial method, named by `baseline_kind`.
    others: the same metric of further trivial methods, by name.
    seeds: number of trainings behind `value`; spread: their standard deviation, None for one.
    note: a condition of the number that a reader must know.
  """

  value: float | None
  error: float | None = None
  reason: str = ""
  reference: float | None = None
  reference_kind: str = ""
  baseline: float | None = None
  baseline_kind: str = ""
  others: Mapping[str, float] = dataclasses.field(default_factory=dict)
  seeds: int = 1
  spread: float | None = None
  note: str = ""

  def __post_init__(self):
    if (self.value is None) != bool(self.reason):
      raise ValueError(
        f"a measurement has a value or a reason why not, got {self.value}, '{self.reason}'"
      )
    for name in ("value", "error", "reference", "baseline", "spread"):
      number = getattr(self, name)
      if number is None:
        continue
      if not math.isfinite(number):
        raise ValueError(f"{name} = {number}: say why it is undefined instead")
      object.__setattr__(self, name, float(number))
    for name, number in self.others.items():
      if not math.isfinite(number):
        raise ValueError(f"{name} = {number}: leave it out instead")

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON; what is empty is left out, an undefined value is null."""
    items = dataclasses.asdict(self).items()
    return {k: v for k, v in items if k in ("value", "seeds") or v not in (None, "", {})}

  @classmethod
  def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
    """The measurement that `to_dict` described."""
    return cls(**data)


def measure(metric: Callable[[], float], **about: Any) -> Measurement:
  """Runs a metric; an `UndefinedMetric` becomes a measurement without a value.

  `about` are further fields of `Measurement`.
  """
  try:
    return Measurement(float(metric()), **about)
  except UndefinedMetric as error:
    about.pop("error", None)
    return Measurement(None, reason=str(error), **about)


def bootstrap_error(
  metric: Callable[[np.ndarray], float],
  weight: np.ndarray,
  *,
  replicas: int = 50,
  seed: int = 0,
) -> float:
  """Standard deviation of `metric(weight)` under Poisson(1) resampling of B events.

  Shapes: weight (B,). The metric runs `replicas` times. Replicas in which it is undefined are
  left out.
  Raises: UndefinedMetric when fewer than two replicas define it.
  Source: B. Efron, Ann. Statist. 7 (1979) 1; Poisson counts as usual for weighted events.
  """
  rng = np.random.default_rng(seed)
  weight = np.asarray(weight, np.float64)
  values = []
  for _ in range(replicas):
    try:
      values.append(metric(weight * rng.poisson(1.0, weight.shape)))
    except UndefinedMetric:
      continue
  if len(values) < 2:
    raise UndefinedMetric(f"defined in only {len(values)} of {replicas} resamplings")
  return float(np.std(values, ddof=1))


def combine_seeds(runs: Sequence[Mapping[str, Measurement]]) -> dict[str, Measurement]:
  """Results of trainings that differ by their seed -> mean value and spread of each metric.

  Errors, references and baselines are averaged. A metric that is undefined in one run is undefined
  in the combination.
  Raises: ValueError when the runs do not hold the same metrics, or there is no run.
  """
  if not runs:
    raise ValueError("no run to combine")
  names = list(runs[0])
  for run in runs[1:]:
    if set(run) != set(names):
      raise ValueError(f"runs hold different metrics: {sorted(set(run) ^ set(names))}")
  return {name: _combine([run[name] for run in runs]) for name in names}


def _combine(measured: Sequence[Measurement]) -> Measurement:
  first = measured[0]
  if len(measured) == 1:
    return first
  undefined = next((m for m in measured if m.value is None), None)
  if undefined is not None:
    return dataclasses.replace(undefined, seeds=len(measured))

  def mean(field: str) -> float | None:
    numbers = [getattr(m, field) for m in measured]
    return None if None in numbers else float(np.mean(numbers))

  values = [m.value for m in measured if m.value is not None]
  return dataclasses.replace(
    first,
    value=mean("value"),
    error=mean("error"),
    reference=mean("reference"),
    baseline=mean("baseline"),
    others={
      name: float(np.mean([m.others[name] for m in measured]))
      for name in first.others
      if all(name in m.others for m in measured)
    },
    seeds=len(measured),
    spread=float(np.std(values, ddof=1)),
  )
