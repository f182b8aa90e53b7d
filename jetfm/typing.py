"""Batch, the one container that every model eats, and the letters that name axes.

Axis letters in comments, docstrings and einsum:
B batch, N particles, M second particle axis, F features, G detector groups, H heads, D width,
K head width, C multivector channels, L layers, T targets, S spectators.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import flax.struct
import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any


@flax.struct.dataclass
class Batch:
  """Events of one padded length, in the physical units of `Schema`'s features.

  Particles come first, padding last. What padded slots hold has no meaning.
  """

  p4: Array
  """(B, N, 4) four-momenta (E, px, py, pz) in GeV."""
  features: Array
  """(B, N, F) stored features, in the order of `Schema.stored`."""
  present: Array
  """(B, N, G) bool: which detector groups (`Schema.groups`) measured the particle."""
  mask: Array
  """(B, N) bool: True where there is a particle."""
  label: Array
  """(B,) int32 class number, an index into `Schema.classes`; -1 where there is none."""
  targets: Array
  """(B, T) regression targets, in the order of `Schema.stored_targets`."""
  weight: Array
  """(B,) event weight; 0 marks filler that completes a batch."""
  event_id: Array
  """(B,) int32 number of the event in its data set; -1 for filler."""
  spectators: Array
  """(B, S) kept for evaluation, never an input, in the order of `Schema.spectators`."""
  hidden_rank: Array | None = None
  """(B, N) int32 pT rank (0 = leading) of a particle that is hidden from the encoder, -1 where it
  is visible; None when nothing is hidden. A hidden particle's p4 and features have no meaning."""
  hidden_groups: Array | None = None
  """(B, N, G) bool: measurements that are hidden from the encoder though there are some (`present`
  stays True); None when none are. Their features, and the p4 of their particle, have no meaning."""

  @property
  def num_events(self) -> int:
    return self.mask.shape[0]

  @property
  def length(self) -> int:
    """Padded number of particles."""
    return self.mask.shape[1]
