"""The two operations that dominate a Particle Transformer, each behind one function.

`implementation=None` takes the best that the platform has, a name asks for one. A reference in
plain JAX ('xla') is the contract of every other implementation.
"""

from jetfm.kernels.extent import particle_extent
from jetfm.kernels.pair_attention.api import pair_attention
from jetfm.kernels.pair_bias.api import PAIR_KINDS, PairBiasWeights, pair_bias

__all__ = ["PAIR_KINDS", "PairBiasWeights", "pair_attention", "pair_bias", "particle_extent"]
