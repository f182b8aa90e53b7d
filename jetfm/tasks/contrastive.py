"""Contrastive tasks: embeddings of events of one class, or of two views of one event, agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.models import Encoded, ProjectionHead
from jetfm.objectives import (
  nearest_is_positive,
  nt_xent,
  supervised_contrastive,
  weighted_sum,
)
from jetfm.schema import Schema
from jetfm.tasks.base import PLAIN, Statistics, Views, view_key
from jetfm.tasks.distortions import Distortion
from jetfm.tasks.heads import OneView, Predicted
from jetfm.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class SupervisedContrastive:
  """SupCon over all pairs of events of the global batch; events without a label do not count.

  It wants batches in which most classes occur twice: some hundred events for 100 classes.

  Attributes:
    temperature: of the similarities.
    head_options: of `jetfm.models.ProjectionHead`.

  Metrics: `nearest`, how often the most similar other event of the batch has the same class.
  Raises: ValueError if the temperature is not positive, or the schema has no classes.
  """

  schema: Schema
  name: str = "supervised_contrastive"
  temperature: float = 0.1
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_temperature(self.temperature)
    if len(self.schema.classes) < 2:
      raise ValueError(f"task '{self.name}' needs classes; schema '{self.schema.name}' has none")

  @property
  def head(self) -> nn.Module:
    return OneView(ProjectionHead(**self.head_options), PLAIN)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    return {PLAIN: batch}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    return {"embedding": outputs.output, "label": jnp.asarray(batch.label)}

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    z, label = statistics["embedding"], statistics["label"]
    return supervised_contrastive(z, label, weight, self.temperature), {}

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    z, label = statistics["embedding"], statistics["label"]
    return {"nearest": _hits(*nearest_is_positive(z, label, weight), weight)}


class _BothViews(nn.Module):
  """One head for two views; its parameters are the inner head's, without a level between."""

  inner: nn.Module
  names: Sequence[str]

  def setup(self) -> None:
    nn.share_scope(self, self.inner)

  def __call__(
    self,
    encoded: Mapping[str, Encoded],
    views: Mapping[str, Batch],
    *,
    deterministic: bool = True,
  ) -> Predicted:
    del views
    found = [self.inner(encoded[name], deterministic=deterministic) for name in self.names]
    return Predicted(tuple(found), encoded[self.names[0]].frame)


@dataclasses.dataclass(frozen=True)
class ViewContrastive:
  """NT-Xent of two distorted views of each event: needs no labels.

  Attributes:
    temperature: of the similarities.
    distortion: fields of `jetfm.tasks.distortions.Distortion` by name.
    head_options: of `jetfm.models.ProjectionHead`.

  Metrics: `nearest`, how often the other view of an event is the most similar of all views of the
  batch.
  Raises: ValueError for impossible options.
  """

  schema: Schema
  name: str = "view_contrastive"
  temperature: float = 0.2
  distortion: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_temperature(self.temperature)
    _ = self._distortion  # refuses impossible options

  @property
  def _distortion(self) -> Distortion:
    known = [field.name for field in dataclasses.fields(Distortion)]
    for option in self.distortion:
      if option not in known:
        raise ValueError(f"no option '{option}' of a distortion; expected some of {known}")
    return Distortion(**self.distortion)

  @property
  def view_names(self) -> tuple[str, str]:
    how = self._distortion
    name = f"distorted_{how.rotate:d}_{how.smear:g}_{how.drop:g}"
    return f"{name}_first", f"{name}_second"

  @property
  def head(self) -> nn.Module:
    return _BothViews(ProjectionHead(**self.head_options), self.view_names)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    distort = self._distortion
    return {name: distort(view_key(key, name), batch, self.schema) for name in self.view_names}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    return dict(zip(("first", "second"), outputs.output, strict=True))

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    return nt_xent(statistics["first"], statistics["second"], weight, self.temperature), {}

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    z = jnp.concatenate([statistics["first"], statistics["second"]])
    event, weight = jnp.tile(jnp.arange(len(weight)), 2), jnp.tile(weight, 2)
    return {"nearest": _hits(*nearest_is_positive(z, event, weight), weight)}


def _hits(hit: Array, counted: Array, weight: Array) -> jax.Array:
  """(numerator, denominator) of a rate."""
  hit, counted = jnp.asarray(hit & counted), jnp.asarray(counted)
  return jnp.stack([weighted_sum(x.astype(weight.dtype), weight) for x in (hit, counted)])


def _check_temperature(temperature: float) -> None:
  if not temperature > 0:
    raise ValueError(f"the temperature is {temperature}, expected a positive number")
