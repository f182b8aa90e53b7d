"""Parameters of blocks, as the kernels of `jetfm.kernels.token_layers` take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jetfm.kernels.token_layers import ResidualWeights
from jetfm.nn.linear import folded


def linear_weights(params: Mapping[str, Any], name: str, norm: str) -> tuple[jax.Array, jax.Array]:
  """Kernel and bias of a linear layer, with the scale and shift of the norm before it."""
  layer, norm_of = params[name], params[norm]
  return folded(layer["kernel"], layer["bias"], norm_of["scale"], norm_of["bias"])


def residual_weights(params: Mapping[str, Any]) -> ResidualWeights:
  """Of the end of a block; norms and scales of heads are part of its matrices."""
  out = params["out"]
  scale = jnp.repeat(params["head_scale"], out["kernel"].shape[0] // params["head_scale"].shape[0])
  return ResidualWeights(
    scale[:, None] * out["kernel"],
    out["bias"],
    params["norm_out"]["scale"],
    params["norm_out"]["bias"],
    *linear_weights(params, "mlp_in", "norm_mlp"),
    *linear_weights(params, "mlp_out", "norm_hidden"),
    params["residual_scale"],
  )
