"""Augmentations: symmetries of colliding beams, applied to a batch before its views are taken.

Each is a true Lorentz transformation of all four-momenta of an event; whatever else the batch says
about directions is transformed with them. Masses, pair invariants, labels and targets stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jetfm.lorentz import wrap_angle
from jetfm.names import nearest
from jetfm.schema import Schema
from jetfm.tasks.masking import event_noise
from jetfm.typing import Array, Batch

ODD_UNDER_ETA_FLIP = (
  "part_dzval", "jet_eta", "aux_genpart_eta", "mdc_p3_pz", "vz0", "emc_z",
)  # fmt: skip
"""Stored features and spectators that change sign when z does.

d0 = (x py - y px)/pT does not: neither do the momenta and positions across the beam, nor the field
along it, which is an axial vector. deta = sign(jet eta)(eta - jet eta) has two signs that cancel.
"""
AZIMUTHS = ("jet_phi", "aux_genpart_phi")
"""Stored features and spectators that are azimuths in the laboratory, in radians."""

TRANSVERSE_VECTORS = (("mdc_p3_px", "mdc_p3_py"), ("emc_x", "emc_y"))
"""Stored features that are (x, y) of a vector in the laboratory. Beams that cross at an angle and
the crystals of a calorimeter break the symmetry of their rotation a little."""

AUGMENTATIONS = ("rotate_phi", "flip_eta")


def rotate_phi(batch: Batch, angle: Array, schema: Schema) -> Batch:
  """Rotate each event about the beam by an angle (B,) in radians. E and pz keep every bit."""
  angle = jnp.asarray(angle, batch.p4.dtype)
  cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
  energy, px, py, pz = jnp.moveaxis(batch.p4, -1, 0)

  def turn(names: Sequence[str], values: Array, angle: Array) -> Array:
    columns = [name in AZIMUTHS for name in names]
    turned = wrap_angle(values + angle)
    return jnp.where(jnp.asarray(columns), turned, values) if any(columns) else values

  columns = list(jnp.moveaxis(turn(schema.stored, batch.features, angle[:, None, None]), -1, 0))
  for names in TRANSVERSE_VECTORS:
    if set(names) <= set(schema.stored):
      i, j = map(schema.stored.index, names)
      x, y = columns[i], columns[j]
      columns[i], columns[j] = cos * x - sin * y, sin * x + cos * y
  return dataclasses.replace(
    batch,
    p4=jnp.stack([energy, cos * px - sin * py, sin * px + cos * py, pz], axis=-1),
    features=jnp.stack(columns, axis=-1) if columns else batch.features,
    spectators=turn(schema.spectators, batch.spectators, angle[:, None]),
  )


def flip_eta(batch: Batch, flip: Array, schema: Schema) -> Batch:
  """Reflect z -> -z in the events where flip (B,) is True. No number changes but for its sign."""

  def mirror(names: Sequence[str], values: Array) -> Array:
    odd = jnp.asarray([name in ODD_UNDER_ETA_FLIP for name in names], bool)
    return jnp.where(odd & flip.reshape((-1,) + (1,) * (values.ndim - 1)), -values, values)

  z = jnp.arange(4) == 3
  return dataclasses.replace(
    batch,
    p4=jnp.where(z & flip[:, None, None], -batch.p4, batch.p4),
    features=mirror(schema.stored, batch.features),
    spectators=mirror(schema.spectators, batch.spectators),
  )


def make_augmentation(names: Sequence[str], schema: Schema) -> Callable[[jax.Array, Batch], Batch]:
  """(key, batch) -> batch, applying `AUGMENTATIONS` by name; without names, the batch itself.

  rotate_phi: by an angle uniform in [-pi, pi); flip_eta: with probability 1/2. The draw depends on
  the key and the event's id only.
  Raises: ValueError for an unknown name.
  """
  for name in names:
    if name not in AUGMENTATIONS:
      near = nearest(name, AUGMENTATIONS)
      raise ValueError(
        f"no augmentation '{name}'; the nearest is '{near}' of {list(AUGMENTATIONS)}"
      )

  def augment(key: jax.Array, batch: Batch) -> Batch:
    angle, coin = jnp.moveaxis(event_noise(key, batch.event_id, 2, jax.random.uniform), -1, 0)
    if "rotate_phi" in names:
      batch = rotate_phi(batch, (2 * angle - 1) * jnp.pi, schema)
    if "flip_eta" in names:
      batch = flip_eta(batch, coin < 0.5, schema)
    return batch

  return augment
