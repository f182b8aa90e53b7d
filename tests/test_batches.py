"""Batches of arrays in memory: what is filled in, what is refused, and under transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jetfm
from jetfm.data import jet_schema

FULL, KINEMATICS = jet_schema("full"), jet_schema("kin4")


def momenta(counts=(5, 0, 3), length=6):
  rng = np.random.default_rng(0)
  p3 = rng.normal(size=(len(counts), length, 3)) * 5
  p4 = np.concatenate([np.linalg.norm(p3, axis=-1, keepdims=True) + 0.1, p3], axis=-1)
  mask = np.arange(length) < np.array(counts)[:, None]
  return (p4 * mask[..., None]).astype(np.float32), mask


def stored(shape):
  rng = np.random.default_rng(1)
  return {name: rng.normal(size=shape).astype(np.float32) for name in FULL.stored}


def test_momenta_are_all_that_some_schemas_need():
  p4, mask = momenta()
  batch = jetfm.batch_of(KINEMATICS, p4)
  np.testing.assert_array_equal(batch.mask, mask)
  np.testing.assert_array_equal(batch.present, np.repeat(mask[..., None], 1, axis=-1))
  assert batch.features.shape == (3, 6, 0) and (batch.label == -1).all()
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(batch))


def test_features_come_in_the_order_of_the_schema_whatever_theirs():
  p4, mask = momenta()
  given = stored(mask.shape)
  batch = jetfm.batch_of(FULL, p4, dict(reversed(given.items())), label=[3, 1, 2])
  for i, name in enumerate(FULL.stored):
    np.testing.assert_array_equal(batch.features[..., i], given[name])
  assert batch.label.tolist() == [3, 1, 2] and batch.label.dtype == np.int32


def test_it_can_be_transformed():
  p4, mask = momenta()
  given = stored(mask.shape)
  here = jetfm.batch_of(FULL, p4, given)
  there = jax.jit(lambda p4, given: jetfm.batch_of(FULL, p4, given))(p4, given)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), there, here)
  label = jnp.array([3, 1, 2])
  traced = jax.jit(lambda label: jetfm.batch_of(FULL, p4, given, label=label).label)(label)
  np.testing.assert_array_equal(traced, label)
  slope = jax.grad(lambda p4: (jetfm.batch_of(KINEMATICS, p4).p4 ** 2).sum())(p4)
  np.testing.assert_allclose(slope, 2 * p4)


def test_what_does_not_fit_is_refused():
  p4, mask = momenta()
  given = stored(mask.shape)
  with pytest.raises(ValueError, match=r"p4 has shape \(6, 4\)"):
    jetfm.batch_of(KINEMATICS, p4[0])
  with pytest.raises(ValueError, match=r"input set 'full': missing \['part_charge'"):
    jetfm.batch_of(FULL, p4)
  with pytest.raises(ValueError, match=r"missing \[\], unknown \['part_colour'\]"):
    jetfm.batch_of(FULL, p4, given | {"part_colour": mask})
  with pytest.raises(ValueError, match=r"part_charge has shape \(2, 6\), expected \(3, 6\)"):
    jetfm.batch_of(FULL, p4, given | {"part_charge": given["part_charge"][:2]})
  with pytest.raises(ValueError, match=r"label has shape \(2,\), expected \(3,\)"):
    jetfm.batch_of(KINEMATICS, p4, label=[0, 1])
  with pytest.raises(ValueError, match="event 1 has the label 99; there are 10 classes"):
    jetfm.batch_of(KINEMATICS, p4, label=[-1, 99, 0])
  with pytest.raises(ValueError, match="event 0 has padding before a particle"):
    jetfm.batch_of(KINEMATICS, np.where(np.arange(6)[:, None] == 1, 0, p4) * 1.0)
