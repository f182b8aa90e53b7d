"""From four-momenta to the attention bias of every pair of particles."""

from jetfm.kernels.pair_bias.api import PAIR_KINDS, PairBiasWeights, pair_bias

__all__ = ["PAIR_KINDS", "PairBiasWeights", "pair_bias"]
