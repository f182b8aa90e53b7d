"""Parameter counts of the published size, without allocating a parameter."""

import math

import jax
import pytest

from jetfm.data.jet_schema import JETCLASS, jet_schema
from jetfm.models import ClassificationHead, LorentzParT, ParT

PART_PUBLISHED = 2.14e6
"""Parameters of ParT with 17 inputs and 10 classes (arXiv:2202.03772, table 5)."""


def count(tree):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree["params"]))


def tagger_size(encoder, batch):
  """Encoder and classification head."""
  key = jax.random.key(0)
  variables, head = jax.eval_shape(encoder.init, key, batch), ClassificationHead(len(JETCLASS))
  encoded = jax.eval_shape(encoder.apply, variables, batch)
  return count(variables) + count(jax.eval_shape(head.init, key, encoded))


@pytest.mark.parametrize("inputs", ["kin", "full"])
def test_equal_parameters(make_batch, inputs):
  schema, batch = jet_schema(inputs), make_batch()
  batch = batch.replace(
    features=batch.features[..., : len(schema.stored)],
    present=batch.present[..., : len(schema.groups)],
  )
  ours, plain = tagger_size(LorentzParT(schema), batch), tagger_size(ParT(schema), batch)
  assert abs(ours / plain - 1) < 0.03
  assert abs(ours / PART_PUBLISHED - 1) < 0.03
