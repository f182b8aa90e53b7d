"""Blocks of a Particle Transformer: particles attend to each other, a class token to all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.kernels import pair_attention, particle_extent
from jetfm.kernels.dropout import dropped
from jetfm.kernels.token_layers import BlockDropout, normalised_linear, residual_mlp
from jetfm.kernels.token_layers.api import has_kernels
from jetfm.nn.dropout import dropout_words
from jetfm.nn.linear import Linear
from jetfm.nn.norms import LayerNorm
from jetfm.nn.token_kernels import linear_weights, residual_weights


class _Residual(nn.Module):
  """What follows attention in every block, given x before it and the heads' mixed values.

      x = x + LN(W_o [c_h o_h])
      x = w * x + W_2 LN(GELU(W_1 LN(x)))

  c_h scales heads, w scales the residual; the norms after attention and inside the MLP are those
  of NormFormer (arXiv:2110.09456), as in ParT.
  """

  mlp_ratio: int
  dropout: float
  dtype: Any
  token_implementation: str | None = "xla"

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mixed: jax.Array,
    deterministic: bool,
    condition: jax.Array | None = None,
  ) -> jax.Array:
    width, heads = x.shape[-1], mixed.shape[-2]
    words = dropout_words(self, self.dropout, deterministic, keys=3)
    if _by_kernel(self, x, condition):
      return residual_mlp(
        x,
        mixed.reshape(x.shape),
        residual_weights(self.variables["params"]),
        dropout=None if words is None else BlockDropout(self.dropout, words),
        implementation=self.token_implementation,
      )

    def norm(name: str, in_parts: bool = True) -> Callable[..., Any]:
      layer = LayerNorm(dtype=self.dtype, in_parts=in_parts, name=name)
      return functools.partial(layer, condition=condition)

    def linear(features: int, name: str) -> Linear:
      return Linear(features, self.dtype, name=name)

    def drop(y: jax.Array, which: int) -> jax.Array:
      return dropped(y, self.dropout, None if words is None else words[which])

    head_scale = self.param("head_scale", nn.initializers.ones, (heads,))
    mixed = mixed * head_scale.astype(mixed.dtype)[:, None]
    y = linear(width, "out")(mixed.reshape(*x.shape[:-1], width))
    x = x + drop(norm("norm_out", in_parts=False)(y), 0)

    mlp_in = Linear(self.mlp_ratio * width, self.dtype, apart=True, name="mlp_in")
    y, bias = mlp_in(norm("norm_mlp")(x))
    y = norm("norm_hidden")(y, before=lambda y: drop(nn.gelu(y + bias), 1))
    y = linear(width, "mlp_out")(y)
    residual_scale = self.param("residual_scale", nn.initializers.ones, (width,))
    return x * residual_scale.astype(x.dtype) + drop(y, 2)


def _by_kernel(block: Any, x: jax.Array, condition: jax.Array | None) -> bool:
  """Whether a block's layers are kernels; its parameters are made by the layers themselves."""
  if condition is not None or block.is_initializing() or block.dtype not in (None, x.dtype):
    return False
  return has_kernels(block.token_implementation, x.shape[-1], x.dtype)


def check_heads(width: int, heads: int) -> None:
  """Raises: ValueError if the width is not a multiple of the heads."""
  if heads < 1 or width % heads:
    raise ValueError(f"width {width} cannot be split into {heads} heads: choose a divisor")


def split_heads(y: jax.Array, heads: int) -> jax.Array:
  """(..., D) -> (..., H, D/H). Raises: ValueError if D is not a multiple of the heads."""
  width = y.shape[-1]
  check_heads(width, heads)
  return y.reshape(*y.shape[:-1], heads, width // heads)


def with_query(x: jax.Array, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Tokens (B, 1 + N, D) and their mask, of which a single query x (B, 1, D) is the first.

  Raises: ValueError for several queries.
  """
  if x.shape[1] != 1:
    raise ValueError(f"include_self is for a single query, got x of shape {x.shape}")
  tokens = jnp.concatenate([x.astype(tokens.dtype), tokens], axis=1)
  return tokens, jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)


class AttentionBlock(nn.Module):
  """Pre-norm self-attention with a bias for every pair, then an MLP; NormFormer norms as in ParT.

      x = x + LN(W_o [c_h Attention_h(LN(x), bias_h)]);   x = w * x + W_2 LN(GELU(W_1 LN(x)))

  Padded slots neither attend nor are attended to. With `share_bias` the bias is also returned, to
  be given to the next block: see `jetfm.kernels.pair_attention`.

  `implementation` is that of attention, `token_implementation` that of all else, of
  `jetfm.kernels.token_layers`; blocks with a condition, or whose x has another dtype, are 'xla'.

  Shapes: x (B, N, D), bias (B, H, N, N) or None, mask (B, N), condition (B, C) of all four norms,
  or None -> (B, N, D), or that and the bias.
  Raises: ValueError if D is not a multiple of the heads.
  Source: arXiv:2202.03772; weaver-core scales heads after W_o, here before it, as in NormFormer.
  """

  heads: int
  mlp_ratio: int = 4
  dropout: float = 0.0
  dtype: Any = None
  implementation: str | None = None
  token_implementation: str | None = "xla"

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array | None,
    deterministic: bool = True,
    share_bias: bool = False,
    condition: jax.Array | None = None,
  ) -> Any:
    if _by_kernel(self, x, condition):
      weights = linear_weights(self.variables["params"], "qkv", "norm_in")
      options = {"dtype": self.dtype, "implementation": self.token_implementation}
      qkv = normalised_linear(x, *weights, parts=3, **options)
    else:
      y = LayerNorm(dtype=self.dtype, in_parts=True, name="norm_in")(x, condition)
      qkv = tuple(jnp.split(Linear(3 * x.shape[-1], self.dtype, name="qkv")(y), 3, axis=-1))
    q, k, v = (split_heads(part, self.heads) for part in qkv)
    mixed, bias = pair_attention(
      q,
      k,
      v,
      bias,
      mask,
      lengths=None if mask is None else particle_extent(mask),
      share_bias=True,
      implementation=self.implementation,
    )
    residual = _Residual(
      self.mlp_ratio, self.dropout, self.dtype, self.token_implementation, name="residual"
    )
    x = residual(x, mixed, deterministic, condition)
    return (x, bias) if share_bias else x


class CrossAttentionBlock(nn.Module):
  """Queries attend to a set, then an MLP; norms as in `AttentionBlock`, no pair bias.

  With `include_self` a query also attends to itself: class attention (arXiv:2103.17239) for one
  query, which then has something to attend to even in an empty event.

  Shapes: x (B, Q, D), tokens (B, N, D), mask (B, N) -> (B, Q, D).
  Raises: ValueError if D is not a multiple of the heads, or include_self is asked for Q > 1.
  """

  heads: int
  mlp_ratio: int = 4
  dropout: float = 0.0
  include_self: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(
    self, x: jax.Array, tokens: jax.Array, mask: jax.Array, deterministic: bool = True
  ) -> jax.Array:
    width = x.shape[-1]
    if self.include_self:
      tokens, mask = with_query(x, tokens, mask)
    q = Linear(width, self.dtype, name="query")(
      LayerNorm(dtype=self.dtype, in_parts=True, name="norm_query")(x)
    )
    y = LayerNorm(dtype=self.dtype, in_parts=True, name="norm_in")(tokens)
    kv = Linear(2 * width, self.dtype, name="key_value")(y)
    q, k, v = (split_heads(part, self.heads) for part in (q, *jnp.split(kv, 2, axis=-1)))
    mixed = pair_attention(q, k, v, mask=mask, implementation="xla")
    return _Residual(self.mlp_ratio, self.dropout, self.dtype, name="residual")(
      x, mixed, deterministic
    )
