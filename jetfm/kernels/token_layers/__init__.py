"""Layers of single tokens, for inference on so few events that launching kernels takes longest."""

from jetfm.kernels.token_layers.api import ResidualWeights, normalised_linear, residual_mlp

__all__ = ["ResidualWeights", "normalised_linear", "residual_mlp"]
