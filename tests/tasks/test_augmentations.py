"""Laws: an augmentation is a Lorentz transformation of the whole event."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.lorentz import (
  constituent_mass,
  mass_squared,
  pair_features,
  particle_features,
  pseudorapidity,
  seed_mass,
)
from jetfm.tasks.augmentations import AUGMENTATIONS, flip_eta, make_augmentation, rotate_phi

EVERY = pytest.mark.parametrize("name", AUGMENTATIONS)
KEY = jax.random.key(3)
COUNTS = [4, 9, 16, 12, 16, 3, 8, 1]


def column(schema, name):
  return schema.stored.index(name)


def with_spectators(batch, schema):
  """Spectators of the toy jets: those of their summed momentum."""
  jet = np.asarray(batch.p4.sum(axis=1))
  spectators = np.random.default_rng(0).normal(size=batch.spectators.shape)
  spectators[:, schema.spectators.index("jet_eta")] = np.arcsinh(
    jet[:, 3] / np.hypot(jet[:, 1], jet[:, 2])
  )
  spectators[:, schema.spectators.index("jet_phi")] = np.arctan2(jet[:, 2], jet[:, 1])
  return batch.replace(spectators=jnp.asarray(spectators))


@EVERY
def test_masses_and_pair_invariants_stay(x64, jets, schema, name):
  batch = jets(COUNTS, 16, dtype=np.float64)
  after = make_augmentation([name], schema)(KEY, batch)
  assert not np.array_equal(after.p4, batch.p4)
  np.testing.assert_allclose(mass_squared(after.p4), mass_squared(batch.p4), atol=1e-8)
  for mass in (constituent_mass, seed_mass):
    np.testing.assert_allclose(
      mass(after.p4, after.mask), mass(batch.p4, batch.mask), rtol=1e-10, atol=1e-8
    )
  some = np.asarray(batch.mask[:, :, None] & batch.mask[:, None, :]) & ~np.eye(16, dtype=bool)
  np.testing.assert_allclose(
    pair_features(after.p4, "part")[some], pair_features(batch.p4, "part")[some], atol=1e-9
  )


@EVERY
def test_jet_relative_features_stay(x64, jets, schema, name):
  """deta has the jet's sign convention, so that not even the mirror changes it."""
  batch = jets(COUNTS, 16, dtype=np.float64)
  after = make_augmentation([name], schema)(KEY, batch)
  names = ("deta", "dphi", "log_pt", "log_e", "log_pt_rel", "log_e_rel", "dr")
  np.testing.assert_allclose(
    particle_features(names, after.p4, after.mask),
    particle_features(names, batch.p4, batch.mask),
    atol=1e-10,
  )


@EVERY
def test_labels_targets_weights_and_masks_stay(jets, schema, name):
  batch = jets(COUNTS, 16)
  after = make_augmentation([name], schema)(KEY, batch)
  for field in ("label", "targets", "weight", "event_id", "mask", "present"):
    np.testing.assert_array_equal(getattr(after, field), getattr(batch, field))


def test_rotation_moves_azimuths_and_nothing_else(x64, jets, schema):
  batch = with_spectators(jets(COUNTS, 16, dtype=np.float64), schema)
  after = rotate_phi(batch, np.linspace(-3, 3, len(COUNTS)), schema)
  np.testing.assert_array_equal(after.features, batch.features)
  np.testing.assert_array_equal(after.p4[..., [0, 3]], batch.p4[..., [0, 3]])
  np.testing.assert_allclose(
    after.spectators, with_spectators(after, schema).spectators, atol=1e-12
  )


def test_mirror_changes_only_signs(x64, jets, schema):
  batch = with_spectators(jets(COUNTS, 16, dtype=np.float64), schema)
  flip = np.arange(len(COUNTS)) % 2 == 0
  after = flip_eta(batch, jnp.asarray(flip), schema)
  np.testing.assert_array_equal(np.abs(after.p4), np.abs(batch.p4))
  np.testing.assert_array_equal(after.p4[~flip], batch.p4[~flip])
  np.testing.assert_array_equal(pseudorapidity(after.p4)[flip], -pseudorapidity(batch.p4)[flip])
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
  batch = batch.replace(features=jnp.asarray(features))
  after = flip_eta(batch, jnp.ones(len(COUNTS), bool), schema)
  want_d0, want_dz = impact(after.p4, point * np.array([1, 1, -1]))
  np.testing.assert_allclose(after.features[..., d0], want_d0, atol=1e-12)
  np.testing.assert_allclose(after.features[..., dz], want_dz, atol=1e-12)


def test_draw_belongs_to_the_event(jets, schema):
  batch = jets(COUNTS, 16)
  augment = make_augmentation(AUGMENTATIONS, schema)
  order = np.random.default_rng(0).permutation(len(COUNTS))
  shuffled = augment(KEY, jax.tree.map(lambda x: x[order], batch))
  jax.tree.map(
    np.testing.assert_array_equal, shuffled, jax.tree.map(lambda x: x[order], augment(KEY, batch))
  )
  mirrored = np.asarray(augment(KEY, batch).p4[:, 0, 3] != batch.p4[:, 0, 3])
  assert mirrored.any() and not mirrored.all()


def test_no_names_is_no_augmentation(jets, schema):
  batch = jets(COUNTS, 16)
  jax.tree.map(np.testing.assert_array_equal, make_augmentation([], schema)(KEY, batch), batch)


def test_unknown_name_suggests_the_nearest(schema):
  with pytest.raises(ValueError, match="nearest is 'flip_eta'"):
    make_augmentation(["eta_flip"], schema)
