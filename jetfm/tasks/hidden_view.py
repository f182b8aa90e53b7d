"""What tasks on hidden particles share: the view in which they are hidden."""

from __future__ import annotations

import dataclasses

import jax

from jetfm.schema import Schema
from jetfm.tasks.base import Views
from jetfm.tasks.masking import check_masking, hidden_view, hide_some
from jetfm.typing import Batch


@dataclasses.dataclass(frozen=True)
class OnHiddenView:
  """A task that sees one view, in which some particles are hidden; a base of tasks.

  Tasks of equal `ratio` and `masking` share the view, which is encoded once for all.

  Attributes:
    ratio, masking: how many and which particles are hidden, see `jetfm.tasks.masking`.
  Raises: ValueError for an unknown way of masking or a ratio outside (0, 1).
  """

  schema: Schema
  name: str
  ratio: float = 0.3
  masking: str = "random"

  def __post_init__(self):
    check_masking(self.ratio, self.masking)

  @property
  def view(self) -> str:
    return hidden_view(self.ratio, self.masking)

  def views(self, key: jax.Array, batch: Batch, train: bool) -> Views:
    return {self.view: hide_some(key, batch, self.ratio, self.masking)}
