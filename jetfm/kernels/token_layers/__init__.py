"""Layers of single tokens: what a block does before and after its attention."""

from jetfm.kernels.token_layers.api import normalised_linear, residual_mlp
from jetfm.kernels.token_layers.weights import BlockDropout, ResidualWeights

__all__ = ["BlockDropout", "ResidualWeights", "normalised_linear", "residual_mlp"]
