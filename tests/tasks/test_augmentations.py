"""Laws: an augmentation is a Lorentz transformation of the whole event."""

import functools

import jax
import numpy as np
import pytest

from jetfm.tasks import augmentations
from jetfm.tasks.augmentations import AUGMENTATIONS, make_augmentation
from tests.compiled import lorentz

EVERY = pytest.mark.parametrize("name", AUGMENTATIONS)
KEY = jax.random.key(3)
COUNTS = [4, 9, 16, 12, 16, 3, 8, 1]

flip_eta = jax.jit(augmentations.flip_eta, static_argnames="schema")
rotate_phi = jax.jit(augmentations.rotate_phi, static_argnames="schema")


@functools.cache
def augmentation(names, schema):
  return jax.jit(make_augmentation(names, schema))


def augmented(batch, schema, *names):
  return jax.tree.map(np.asarray, augmentation(names, schema)(KEY, batch))


def column(schema, name):
  return schema.stored.index(name)


def with_spectators(batch, schema):
  """Spectators of the toy jets: those of their summed momentum."""
  jet = np.asarray(batch.p4).sum(axis=1)
  spectators = np.random.default_rng(0).normal(size=batch.spectators.shape)
  spectators[:, schema.spectators.index("jet_eta")] = np.arcsinh(
    jet[:, 3] / np.hypot(jet[:, 1], jet[:, 2])
  )
  spectators[:, schema.spectators.index("jet_phi")] = np.arctan2(jet[:, 2], jet[:, 1])
  return batch.replace(spectators=spectators)


@EVERY
def test_masses_and_pair_invariants_stay(x64, jets, schema, name):
  batch = jets(COUNTS, 16, dtype=np.float64)
  after = augmented(batch, schema, name)
  assert not np.array_equal(after.p4, batch.p4)
  np.testing.assert_allclose(
    lorentz.mass_squared(after.p4), lorentz.mass_squared(batch.p4), atol=1e-8
  )
  for mass in (lorentz.constituent_mass, lorentz.seed_mass):
    np.testing.assert_allclose(
      mass(after.p4, after.mask), mass(batch.p4, batch.mask), rtol=1e-10, atol=1e-8
    )
  some = batch.mask[:, :, None] & batch.mask[:, None, :] & ~np.eye(16, dtype=bool)
  np.testing.assert_allclose(
    *(np.asarray(lorentz.pair_features(x.p4, "part"))[some] for x in (after, batch)), atol=1e-9
  )


@EVERY
def test_jet_relative_features_stay(x64, jets, schema, name):
  """deta has the jet's sign convention, so that not even the mirror changes it."""
  batch = jets(COUNTS, 16, dtype=np.float64)
  after = augmented(batch, schema, name)
  names = ("deta", "dphi", "log_pt", "log_e", "log_pt_rel", "log_e_rel", "dr")
  np.testing.assert_allclose(
    lorentz.particle_features(names, after.p4, after.mask),
    lorentz.particle_features(names, batch.p4, batch.mask),
    atol=1e-10,
  )


@EVERY
def test_labels_targets_weights_and_masks_stay(jets, schema, name):
  batch = jets(COUNTS, 16)
  after = augmented(batch, schema, name)
  for field in ("label", "targets", "weight", "event_id", "mask", "present"):
    np.testing.assert_array_equal(getattr(after, field), getattr(batch, field))


def test_rotation_moves_azimuths_and_nothing_else(x64, jets, schema):
  batch = with_spectators(jets(COUNTS, 16, dtype=np.float64), schema)
  angle = np.linspace(-3, 3, len(COUNTS))
  after = jax.tree.map(np.asarray, rotate_phi(batch, angle, schema))
  np.testing.assert_array_equal(after.features, batch.features)
  np.testing.assert_array_equal(after.p4[..., [0, 3]], batch.p4[..., [0, 3]])
  np.testing.assert_allclose(
    after.spectators, with_spectators(after, schema).spectators, atol=1e-12
  )


def test_mirror_changes_only_signs(x64, jets, schema):
  batch = with_spectators(jets(COUNTS, 16, dtype=np.float64), schema)
  flip = np.arange(len(COUNTS)) % 2 == 0
  after = jax.tree.map(np.asarray, flip_eta(batch, flip, schema))
  np.testing.assert_array_equal(np.abs(after.p4), np.abs(batch.p4))
  np.testing.assert_array_equal(after.p4[~flip], batch.p4[~flip])
  eta, mirrored = (np.asarray(lorentz.pseudorapidity(x.p4))[flip] for x in (batch, after))
  np.testing.assert_array_equal(mirrored, -eta)
  np.testing.assert_allclose(
    after.spectators, with_spectators(after, schema).spectators, atol=1e-12
  )
  dz = column(schema, "part_dzval")
  others = [i for i in range(len(schema.stored)) if i != dz]
  np.testing.assert_array_equal(after.features[..., others], batch.features[..., others])
  np.testing.assert_array_equal(after.features[flip][..., dz], -batch.features[flip][..., dz])


def test_mirror_of_a_track_flips_dz_and_keeps_d0(x64, jets, schema):
  """d0 = (x py - y px)/pT and dz of closest points to the beam, before and after z -> -z."""
  rng = np.random.default_rng(1)
  batch = jets(COUNTS, 16, dtype=np.float64)
  point = rng.normal(size=(*batch.mask.shape, 3))

  def impact(p4, point):
    x, y, z = np.moveaxis(point, -1, 0)
    px, py = np.moveaxis(np.asarray(p4), -1, 0)[1:3]
    return (x * py - y * px) / np.maximum(np.hypot(px, py), 1e-9), z

  d0, dz = column(schema, "part_d0val"), column(schema, "part_dzval")
  features = np.array(batch.features)
  features[..., d0], features[..., dz] = impact(batch.p4, point)
  batch = batch.replace(features=features)
  after = jax.tree.map(np.asarray, flip_eta(batch, np.ones(len(COUNTS), bool), schema))
  want_d0, want_dz = impact(after.p4, point * np.array([1, 1, -1]))
  np.testing.assert_allclose(after.features[..., d0], want_d0, atol=1e-12)
  np.testing.assert_allclose(after.features[..., dz], want_dz, atol=1e-12)


def test_draw_belongs_to_the_event(jets, schema):
  batch = jets(COUNTS, 16)
  order = np.random.default_rng(0).permutation(len(COUNTS))
  whole = augmented(batch, schema, *AUGMENTATIONS)
  shuffled = augmented(jax.tree.map(lambda x: x[order], batch), schema, *AUGMENTATIONS)
  jax.tree.map(np.testing.assert_array_equal, shuffled, jax.tree.map(lambda x: x[order], whole))
  mirrored = whole.p4[:, 0, 3] != batch.p4[:, 0, 3]
  assert mirrored.any() and not mirrored.all()


def test_no_names_is_no_augmentation(jets, schema):
  batch = jets(COUNTS, 16)
  jax.tree.map(np.testing.assert_array_equal, make_augmentation([], schema)(KEY, batch), batch)


def test_unknown_name_suggests_the_nearest(schema):
  with pytest.raises(ValueError, match="nearest is 'flip_eta'"):
    make_augmentation(["eta_flip"], schema)
