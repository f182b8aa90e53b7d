"""What the jet encoders share: the entry, the trunk, and what they hand over to heads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jetfm import lorentz
from jetfm.kernels import PAIR_KINDS
from jetfm.kernels.activations import ACTIVATIONS
from jetfm.nn import AttentionBlock, LayerNorm, PairBias, Pooling
from jetfm.nn.attention import check_heads
from jetfm.nn.initializers import normal
from jetfm.schema import Schema
from jetfm.typing import Batch

FRAMES = ("jet", "lab")


@flax.struct.dataclass
class Encoded:
  """What an encoder says about a batch; padded slots are exactly 0 everywhere."""

  tokens: jax.Array
  """(B, N, D), one for each particle, the hidden ones included."""
  mask: jax.Array
  """(B, N) bool: True where there is a particle, hidden or not."""
  hidden: jax.Array
  """(B, N) bool: True for particles that were hidden as a whole."""
  rank: jax.Array
  """(B, N) pT rank of hidden particles, 0 elsewhere."""
  p4: jax.Array
  """(B, N, 4) in GeV, in the encoder's frame, of visible particles; 0 where it was hidden."""
  frame: jax.Array
  """(B, 4, 4) the Lorentz transformation from the laboratory into the encoder's frame."""
  multivectors: jax.Array | None = None
  """(B, N, C, 16) in the encoder's frame and scale; None from an encoder without them."""
  event: jax.Array | None = None
  """(B, D) an embedding of the whole event; None from an encoder that leaves pooling to heads."""


@flax.struct.dataclass
class Visible:
  """A batch in which hidden particles and padding are exactly 0, in two frames."""

  mask: jax.Array
  """(B, N) particles, hidden or not."""
  hidden: jax.Array | None
  """(B, N), or None when nothing is hidden."""
  rank: jax.Array | None
  """(B, N) pT rank of hidden particles, 0 elsewhere; None when nothing is hidden."""
  seen: jax.Array
  """(B, N) particles that are not hidden."""
  lab: jax.Array
  """(B, N, 4) momenta in the laboratory."""
  p4: jax.Array
  """(B, N, 4) momenta in the encoder's frame."""
  frame: jax.Array
  """(B, 4, 4) from the laboratory into the encoder's frame."""
  features: jax.Array
  """(B, N, F) stored features."""
  present: jax.Array
  """(B, N, G)."""


def enter(batch: Batch, frame: str) -> Visible:
  """The one place where padding and hidden particles are removed, before anything is computed.

  frame 'jet': the common frame of `jetfm.lorentz.to_jet_frame`, of the visible particles' sum;
  'lab': momenta as they are.
  Raises: ValueError for hidden groups: what they leave visible is for an encoder that knows them.
  """
  if batch.hidden_groups is not None:
    raise ValueError(
      "the batch hides single detector groups, and this encoder has no place for that: use "
      "encoder.kind 'clear', or a task with group_ratio 0"
    )
  hidden = rank = None
  mask = seen = jnp.asarray(batch.mask)
  if batch.hidden_rank is not None:
    hidden = mask & (batch.hidden_rank >= 0)
    rank = jnp.where(hidden, batch.hidden_rank, 0)
    seen = mask & ~hidden
  lab = jnp.where(seen[..., None], batch.p4, 0)
  if frame == "jet":
    p4, matrix = lorentz.to_jet_frame(lab, seen)
  else:
    p4 = lab
    matrix = jnp.broadcast_to(jnp.eye(4, dtype=lab.dtype), (lab.shape[0], 4, 4))
  return Visible(
    mask=mask,
    hidden=hidden,
    rank=rank,
    seen=seen,
    lab=lab,
    p4=p4,
    frame=matrix,
    features=jnp.where(seen[..., None], batch.features, 0),
    present=seen[..., None] & batch.present,
  )


def check_option(name: str, value: str | None, known: Collection[str | None]) -> None:
  """Raises: ValueError for an option whose value is not one of the known ones."""
  if value not in known:
    raise ValueError(f"{name} is {value!r}, expected one of {list(known)}")


class Encoder(nn.Module):
  """Options and trunk of every jet encoder.

  Norms and kernels define gradients of their own, also with respect to a batch's momenta, so that
  there is no forward mode (`jax.jvp`).

  Raises: ValueError, when it is made, for options that it does not know or that do not fit.

  Attributes:
    schema: of the data; its standardisation numbers go to the collection `constants`.
    width, depth, heads, mlp_ratio: D, L, H and the MLP's hidden width over D.
    embed_widths: hidden widths between the inputs and D; () for a single linear layer.
    frame: 'jet' brings every jet into a common frame, 'lab' does not.
    pair: pair features, one of `jetfm.kernels.PAIR_KINDS`, or None for no bias.
    pair_widths: hidden widths of the pair MLP.
    pair_activation, pair_norm: of its hidden layers: 'gelu' or 'relu', RMSNorm or none.
    max_rank: pT ranks of hidden particles at or beyond the last share its code.
    dropout: rate inside the blocks.
    dtype: of the trunk's products, such as jnp.bfloat16; parameters are float32. None computes in
      the dtype of the inputs.
    remat: keep only each block's input for the backward pass and recompute the rest.
    implementation: of both pair kernels.
    token_implementation: of what lies between two attentions, of `jetfm.kernels.token_layers`; None
      takes kernels on NVIDIA GPUs: for half precision, widths up to 128, blocks without condition.
  """

  schema: Schema
  width: int = 128
  depth: int = 8
  heads: int = 8
  mlp_ratio: int = 4
  embed_widths: Sequence[int] = (128, 512)
  frame: str = "jet"
  pair: str | None = "part"
  pair_widths: Sequence[int] = (64, 64, 64)
  pair_activation: str = "gelu"
  pair_norm: bool = True
  max_rank: int = 128
  dropout: float = 0.0
  dtype: Any = None
  remat: bool = False
  implementation: str | None = None
  token_implementation: str | None = "xla"

  def __post_init__(self) -> None:
    check_option("frame", self.frame, FRAMES)
    check_option("pair", self.pair, (*PAIR_KINDS, None))
    check_option("pair_activation", self.pair_activation, ACTIVATIONS)
    check_heads(self.width, self.heads)
    super().__post_init__()

  def transform(
    self,
    tokens: jax.Array,
    visible: Visible,
    deterministic: bool,
    condition: jax.Array | None = None,
    no_momentum: jax.Array | None = None,
  ) -> jax.Array:
    """Embedded particles (B, N, D) -> tokens (B, N, D); call it from a compact method.

    A hidden particle enters as one learned vector plus the code of its pT rank. Blocks are
    `block_0` .. `block_{L-1}`.

    Args:
      condition: (B, C) of the blocks' norms, or None.
      no_momentum: (B, N) particles without pair features; None for the hidden ones.
    """
    mask_token = self.param("mask_token", normal(0.02), (self.width,))
    rank_code = self.param("rank_code", normal(0.02), (self.max_rank, self.width))
    if visible.hidden is not None and visible.rank is not None:
      code = mask_token + jnp.take(rank_code, visible.rank, axis=0, mode="clip")
      tokens = jnp.where(visible.hidden[..., None], code.astype(tokens.dtype), tokens)
    tokens = jnp.where(visible.mask[..., None], tokens, 0)

    bias = None
    if self.pair is not None:
      bias = PairBias(
        self.heads,
        self.pair_widths,
        self.pair,
        self.dtype,
        self.implementation,
        self.pair_activation,
        self.pair_norm,
        name="pair_bias",
      )(visible.p4, visible.mask, visible.hidden if no_momentum is None else no_momentum)

    block_class = nn.remat(AttentionBlock, static_argnums=(4, 5)) if self.remat else AttentionBlock
    for layer in range(self.depth):
      tokens, bias = block_class(
        self.heads,
        self.mlp_ratio,
        self.dropout,
        self.dtype,
        self.implementation,
        self.token_implementation,
        name=f"block_{layer}",
      )(tokens, bias, visible.mask, deterministic, True, condition)
    tokens = LayerNorm(dtype=self.dtype, name="norm")(tokens)
    return jnp.where(visible.mask[..., None], tokens, 0)


def event_vector(encoded: Encoded, pooling: Pooling, *, deterministic: bool) -> jax.Array:
  """(B, D'): the encoder's own embedding of the event, or else what `pooling` makes of its tokens.

  Without need of it, `pooling` gets no parameters.
  """
  if encoded.event is not None:
    return encoded.event
  return pooling(encoded.tokens, encoded.mask, deterministic=deterministic)


def encoded(tokens: jax.Array, visible: Visible, multivectors: jax.Array | None = None) -> Encoded:
  """Bundle an encoder's results."""
  hidden = jnp.zeros_like(visible.mask) if visible.hidden is None else visible.hidden
  rank = jnp.zeros(visible.mask.shape, jnp.int32) if visible.rank is None else visible.rank
  return Encoded(tokens, visible.mask, hidden, rank, visible.p4, visible.frame, multivectors)
