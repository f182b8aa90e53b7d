"""Means and standard deviations of features, gathered block by block in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jetfm.data.batch import make_batch
from jetfm.data.events import Events, flag_of
from jetfm.schema import Feature, Schema


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean, sum of squared deviations; `+` merges stably (Chan, Golub, LeVeque 1979)."""

  count: int = 0
  mean: float = 0.0
  squares: float = 0.0

  @classmethod
  def of(cls, x: np.ndarray) -> Moments:
    """Moments of all values of an array."""
    if x.size == 0:
      return cls()
    x = x.astype(np.float64)
    mean = float(x.mean())
    return cls(x.size, mean, float(np.square(x - mean).sum()))

  def __add__(self, other: Moments) -> Moments:
    if not self.count or not other.count:
      return self if self.count else other
    count = self.count + other.count
    shift = other.mean - self.mean
    return Moments(
      count,
      self.mean + shift * other.count / count,
      self.squares + other.squares + shift * shift * self.count * other.count / count,
    )

  @property
  def std(self) -> float:
    """Population standard deviation; 1 for a constant, which then standardises to 0, or nothing."""
    std = (self.squares / max(self.count, 1)) ** 0.5
    return std if std > 1e-7 * abs(self.mean) else 1.0


class MomentsOf:
  """Computes the moments that the z-scores of several schemas need.

  The keys of the result are the features and targets.
  """

  def __init__(
    self, schemas: Sequence[Schema], layout_particle: Sequence[str], block: int, length: int
  ):
    self._schemas, self._block, self._length = schemas, block, length
    self._place = {name: i for i, name in enumerate(layout_particle)}
    # Features of different schemas are often the same: each is computed once.
    self._features: dict[Feature, tuple[Schema, int]] = {}
    self._targets: dict[Feature, tuple[Schema, int]] = {}
    for schema in schemas:
      for found, features in (
        (self._features, schema.features),
        (self._targets, schema.targets),
      ):
        for i, feature in enumerate(features):
          if any(t.kind == "zscore" for t in feature.transforms):
            found.setdefault(feature, (schema, i))
    self._compute = jax.jit(self._values)

  def _values(self, p4, features, mask, targets):
    columns = {}
    for feature, (schema, i) in self._features.items():
      stored = features[..., [self._place[n] for n in schema.stored]]
      columns[feature] = feature.before_zscore(schema.values(p4, stored, mask)[..., i])
    for feature, (schema, i) in self._targets.items():
      columns[feature] = feature.before_zscore(schema.target_values(p4, targets, mask)[..., i])
    return tuple(columns.values())

  def __call__(self, block: Events) -> dict[Feature, Moments]:
    """Moments over the particles that have a feature, or for targets the events, of one block.

    Not every event has every stored target (`Feature.known`).
    """
    if not self._features and not self._targets:
      return {}
    num_targets = len(self._schemas[0].stored_targets)
    empty = block.slice(0, 0)
    rows: list[Events | int] = [block, self._block - len(block)]
    batch = make_batch(rows, self._length, num_targets, 1, empty)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
      values = self._compute(batch.p4, batch.features, batch.mask, batch.targets)
    values = [np.asarray(v) for v in values]
    split = len(self._features)
    out = {}
    for feature, v in zip(self._features, values[:split], strict=True):
      flag = self._place.get(flag_of(feature.group))
      measured = batch.mask if flag is None else batch.mask & (batch.features[..., flag] > 0)
      out[feature] = Moments.of(v[measured])
    real = batch.weight > 0
    stored = self._schemas[0].stored_targets
    for target, v in zip(self._targets, values[split:], strict=True):
      has = real
      if not target.derived:
        has = real & target.known(batch.targets[:, stored.index(target.name)])
      out[target] = Moments.of(v[has])
    return out


def merge(parts: Sequence[Mapping[Feature, Moments]]) -> dict[Feature, Moments]:
  """Sums, in the order given, so that the result does not depend on who computed what."""
  total: dict[Feature, Moments] = {}
  for part in parts:
    for feature, moments in part.items():
      total[feature] = total.get(feature, Moments()) + moments
  return total


def fit(schema: Schema, moments: Mapping[Feature, Moments]) -> Schema:
  """The schema with its z-scores; unchanged when there was nothing to fit on.

  A target that no event has is left out. A feature that was never measured gets mean 0 and std 1:
  models see 0 wherever it is missing.
  """
  if not any(m.count for m in moments.values()):
    return schema
  targets = tuple(t for t in schema.targets if t not in moments or moments[t].count)
  schema = dataclasses.replace(schema, targets=targets)
  found = {
    f.name: (m.mean, m.std) for f, m in moments.items() if f in (*schema.features, *schema.targets)
  }
  return schema.fitted(found)
