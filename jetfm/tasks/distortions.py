"""Random views of an event for self-supervised contrast: what a detector could have seen as well.

Features are found by their names in the schema; a schema without them has only four-momenta to
distort. Draws belong to the event and the pT rank, not to the slot.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jetfm.schema import Schema
from jetfm.tasks.augmentations import rotate_phi
from jetfm.tasks.masking import event_noise, pt_rank
from jetfm.typing import Array, Batch

TRACK = ("mdc_p3_px", "mdc_p3_py", "mdc_p3_pz")
SHOWER = ("emc_energy", "emc_e3x3", "emc_e5x5")
ENERGY_OVER_MOMENTUM = "EoP"


@dataclasses.dataclass(frozen=True)
class Distortion:
  """What is done to an event.

  Attributes:
    rotate: about the beam axis by any angle.
    smear: width of the relative error that momenta and shower energies get; a few percent are the
      resolution once more.
    drop: probability that a neutral shower is lost; the leading object never is.
  Raises: ValueError for a negative width or a probability outside [0, 1).
  """

  rotate: bool = True
  smear: float = 0.02
  drop: float = 0.1

  def __post_init__(self):
    if self.smear < 0 or not 0 <= self.drop < 1:
      raise ValueError(f"{self}: expected smear >= 0 and drop in [0, 1)")

  def __call__(self, key: jax.Array, batch: Batch, schema: Schema) -> Batch:
    rank = pt_rank(batch.p4, batch.mask)

    def draw(purpose: int, count: int, distribution) -> jax.Array:
      noise = event_noise(
        jax.random.fold_in(key, purpose), batch.event_id, batch.length * count, distribution
      )
      noise = noise.reshape(*batch.mask.shape, count)
      return jnp.take_along_axis(noise, rank[..., None], axis=1)

    if self.smear:
      track, shower = jnp.moveaxis(jnp.exp(self.smear * draw(0, 2, jax.random.normal)), -1, 0)
      batch = smear(batch, track, shower, schema)
    if self.rotate:
      turn = jax.random.fold_in(key, 1)
      angle = event_noise(turn, batch.event_id, 1, jax.random.uniform)[:, 0]
      batch = rotate_phi(batch, (2 * angle - 1) * jnp.pi, schema)
    if self.drop:
      lost = draw(2, 1, jax.random.uniform)[..., 0] < self.drop
      batch = without(batch, lost & neutral(batch, schema) & (rank > 0))
    return batch


def neutral(batch: Batch, schema: Schema) -> jax.Array:
  """(B, N) objects without a track; all of them in a schema without tracks."""
  groups = [f.group for f in schema.features if f.name == TRACK[0]]
  if not groups:
    return jnp.asarray(batch.mask)
  return jnp.asarray(batch.mask & ~batch.present[..., schema.groups.index(groups[0])])


def smear(batch: Batch, track: Array, shower: Array, schema: Schema) -> Batch:
  """Multiply the momentum of each object by a factor; masses stay, and so do directions.

  Shapes: track and shower (B, N), factors of what the drift chamber and the calorimeter measured.
  The four-momentum follows the track, and the shower where there is none.
  """
  factor = {name: track for name in TRACK} | {name: shower for name in SHOWER}
  factor[ENERGY_OVER_MOMENTUM] = shower / track
  columns = [
    factor[name] * column if name in factor else column
    for name, column in zip(schema.stored, jnp.moveaxis(batch.features, -1, 0), strict=True)
  ]
  own = jnp.where(neutral(batch, schema), shower, track)
  p3 = batch.p4[..., 1:] * own[..., None]
  square = batch.p4[..., 0] ** 2 + (p3**2 - batch.p4[..., 1:] ** 2).sum(axis=-1)
  energy = jnp.sqrt(jnp.maximum(square, (p3**2).sum(axis=-1)))
  return dataclasses.replace(
    batch,
    p4=jnp.concatenate([energy[..., None], p3], axis=-1),
    features=jnp.stack(columns, axis=-1) if columns else batch.features,
  )


def without(batch: Batch, lost: Array) -> Batch:
  """The batch without the objects that `lost` (B, N) selects; the others close ranks."""
  kept = batch.mask & ~lost
  order = jnp.argsort(~kept, axis=-1, stable=True)

  def take(x: Array) -> jax.Array:
    return jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 2)), axis=1)

  return dataclasses.replace(
    batch,
    p4=take(batch.p4),
    features=take(batch.features),
    present=take(batch.present),
    mask=take(kept),
  )
