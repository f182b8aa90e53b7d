"""A model for a few events on a GPU: what XLA does in ten small kernels, in one.

A GPU runs a layer of one event faster than it starts the kernels that make it up. Here the layers
between two attentions are the two kernels of `jetfm.kernels.token_layers`, and attention is the one
that XLA can start together with all others, as one CUDA graph: Mosaic's cannot be part of one. The
encoder's blocks have an option for that (`prepared`), embeddings and class attention do not
(`few_events`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.kernels import pair_attention
from jetfm.kernels.implementations import HALF, can_run
from jetfm.kernels.pair_attention.api import IMPLEMENTATIONS as ATTENTION
from jetfm.kernels.pair_bias.api import IMPLEMENTATIONS as BIAS
from jetfm.kernels.token_layers import normalised_linear, residual_mlp
from jetfm.kernels.token_layers.api import FEW_TOKENS, WIDEST, WIDEST_RESIDUAL
from jetfm.nn import CrossAttentionBlock, Embed
from jetfm.nn.attention import split_heads, with_query
from jetfm.nn.token_kernels import linear_weights, residual_weights
from jetfm.train.restore import TrainedModel

KERNELS = "triton"


def prepared(trained: TrainedModel, events: int, length: int) -> TrainedModel | None:
  """The same model for `few_events`, where that is faster.

  Args:
    events: of a call.
    length: most particles of an event.
  Returns: None for many events, in more than half precision, where the kernels cannot run, or where
    the encoder's `implementation` asks for others; its `token_implementation` is replaced.
  """
  encoder: Any = trained.model.encoder
  if events * length > FEW_TOKENS or encoder.implementation is not None:
    return None
  dtype = jnp.dtype(encoder.dtype or jnp.float32)
  if dtype.name not in HALF:  # products of others have no tensor cores
    return None
  call = {"particles": length, "dtypes": (dtype,)}
  widths = {"width": encoder.width // encoder.heads}, {"width": max(encoder.pair_widths, default=0)}
  for kernel, width in zip((ATTENTION[KERNELS], BIAS[KERNELS]), widths, strict=True):
    if not can_run(kernel, {**call, **width}):
      return None
  of_tokens = KERNELS if encoder.width <= WIDEST_RESIDUAL else "xla"
  encoder = encoder.clone(implementation=KERNELS, token_implementation=of_tokens, remat=False)
  return dataclasses.replace(trained, model=dataclasses.replace(trained.model, encoder=encoder))


@contextlib.contextmanager
def few_events(implementation: str = KERNELS) -> Iterator[None]:
  """In here, embeddings and deterministic class attention are traced as a few kernels.

  That is not part of JAX's cache of traces: nothing that is traced here may be traced outside too.

  Args:
    implementation: of `jetfm.kernels.token_layers`.
  """

  def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    layer = _LAYERS.get(type(module)) if context.method_name == "__call__" else None
    if layer is None:
      return call(*args, **kwargs)
    arguments = inspect.signature(type(module).__call__).bind(module, *args, **kwargs)
    arguments.apply_defaults()
    _, *values = arguments.args
    made = layer(module, implementation, *values, **arguments.kwargs)
    return call(*args, **kwargs) if made is NotImplemented else made

  with nn.intercept_methods(intercept):
    yield


def _cross_attention_block(
  block: CrossAttentionBlock,
  implementation: str,
  x: jax.Array,
  tokens: jax.Array,
  mask: jax.Array,
  deterministic: bool,
) -> Any:
  if not deterministic or not all(_fits(y, WIDEST_RESIDUAL) for y in (x, tokens)):
    return NotImplemented
  weights = block.variables["params"]
  if block.include_self:
    tokens, mask = with_query(x, tokens, mask)
  query = linear_weights(weights, "query", "norm_query")
  (q,) = normalised_linear(x, *query, implementation=implementation)
  key_value = linear_weights(weights, "key_value", "norm_in")
  k, v = normalised_linear(tokens, *key_value, parts=2, implementation=implementation)
  q, k, v = (split_heads(y, block.heads) for y in (q, k, v))
  # Neither the one key more than the encoder has nor the width of a head's heads was asked for yet.
  call = {"particles": k.shape[1], "dtypes": (k.dtype,), "width": k.shape[-1]}
  able = can_run(ATTENTION[implementation], call)
  mixed = pair_attention(q, k, v, mask=mask, implementation=implementation if able else "xla")
  return residual_mlp(
    x,
    mixed.reshape(x.shape),
    residual_weights(weights["residual"]),
    implementation=implementation,
  )


def _embed(embed: Embed, implementation: str, x: jax.Array) -> Any:
  if not embed.widths or not _fits(x, WIDEST) or max(embed.widths) > WIDEST:
    return NotImplemented
  weights = embed.variables["params"]
  for layer in range(len(embed.widths)):
    (x,) = normalised_linear(
      x,
      *linear_weights(weights, f"linear_{layer}", f"norm_{layer}"),
      gelu=True,
      dtype=embed.dtype,
      implementation=implementation,
    )
  return x


_LAYERS: Mapping[type, Callable[..., Any]] = {
  CrossAttentionBlock: _cross_attention_block,
  Embed: _embed,
}
"""What replaces a layer; it returns NotImplemented where it cannot."""


def _fits(x: jax.Array, widest: int) -> bool:
  return math.prod(x.shape[:-1]) <= FEW_TOKENS and x.shape[-1] <= widest
