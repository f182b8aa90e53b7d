"""What tasks add to the heads of `jetfm.models`: which view a head reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax

from jetfm.models import Encoded
from jetfm.typing import Batch


@flax.struct.dataclass
class Predicted:
  """A head's output and the frame that its momenta are in."""

  output: Any
  frame: jax.Array
  """(B, 4, 4) the Lorentz transformation from the laboratory into that frame."""


class OneView(nn.Module):
  """A head that reads one view; its parameters are the inner head's, without a level between.

  Shapes: {view: Encoded}, {view: Batch} -> Predicted of the inner head's output.
  """

  inner: nn.Module
  view: str

  def setup(self) -> None:
    nn.share_scope(self, self.inner)

  def __call__(
    self,
    encoded: Mapping[str, Encoded],
    views: Mapping[str, Batch],
    *,
    deterministic: bool = True,
  ) -> Predicted:
    output = self.read(encoded[self.view], views[self.view], deterministic)
    return Predicted(output, encoded[self.view].frame)

  def read(self, encoded: Encoded, view: Batch, deterministic: bool) -> Any:
    """The inner head's output; heads that need more of the view override this."""
    del view
    return self.inner(encoded, deterministic=deterministic)
