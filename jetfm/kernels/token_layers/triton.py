"""The layers of single tokens on NVIDIA GPUs, with gradients."""

from __future__ import annotations

from jetfm.kernels.token_layers import triton_backward, triton_forward
from jetfm.kernels.token_layers.gradient import linear_of, residual_of

linear = linear_of(triton_forward.linear, triton_backward.linear)
"""See `jetfm.kernels.token_layers.api.normalised_linear`."""

residual = residual_of(triton_forward.residual, triton_backward.residual)
"""See `jetfm.kernels.token_layers.api.residual_mlp`."""
