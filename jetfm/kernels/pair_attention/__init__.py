"""Attention with an additive bias for every pair of particles."""

from jetfm.kernels.pair_attention.api import pair_attention

__all__ = ["pair_attention"]
