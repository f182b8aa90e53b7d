"""Linen layers. All are pointwise in the events: nothing is shared across a batch."""

from jetfm.nn.attention import AttentionBlock, CrossAttentionBlock
from jetfm.nn.dropout import Dropout
from jetfm.nn.equilinear import EquiLinear
from jetfm.nn.groups import GroupEmbed, group_columns
from jetfm.nn.mlp import MLP, Embed
from jetfm.nn.multivectors import (
  REFERENCES,
  grade_invariants,
  reference_vectors,
  signed_log,
)
from jetfm.nn.norms import LayerNorm
from jetfm.nn.pair_bias import PairBias
from jetfm.nn.pooling import Pooling, masked_mean
from jetfm.nn.standardise import StandardiseInputs, StandardiseTargets

__all__ = [
  "REFERENCES",
  "AttentionBlock",
  "CrossAttentionBlock",
  "Dropout",
  "Embed",
  "EquiLinear",
  "GroupEmbed",
  "LayerNorm",
  "MLP",
  "PairBias",
  "Pooling",
  "StandardiseInputs",
  "StandardiseTargets",
  "grade_invariants",
  "group_columns",
  "masked_mean",
  "reference_vectors",
  "signed_log",
]
