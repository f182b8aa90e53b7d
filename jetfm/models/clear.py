"""CLEAR: an encoder of whole e+e- events, whose objects lack some of their measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.models.encoder import Encoded, Encoder, check_option, encoded, enter
from jetfm.models.event_counts import EVENT_COUNTS, check_counts, event_counts
from jetfm.nn import CrossAttentionBlock, GroupEmbed, LayerNorm, StandardiseInputs
from jetfm.nn.groups import COMBINATIONS
from jetfm.nn.initializers import truncated_normal
from jetfm.typing import Batch


class Clear(Encoder):
  """Detector groups -> tokens -> blocks conditioned on event counts -> class attention.

      t_n = GroupEmbed(features of n by group, with learned vectors for missing ones)
      tokens = LN(block_{L-1}(... block_0(t))),  norms in blocks conditioned on ln(1 + counts)
      c <- class_block_l(c, tokens),             event = LN(c)

  What is hidden (`Batch.hidden_groups`, `Batch.hidden_rank`), missing or padding changes no bit. An
  object of which any group is hidden has no four-momentum here, as that follows from measurements:
  its pairs get the learned constant of the pair bias. Counts are those of objects that are not
  hidden as a whole; a group that is hidden alone counts as measured.

  Shapes: Batch of N objects -> Encoded: tokens (B, N, D), event (B, D). Tokens commute with
  permutations of the objects, the event embedding is unchanged by them.
  Source: class attention is that of arXiv:2103.17239.

  Attributes, beside those of `Encoder`:
    combine: of the groups' embeddings, 'concatenate' or 'sum'.
    conditions: names in `EVENT_COUNTS`; () for plain norms.
    class_depth: class-attention blocks.
  """

  depth: int = 6
  embed_widths: Sequence[int] = (128,)
  frame: str = "lab"
  pair: str | None = "event"
  max_rank: int = 64
  combine: str = "concatenate"
  conditions: Sequence[str] = tuple(EVENT_COUNTS)
  class_depth: int = 2

  def __post_init__(self) -> None:
    check_option("combine", self.combine, COMBINATIONS)
    check_counts(self.conditions, self.schema)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Batch, *, deterministic: bool = True) -> Encoded:
    hidden = jnp.zeros(batch.present.shape, bool)
    if batch.hidden_groups is not None:
      hidden = jnp.asarray(batch.mask[..., None] & batch.present & batch.hidden_groups)
    partly = hidden.any(axis=-1)
    p4 = jnp.where(partly[..., None], 0, batch.p4)  # before a frame is made from it
    visible = enter(dataclasses.replace(batch, p4=p4, hidden_groups=None), self.frame)
    momentum = visible.seen & ~partly
    hidden = hidden | (self._derived_groups() & ~momentum[..., None])
    hidden = visible.present & hidden
    columns = StandardiseInputs(self.schema, name="standardise")(
      visible.lab, visible.features, visible.present & ~hidden, visible.seen
    )
    tokens = GroupEmbed(
      self.schema, (*self.embed_widths, self.width), self.combine, self.dtype, name="embed"
    )(columns, visible.present, hidden)
    condition = None
    if self.conditions:
      condition = event_counts(self.conditions, self.schema, visible.present, visible.seen)
    tokens = self.transform(tokens, visible, deterministic, condition, visible.mask & ~momentum)
    event = self._attend(tokens, visible.mask, deterministic)
    return dataclasses.replace(encoded(tokens, visible), event=event)

  def _derived_groups(self) -> jax.Array:
    """(G,) groups with features that are computed from the four-momentum."""
    derived = {f.group for f in self.schema.features if f.derived}
    return jnp.asarray([group in derived for group in self.schema.groups], bool)

  def _attend(self, tokens: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
    """(B, N, D) -> (B, D). All names start with 'class_', for strategies that train it alone."""
    token = self.param("class_token", truncated_normal(0.02), (1, 1, self.width))
    c = jnp.broadcast_to(token, (tokens.shape[0], 1, self.width)).astype(tokens.dtype)
    for layer in range(self.class_depth):
      c = CrossAttentionBlock(
        self.heads,
        self.mlp_ratio,
        self.dropout,
        include_self=True,
        dtype=self.dtype,
        name=f"class_block_{layer}",
      )(c, tokens, mask, deterministic)
    return LayerNorm(dtype=self.dtype, name="class_norm")(c[:, 0])
