"""What a task is: views of a batch, a head, a loss, metrics. The training loop knows only this."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax

from jetfm.typing import Array, Batch

Views = dict[str, Batch]
Statistics = dict[str, jax.Array]
"""Per-event arrays (B, ...); the trailing shape does not depend on the padded length."""

PLAIN = "plain"
"""Name of the view that is the batch itself."""


def view_key(key: jax.Array, name: str) -> jax.Array:
  """The key of one random view: equal names draw equal views, whichever task asks for them."""
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


class Task(Protocol):
  """One objective on top of the encoder.

  A global batch is a tuple of Batches of different lengths, so a loss cannot see particle axes of
  the whole batch at once. For each length group the loop augments the batch (`augmentations.py`),
  calls `views`, the encoder once per distinct view name over all tasks of the stage, the head, and
  `statistics`; it concatenates the statistics of all groups over events and calls `loss` (or
  `metrics`) once, on the global batch. Nothing here knows of devices: under `jit` with sharded
  inputs the same code is the global loss.
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

    The view of the unchanged batch is `PLAIN`. `key` depends on the step only (in evaluation on
    nothing), and is the same for all tasks and length groups: a random view draws from
    `view_key(key, name)`, with a name that tells its options, and per event from its id, so that
    the draw does not depend on how events are spread over groups.
    """
    ...

  def statistics(self, outputs: Any, views: Views, batch: Batch) -> Statistics:
    """Per-event sums and counts from which loss and metrics are made; no reduction over B.

    `batch` is what `views` got: targets come from it, never from a view.
    """
    ...

  def loss(
    self, statistics: Statistics, weight: Array, step: Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Statistics of the global batch and weight (B,) -> scalar and its named terms.

    `step` is the training step, for warm-ups. Filler has weight 0 and changes nothing, whatever
    its statistics are.
    """
    ...

  def metrics(self, statistics: Statistics, weight: Array) -> Mapping[str, jax.Array]:
    """Sums that add over evaluation batches: name -> (numerator, denominator) as one (2,)."""
    ...
