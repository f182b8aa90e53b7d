"""Norms, blocks, pooling and standardisation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.nn import (
  AttentionBlock,
  CrossAttentionBlock,
  LayerNorm,
  Pooling,
  StandardiseInputs,
  StandardiseTargets,
  reference_vectors,
)
from jetfm.schema import Feature, Schema, Transform

B, N, D, H = 3, 5, 8, 2
MASK = np.arange(N) < np.array([5, 2, 0])[:, None]


def tokens(seed=0, dtype=np.float32):
  return np.random.default_rng(seed).normal(size=(B, N, D)).astype(dtype)


def initialised(module, *args):
  return jax.jit(module.init)(jax.random.key(0), *args)


def applied(module, variables, *args, **kwargs):
  return np.asarray(jax.jit(functools.partial(module.apply, **kwargs))(variables, *args))


def test_the_norm_is_its_definition(x64):
  x = 5 * tokens(dtype=np.float64) + 3
  layer = LayerNorm(epsilon=0.0)
  y = applied(layer, initialised(layer, x), x)
  np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-12)
  np.testing.assert_allclose(y.std(axis=-1), 1, rtol=1e-12)


def test_statistics_of_bfloat16_are_float32():
  """A mean of 300 leaves no digits of bfloat16 for the square of the deviations."""
  x = (300 + 4 * np.random.default_rng(0).integers(-1, 2, (4, 256))).astype(jnp.bfloat16)
  variables = initialised(LayerNorm(), x)
  y, exact = (applied(LayerNorm(), variables, z) for z in (x, x.astype(np.float32)))
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(y, np.float32), exact, rtol=4e-3)


def test_a_conditional_norm_starts_as_a_plain_one():
  x, condition = tokens(), np.random.default_rng(1).normal(size=(B, 4)).astype(np.float32)
  variables = initialised(LayerNorm(), x, condition)
  plain = {"params": {k: v for k, v in variables["params"].items() if k != "condition"}}
  np.testing.assert_array_equal(
    applied(LayerNorm(), variables, x, condition), applied(LayerNorm(), plain, x)
  )


def test_a_condition_scales_and_shifts_its_own_event(x64):
  x, condition = tokens(dtype=np.float64), np.random.default_rng(1).normal(size=(B, 4))
  params = initialised(LayerNorm(), x, condition)["params"]
  kernel = np.random.default_rng(2).normal(size=(4, 2 * D))
  params = params | {"condition": {"kernel": kernel, "bias": params["condition"]["bias"]}}
  found = applied(LayerNorm(), {"params": params}, x, condition)
  scale, shift = np.split(condition @ kernel, 2, axis=-1)
  plain = applied(LayerNorm(), {"params": {"scale": np.ones(D), "bias": np.zeros(D)}}, x)
  np.testing.assert_allclose(found, plain * (1 + scale[:, None]) + shift[:, None], rtol=1e-10)


def test_attention_block_permutes_and_ignores_padding():
  x, bias = tokens(), np.random.default_rng(1).normal(size=(B, H, N, N)).astype(np.float32)
  block = AttentionBlock(H)
  variables = initialised(block, x, bias, MASK)
  apply = jax.jit(block.apply)
  y = np.asarray(apply(variables, x, bias, MASK))
  order = np.array([3, 0, 4, 1, 2])
  z = apply(variables, x[:, order], bias[:, :, order][..., order], MASK[:, order])
  np.testing.assert_allclose(z, y[:, order], atol=1e-5)
  other = np.where(MASK[..., None], x, tokens(seed=2))
  w = np.asarray(apply(variables, other, bias, MASK))
  np.testing.assert_array_equal(w[MASK], y[MASK])
  assert np.abs(y - apply(variables, x, 2 * bias, MASK))[0].max() > 1e-4


def test_dropout_needs_a_key_and_is_off_when_deterministic():
  x = tokens()
  block = AttentionBlock(H, dropout=0.5)
  variables = initialised(block, x, None, MASK)
  still = applied(AttentionBlock(H), variables, x, None, MASK)
  np.testing.assert_array_equal(applied(block, variables, x, None, MASK), still)
  random = jax.jit(functools.partial(block.apply, deterministic=False))
  one, two = (
    np.asarray(random(variables, x, None, MASK, rngs={"dropout": jax.random.key(s)}))
    for s in (1, 2)
  )
  assert np.abs(one - two).max() > 1e-3 and np.abs(one - still).max() > 1e-3


def test_width_must_fit_the_heads():
  with pytest.raises(ValueError, match="width 8 cannot be split into 3 heads"):
    initialised(AttentionBlock(3), tokens(), None, MASK)


@pytest.mark.parametrize("layers", [0, 2])
def test_pooling_is_invariant_under_permutations(layers):
  pool = Pooling(layers, H)
  x = tokens()
  variables = initialised(pool, x, MASK)
  apply = jax.jit(pool.apply)
  y = np.asarray(apply(variables, x, MASK))
  assert y.shape == (B, D if layers == 0 else 2 * D) and np.isfinite(y).all()
  order = np.array([3, 0, 4, 1, 2])
  np.testing.assert_allclose(apply(variables, x[:, order], MASK[:, order]), y, atol=1e-5)
  other = np.where(MASK[..., None], x, tokens(seed=2))
  np.testing.assert_array_equal(apply(variables, other, MASK), y)
  assert np.abs(y[0] - y[1]).max() > 1e-2


def test_queries_with_nothing_to_attend_to_are_finite():
  x = tokens()
  block = CrossAttentionBlock(H)
  y = applied(block, initialised(block, x[:, :2], x, MASK), x[:, :2], x, MASK)
  assert y.shape == (B, 2, D) and np.isfinite(y).all()
  with pytest.raises(ValueError, match="single query"):
    initialised(CrossAttentionBlock(H, include_self=True), x, x, MASK)


SCHEMA = Schema(
  "test",
  (
    Feature("pt", "GeV", transforms=(Transform("log"), Transform("zscore")), derived=True),
    Feature("d0", "mm", "track", (Transform("zscore"),)),
    Feature("kind", "", "identification", (Transform("categorical", (1.0, 2.0, 5.0)),)),
  ),
  targets=(Feature("mass", "GeV", "target", (Transform("log"), Transform("zscore"))),),
)
FITTED = SCHEMA.fitted({"pt": (1.0, 2.0), "d0": (3.0, 4.0), "mass": (4.5, 0.5)})


def particles():
  rng = np.random.default_rng(0)
  p4 = np.abs(rng.normal(size=(B, N, 4))).astype(np.float32)
  features = np.stack([rng.normal(size=(B, N)), rng.choice([1.0, 2.0, 5.0], (B, N))], axis=-1)
  present = np.ones((B, N, len(SCHEMA.groups)), bool)
  return p4, features, present, MASK


def test_inputs_are_standardised_by_the_schema():
  p4, features, present, mask = particles()
  present[0, 0, SCHEMA.groups.index("track")] = False
  module = StandardiseInputs(FITTED)
  arguments = p4, features, present, mask
  y = applied(module, initialised(module, *arguments), *arguments)
  assert y.shape == (B, N, FITTED.width) == (B, N, 5)
  np.testing.assert_array_equal(y[~mask], 0)
  assert y[0, 0, 1] == 0
  np.testing.assert_allclose(y[0, 1, 1], (features[0, 1, 0] - 3) / 4, rtol=1e-5)
  pt = np.hypot(p4[..., 1], p4[..., 2])
  np.testing.assert_allclose(y[..., 0][mask], ((np.log(pt) - 1) / 2)[mask], rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(y[..., 2:].sum(axis=-1), mask)


def test_constants_are_those_of_the_training():
  """A restored model keeps its numbers, whatever schema it is built with; none is a parameter."""
  arguments = particles()
  trained = initialised(StandardiseInputs(FITTED), *arguments)
  assert set(trained) == {"constants"} and set(trained["constants"]) == {"mean", "std"}
  other = StandardiseInputs(SCHEMA.fitted({"pt": (7, 7), "d0": (7, 7), "mass": (7, 7)}))
  np.testing.assert_array_equal(
    applied(other, trained, *arguments), applied(StandardiseInputs(FITTED), trained, *arguments)
  )


def test_a_schema_that_was_not_fitted_is_an_error():
  with pytest.raises(ValueError, match="'pt' has a z-score without constants"):
    initialised(StandardiseInputs(SCHEMA), *particles())
  once = dataclasses.replace(FITTED, targets=SCHEMA.targets)
  with pytest.raises(ValueError, match="'mass' has a z-score without constants"):
    initialised(StandardiseTargets(once.targets), np.ones((2, 1)))


def test_targets_go_there_and_back(x64):
  module = StandardiseTargets(FITTED.targets)
  mass = np.array([[80.4], [91.2], [172.5]])
  variables = initialised(module, mass)
  y = applied(module, variables, mass)
  np.testing.assert_allclose(y, (np.log(mass) - 4.5) / 0.5, rtol=1e-12)
  np.testing.assert_allclose(applied(module, variables, y, method="inverse"), mass, rtol=1e-12)


def test_references_have_names():
  np.testing.assert_array_equal(reference_vectors(("beam", "time")), [[0, 0, 0, 1], [1, 0, 0, 0]])
  assert reference_vectors(()).shape == (0, 4)
  with pytest.raises(ValueError, match="no reference 'bean'"):
    reference_vectors(("bean",))
