"""What a task is: views of a batch, a head, a loss, metrics. The training loop knows only this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax

from jetfm.typing import Array, Batch

Views = dict[str, Batch]
Statistics = dict[str, Array]
"""Per-event arrays (B, ...); the trailing shape does not depend on the padded length."""


class Task(Protocol):
  """One objective on top of the encoder.

  A global batch is a tuple of Batches of different lengths, so a loss cannot see particle axes of
  the whole batch at once. For each length group the loop calls `views`, the encoder once per
  distinct view name over all tasks of the stage, the head, and `statistics`; it concatenates the
  statistics of all groups over events and calls `loss` (or `metrics`) once, on the global batch.
  Nothing here knows of devices: under `jit` with sharded inputs the same code is the global loss.
  """

  name: str
  """Name of the head's parameters, `heads/<name>/...`, and prefix of logged terms."""

  @property
  def head(self) -> nn.Module:
    """`head(encoded: {view: Encoded}, views: {view: Batch}, deterministic: bool) -> outputs`.

    Heads that sample draw from `self.make_rng('sample')`, dropout from `'dropout'`.
    """
    ...

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    """The views that the encoder shall see, by name. Equal names mean equal views.

    The view of the unchanged batch is called 'plain'; a random view draws from `key`, which depends
    on the step, the length group and the view's name, and not on the task.
    """
    ...

  def statistics(self, outputs: Any, views: Views, batch: Batch) -> Statistics:
    """Per-event sums and counts from which loss and metrics are made; no reduction over B."""
    ...

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[Array, dict[str, Array]]:
    """Statistics of the global batch and weight (B,) -> scalar and its named terms.

    `step` is the training step, for warm-ups. Filler has weight 0 and changes nothing.
    """
    ...

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, Array]:
    """Sums that add over evaluation batches: name -> (numerator, denominator) as one (2,)."""
    ...
