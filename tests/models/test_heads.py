"""Heads: regression scales, particles, the autoencoder, super-resolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm import models
from jetfm.models import (
  ClassificationHead,
  ConditionalVAE,
  Encoded,
  MaskedDirectionHead,
  MaskedFeatureHead,
  MaskedParticleHead,
  ParticleCloud,
  RegressionHead,
  SuperResolutionHead,
)
from jetfm.models.masked_particles import between_ranks
from jetfm.models.particles import KinematicsOutput
from tests.compiled import lorentz, physical_momenta, standardise_kinematics

D, SLOTS = 8, 6

jet_condition = jax.jit(models.jet_condition, static_argnums=3)


def applied(module, variables, *args, **kwargs):
  call = jax.jit(functools.partial(module.apply, **kwargs))
  return jax.tree.map(np.asarray, call(variables, *args))


def without_output(variables):
  """Those of a head whose last layer of kinematics is 0: what it starts from."""
  params = variables["params"]
  output = jax.tree.map(np.zeros_like, params["output"])
  return {**variables, "params": {**params, "output": output}}


def encoded(batch, seed=0):
  """Tokens that are functions of each particle, beside its momentum in the jet frame."""
  weights = np.random.default_rng(seed).normal(size=(4, D))
  p4, frame = map(np.asarray, lorentz.to_jet_frame(batch.p4, batch.mask))
  tokens = np.where(batch.mask[..., None], np.tanh(p4 @ weights / 10), 0).astype(p4.dtype)
  nothing = np.zeros_like(batch.mask)
  return Encoded(tokens, batch.mask, nothing, nothing.astype(np.int32), p4, frame)


def test_regression_has_the_scale_of_its_schema(schema, make_batch, initialise):
  batch = make_batch()
  head = RegressionHead(schema.targets, layers=0, widths=(8,))
  x = encoded(batch)
  variables = jax.jit(head.init)(jax.random.key(0), x)
  out = applied(head, variables, x)
  assert out.shape == (batch.num_events, len(schema.targets))
  values = np.asarray(jax.jit(schema.target_values)(batch.p4, batch.targets, batch.mask))
  standardised = applied(head, variables, values, method="standardise")
  expected = [t.forward(values[:, i]) for i, t in enumerate(schema.targets)]
  np.testing.assert_allclose(standardised, np.stack(expected, axis=-1), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    applied(head, variables, standardised, method="physical"), values, rtol=1e-5
  )


def test_regression_starts_at_the_mass_of_the_particles(schema, make_batch, initialise):
  batch = make_batch()
  head, x = RegressionHead(schema.targets, layers=0, widths=(8,)), encoded(batch)
  variables = initialise(head, x)
  last = variables["params"]["output"]["linear_1"]
  variables["params"]["output"]["linear_1"] = jax.tree.map(np.zeros_like, last)
  start = head.apply(variables, x)
  names = [t.name for t in schema.targets]
  physical = head.apply(variables, start, method="physical")[:, names.index("gen_mass")]
  np.testing.assert_allclose(physical, lorentz.constituent_mass(batch.p4, batch.mask), rtol=1e-4)
  assert not np.delete(start, names.index("gen_mass"), axis=1).any()


@pytest.mark.parametrize(
  "make",
  [
    lambda schema: ClassificationHead(classes=3, widths=(8,), layers=0, dtype=jnp.bfloat16),
    lambda schema: RegressionHead(schema.targets, widths=(8,), layers=0, dtype=jnp.bfloat16),
    lambda schema: MaskedParticleHead(widths=(8,), dtype=jnp.bfloat16),
    lambda schema: MaskedDirectionHead(features=4, dtype=jnp.bfloat16),
    lambda schema: MaskedFeatureHead(schema, parameters=3, widths=(8,), dtype=jnp.bfloat16),
    lambda schema: SuperResolutionHead(particles=8, given=6, layers=0, dtype=jnp.bfloat16),
    lambda schema: ConditionalVAE(SLOTS, 3, width=8, layers=0, dtype=jnp.bfloat16),
  ],
  ids=[
    *("classification", "regression", "masked_particles", "masked_directions"),
    *("masked_features", "cloud", "vae"),
  ],
)
def test_predictions_of_half_precision_heads_are_not_rounded(schema, make_batch, initialise, make):
  """In steps of half a percent, two jets could not be told apart at a threshold."""
  head, x = make(schema), encoded(make_batch())
  x = x.replace(tokens=x.tokens.astype(jnp.bfloat16))
  made = applied(head, initialise(head, x), x)
  for leaf in jax.tree.leaves(made):
    assert leaf.dtype == jnp.float32
  if isinstance(head, MaskedFeatureHead):
    made = made.raw  # beside the numbers of its standardisation
  if isinstance(head, MaskedDirectionHead):
    made = made.log_weight, made.log_width  # beside the directions themselves
  for leaf in jax.tree.leaves(made):
    assert (leaf != leaf.astype(jnp.bfloat16)).any()


def test_kinematics_go_there_and_back(x64, make_batch):
  batch = make_batch(dtype=np.float64)
  p4 = batch.p4[batch.mask]
  np.testing.assert_allclose(physical_momenta(standardise_kinematics(p4)), p4, rtol=1e-10)


@pytest.mark.parametrize("physical", [False, True])
def test_predicted_kinematics(x64, physical, initialise):
  x = 3 * np.random.default_rng(0).normal(size=(200, D))
  head = KinematicsOutput(physical)
  variables = initialise(head, x)
  y = applied(head, variables, x)
  assert np.abs(y[..., 2]).max() <= np.pi and np.ptp(y[..., 2]) > 1
  p4 = np.asarray(physical_momenta(y))
  masses = lorentz.mass_squared(p4) / p4[..., 0] ** 2
  assert (masses > -1e-12).all() == physical
  base = np.tile([0.3, -0.2, 3.0], (200, 1))
  moved = applied(head, variables, x, np.concatenate([base, base[:, :1]], axis=-1))
  np.testing.assert_allclose(moved[..., :2] - y[..., :2], base[:, :2], atol=1e-12)
  if not physical:
    np.testing.assert_allclose(moved[..., 3] - y[..., 3], 0.3, atol=1e-12)
  turned = lorentz.wrap_angle(y[..., 2] + 3.0)
  np.testing.assert_allclose(moved[..., 2], turned, atol=1e-12)


def test_hidden_particles_start_between_the_visible_ones(x64, make_batch, initialise):
  """Against numpy's interpolation in the rank, whatever the order of the slots."""
  counts = (9, 2, 12, 6, 0)
  batch = make_batch(lengths=counts, dtype=np.float64)
  rng = np.random.default_rng(0)
  hidden, rank = np.zeros_like(batch.mask), np.zeros(batch.mask.shape, np.int32)
  pt = np.asarray(lorentz.transverse_momentum(batch.p4))
  for event, n in enumerate(counts):
    hidden[event, rng.permutation(n)[: n // 2]] = True
    rank[event, :n] = np.argsort(np.argsort(-pt[event, :n]))
  x = encoded(batch)
  x = x.replace(
    hidden=hidden,
    rank=np.where(hidden, rank, 0),
    p4=np.where(hidden[..., None], np.nan, x.p4),
  )
  start = np.asarray(jax.jit(between_ranks)(x))
  head = MaskedParticleHead(widths=(8,))
  untrained = without_output(initialise(head, x))
  np.testing.assert_allclose(applied(head, untrained, x)[hidden], start[hidden], rtol=1e-12)
  values = np.asarray(standardise_kinematics(encoded(batch).p4))
  assert np.isfinite(start).all()
  for event, n in enumerate(counts[:-1]):
    seen = np.flatnonzero(~hidden[event, :n])
    seen = seen[np.argsort(rank[event, seen])]
    gone = np.flatnonzero(hidden[event])
    for column in (0, 3):
      want = np.interp(rank[event, gone], rank[event, seen], values[event, seen, column])
      np.testing.assert_allclose(start[event, gone, column], want, rtol=1e-10)
    assert not start[event, gone, 1:3].any()


def test_multiplicity_is_predicted_and_not_thresholded():
  logits = np.array([[0.0, 0.0, 0.0, 0.0], [5.0, -5.0, 5.0, -5.0], [-9.0, -8.0, -9.0, -9.0]])
  cloud, kept = ParticleCloud(np.zeros((3, 4, 4)), logits), jax.jit(ParticleCloud.keep)
  keep = np.asarray(kept(cloud))
  np.testing.assert_array_equal(keep.sum(axis=-1), [2, 2, 1])
  np.testing.assert_array_equal(keep[1:], [[True, False, True, False], [False, True, False, False]])
  np.testing.assert_array_equal(
    np.asarray(kept(cloud, np.array([4, 0, 3]))).sum(axis=-1), [4, 0, 3]
  )


def test_drawn_multiplicities_have_the_distribution_that_was_predicted(x64):
  """Of falling probabilities of n > 0, n > 1, ..., and never without a particle."""
  beyond = np.array([0.9, 0.7, 0.2, 0.05])
  logits = np.log(beyond / (1 - beyond))
  uniform = (np.arange(1000) + 0.5) / 1000
  cloud = ParticleCloud(np.zeros((1000, 4, 4)), np.broadcast_to(logits, (1000, 4)))
  count = np.asarray(jax.jit(ParticleCloud.draw_count)(cloud, uniform))
  found = [(count > i).mean() for i in range(4)]
  np.testing.assert_allclose(found, [1.0, *beyond[1:]], atol=1e-12)


@pytest.mark.slow
def test_super_resolution_keeps_what_is_given(x64, make_batch, initialise):
  """Given particles come back in order of pT; a jet with fewer than could be given is complete."""
  batch = make_batch(lengths=(6, 3), dtype=np.float64)
  head = SuperResolutionHead(particles=8, given=6, layers=1, heads=2, mlp_ratio=2)
  x = encoded(batch)
  variables = initialise(head, x)
  program = jax.jit(head.apply)

  def apply(x):
    return jax.tree.map(np.asarray, program(variables, x))

  cloud = apply(x)
  assert cloud.kinematics.shape == (2, 8, 4) and cloud.existence.shape == (2, 8)
  for event, length in enumerate((6, 3)):
    given = x.p4[event, :length]
    order = np.argsort(-lorentz.transverse_momentum(given))
    want = standardise_kinematics(given[order])
    np.testing.assert_allclose(cloud.kinematics[event, :length], want, atol=1e-10)
    assert (1 / (1 + np.exp(-cloud.existence[event, :length]))).min() > 1 - 1e-8
  assert np.abs(cloud.existence[0, 6:]).max() < 10  # to be predicted
  added = program(without_output(variables), x).kinematics[0, 6:]
  np.testing.assert_allclose(added[:, 0], cloud.kinematics[0, 5, 0], rtol=1e-12)
  np.testing.assert_allclose(added[:, 1:3], cloud.kinematics[0, :2, 1:3], rtol=1e-12)
  np.testing.assert_array_equal(jax.jit(ParticleCloud.keep)(cloud)[1], np.arange(8) < 3)

  order = np.array([2, 0, 1, 5, 3, 4])
  of_slots = {name: getattr(x, name)[:, order] for name in ("tokens", "mask", "hidden", "p4")}
  mixed = x.replace(**of_slots)
  again = apply(mixed)
  np.testing.assert_allclose(again.kinematics, cloud.kinematics, atol=1e-10)
  np.testing.assert_allclose(again.existence, cloud.existence, atol=1e-10)


def vae(condition, classes=0):
  return ConditionalVAE(
    particles=SLOTS,
    latent=3,
    condition=condition,
    classes=classes,
    width=8,
    layers=1,
    heads=2,
    mlp_ratio=2,
  )


def conditions(batch, kind):
  return jet_condition(batch.p4, batch.mask, batch.label, 10) if kind == "jet" else None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedding", "jet"])
def test_autoencoder(make_batch, kind, initialise):
  batch = make_batch(lengths=(6, 4, 0))
  head, x, c = vae(kind, 10), encoded(batch), conditions(batch, kind)
  variables = initialise(head, x, c)
  out = applied(head, variables, x, c)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
  assert out.cloud.kinematics.shape == (3, SLOTS, 4) and out.mean.shape == (3, 3)

  mean, _, chosen = applied(head, variables, x, c, method="encode")
  decoded = applied(head, variables, mean, chosen, method="decode")
  np.testing.assert_allclose(decoded.kinematics, out.cloud.kinematics, atol=1e-6)
  rngs = {"sample": jax.random.key(3)}
  drawn = applied(head, variables, x, c, deterministic=False, rngs=rngs)
  assert np.abs(drawn.cloud.kinematics - out.cloud.kinematics).max() > 1e-4
  sample = jax.jit(functools.partial(head.apply, method="sample"))
  draws = [sample(variables, jax.random.key(s), chosen) for s in (1, 1, 2)]
  one, again, two = jax.tree.map(np.asarray, draws)
  np.testing.assert_array_equal(one.kinematics, again.kinematics)
  assert np.abs(one.kinematics - two.kinematics).max() > 1e-4
  masses = np.asarray(lorentz.mass_squared(physical_momenta(one.kinematics)))
  assert (masses > -1e-2).all()


def test_a_chosen_condition_does_not_depend_on_the_constituents(make_batch, initialise):
  """With 'jet' the decoder sees the condition and z alone; with 'embedding' the whole jet."""
  batch = make_batch()
  x, c = encoded(batch), conditions(batch, "jet")
  other = encoded(make_batch(seed=3))
  free, published = vae("jet", 10), vae("embedding")
  encode = jax.jit(functools.partial(free.apply, method="encode"))
  variables = initialise(free, x, c)
  _, _, first = encode(variables, x, c)
  _, _, second = encode(variables, other, c)
  np.testing.assert_array_equal(first, second)
  encode = jax.jit(functools.partial(published.apply, method="encode"))
  variables = initialise(published, x)
  first, second = (np.asarray(encode(variables, jet)[2]) for jet in (x, other))
  assert np.abs(first - second).max() > 1e-3


def test_conditions_of_a_jet(x64, make_batch):
  batch = make_batch(dtype=np.float64)
  c = np.asarray(jet_condition(batch.p4, batch.mask, batch.label, 3))
  np.testing.assert_array_equal(c[:, :3], [[1, 0, 0], [0, 1, 0]])
  jet = batch.p4.sum(axis=1)
  np.testing.assert_allclose(500 * np.exp(c[:, 3] / 4), np.hypot(jet[:, 1], jet[:, 2]), rtol=1e-10)
  np.testing.assert_allclose(c[:, 6] / 2, np.array([6, 4]) / 40 - 1, rtol=1e-12)
  mirrored = np.asarray(jet_condition(batch.p4 * [1, 1, 1, -1], batch.mask, np.array([-1, 0]), 3))
  np.testing.assert_allclose(mirrored[:, 3:], c[:, 3:], rtol=1e-10)
  np.testing.assert_array_equal(mirrored[0, :3], 0)


def test_wrong_conditions_say_what_was_expected(make_batch, initialise):
  x = encoded(make_batch())
  with pytest.raises(ValueError, match="expected one of"):
    initialise(vae("class"), x)
  with pytest.raises(ValueError, match="pass jet_condition"):
    initialise(vae("jet", 10), x)
  with pytest.raises(ValueError, match=r"expected \(B, 14\)"):
    initialise(vae("jet", 10), x, jnp.ones((2, 3)))
