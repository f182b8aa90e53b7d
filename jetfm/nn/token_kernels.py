"""Parameters of blocks, as the kernels of `jetfm.kernels.token_layers` take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from jetfm.kernels.token_layers import ResidualWeights
from jetfm.nn.linear import folded


def linear_weights(params: Mapping[str, Any], name: str, norm: str) -> tuple[jax.Array, jax.Array]:
  """Kernel and bias of a linear layer, with the scale and shift of the norm before it."""
  layer, norm_of = params[name], params[norm]
  return folded(layer["kernel"], layer["bias"], norm_of["scale"], norm_of["bias"])


def residual_weights(params: Mapping[str, Any]) -> ResidualWeights:
  """Of the end of a block; norms and scales of heads are part of its matrices."""
  out, scale = params["out"], params["head_scale"]
  # By heads, not with a scale for each row: XLA computes that product of constants beforehand.
  by_heads = scale[:, None, None] * out["kernel"].reshape(len(scale), -1, out["kernel"].shape[1])
  return ResidualWeights(
    by_heads.reshape(out["kernel"].shape),
    out["bias"],
    params["norm_out"]["scale"],
    params["norm_out"]["bias"],
    *linear_weights(params, "mlp_in", "norm_mlp"),
    *linear_weights(params, "mlp_out", "norm_hidden"),
    params["residual_scale"],
  )
