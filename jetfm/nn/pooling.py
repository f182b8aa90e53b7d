"""From the tokens of an event to one vector."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.nn.attention import CrossAttentionBlock
from jetfm.nn.initializers import truncated_normal
from jetfm.nn.norms import LayerNorm


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over the particles, x (B, N, D) and mask (B, N) -> (B, D); 0 for an empty event."""
  total = jnp.where(mask[..., None], x, 0).sum(axis=-2, dtype=jnp.promote_types(x.dtype, "float32"))
  count = jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
  return (total / count).astype(x.dtype)


class Pooling(nn.Module):
  """Class attention and the mean of the tokens, side by side.

      c <- class_block_l(c, tokens), l = 0 .. layers-1;   y = LN(c) | LN(mean_n tokens_n)

  Unchanged by permutations of the particles. Without class blocks only the mean is left.

  Shapes: tokens (B, N, D), mask (B, N) -> (B, 2 D), or (B, D) if layers = 0.
  Source: arXiv:2202.03772 (class attention), with mean pooling beside it.
  """

  layers: int = 2
  heads: int = 8
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(
    self, tokens: jax.Array, mask: jax.Array, *, deterministic: bool = True
  ) -> jax.Array:
    mean = LayerNorm(dtype=self.dtype, name="norm_mean")(masked_mean(tokens, mask))
    if not self.layers:
      return mean
    width = tokens.shape[-1]
    token = self.param("class_token", truncated_normal(0.02), (1, 1, width))
    c = jnp.broadcast_to(token, (tokens.shape[0], 1, width)).astype(tokens.dtype)
    for layer in range(self.layers):
      c = CrossAttentionBlock(
        self.heads,
        self.mlp_ratio,
        self.dropout,
        include_self=True,
        dtype=self.dtype,
        name=f"class_block_{layer}",
      )(c, tokens, mask, deterministic)
    c = LayerNorm(dtype=self.dtype, name="norm_class")(c[:, 0])
    return jnp.concatenate([c, mean], axis=-1)
