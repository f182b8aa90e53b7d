"""Tagging: which class of the schema a jet belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.models import ClassificationHead
from jetfm.objectives import cross_entropy, weighted_mean, weighted_sum
from jetfm.schema import Schema
from jetfm.tasks.base import PLAIN, Statistics, Views
from jetfm.tasks.heads import OneView, Predicted
from jetfm.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class Classification:
  """Cross entropy over `schema.classes`; events without a label (-1) do not count.

  Attributes:
    smoothing: of labels, in the loss and not in the metrics.
    head_options: of `jetfm.models.ClassificationHead`.

  Metrics: `accuracy`, `top3` (the label is among the three largest logits) and `cross_entropy`
  without smoothing, in nats.
  Raises: ValueError if the schema has no classes, or for a smoothing that is not in [0, 1].
  """

  schema: Schema
  name: str = "classification"
  smoothing: float = 0.0
  head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not 0 <= self.smoothing <= 1:
      raise ValueError(f"smoothing is {self.smoothing}, expected a number in [0, 1]")
    if len(self.schema.classes) < 2:
      raise ValueError(
        f"task '{self.name}' needs at least two classes; schema '{self.schema.name}' has "
        f"{list(self.schema.classes)}"
      )

  @property
  def head(self) -> nn.Module:
    return OneView(ClassificationHead(len(self.schema.classes), **self.head_options), PLAIN)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    return {PLAIN: batch}

  def statistics(self, outputs: Predicted, views: Views, batch: Batch) -> Statistics:
    logits, label = outputs.output, jnp.asarray(batch.label)
    labelled = label >= 0
    place = jnp.where(labelled, place_of_label(logits, label), len(self.schema.classes))
    return {
      "labelled": labelled.astype(logits.dtype),
      "smoothed": cross_entropy(logits, label, self.smoothing),
      "cross_entropy": cross_entropy(logits, label),
      "accuracy": (place < 1).astype(logits.dtype),
      "top3": (place < 3).astype(logits.dtype),
    }

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    def mean(name):
      return weighted_mean(statistics[name], statistics["labelled"], weight)

    return mean("smoothed"), {"accuracy": mean("accuracy")}

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    events = weighted_sum(statistics["labelled"], weight)
    return {
      name: jnp.stack([weighted_sum(statistics[name], weight), events])
      for name in ("accuracy", "top3", "cross_entropy")
    }


def place_of_label(logits: Array, label: Array) -> jax.Array:
  """How many classes come before the right one, (B, K) and (B,) -> (B,) int.

  Of equal logits the first class wins, as with argmax. A NaN comes before everything: a model that
  has diverged is never right.
  """
  classes = jnp.arange(logits.shape[-1])
  label = jnp.clip(label, 0, logits.shape[-1] - 1)[..., None]
  own = jnp.take_along_axis(logits, label, axis=-1)
  after = (logits < own) | ((logits == own) & (classes > label))
  return ((classes != label) & ~after).sum(axis=-1)
