"""Hiding measurements from the encoder: whole objects, or single detector groups of one.

As in `masking.py`, randomness belongs to the event and the pT rank, never to the slot.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.schema import Schema
from jetfm.tasks.masking import choose_hidden, event_noise, pt_rank
from jetfm.typing import Batch

FOLLOWS: dict[str, tuple[str, ...]] = {
  "EoP": ("mdc_p3_px", "emc_energy"),
  "emc_secmom": ("emc_energy",),
  "emc_latmom": ("emc_energy",),
}
"""Features that say what others measured, such as E/p, which with E is p: their groups are hidden
with the groups of those."""

QUOTIENTS = {"EoP": ("mdc_p3_px", "emc_energy")}
"""Features that follow from others: where all those are seen there is nothing to be learned."""


def hidden_with(schema: Schema) -> np.ndarray:
  """(G, G) bool: hiding the group of the row hides that of the column, itself included."""
  group_of = {f.name: schema.groups.index(f.group) for f in schema.features}
  links = np.eye(len(schema.groups), dtype=bool)
  for feature, sources in FOLLOWS.items():
    for source in sources:
      if feature in group_of and source in group_of:
        links[group_of[source], group_of[feature]] = True
  for middle in range(len(links)):
    links |= links[:, [middle]] & links[[middle]]
  return links


def hide_measurements(
  key: jax.Array, batch: Batch, schema: Schema, object_ratio: float, group_ratio: float
) -> Batch:
  """The batch without some of its measurements.

  Of each event a part `object_ratio` of the objects is hidden as a whole: only its pT rank remains
  (`hidden_rank`). Of the others each measured group is hidden with probability `group_ratio`, and
  with it what follows from it (`FOLLOWS`); that there was a measurement remains visible. The
  four-momentum of such an object becomes 0, as it follows from measurements. An object with nothing
  left to see counts as hidden as a whole.

  With group_ratio = 0 `hidden_groups` stays None, so that any encoder can take the batch.
  """
  mask = jnp.asarray(batch.mask)
  present = mask[..., None] & batch.present
  rank = pt_rank(batch.p4, mask)
  whole = jnp.zeros_like(mask)
  if object_ratio:
    whole = choose_hidden(jax.random.fold_in(key, 0), batch, object_ratio)
  groups = jnp.zeros_like(present)
  if group_ratio:
    count = present.shape[-1]
    noise = event_noise(
      jax.random.fold_in(key, 1), batch.event_id, batch.length * count, jax.random.uniform
    ).reshape(*mask.shape, count)
    noise = jnp.take_along_axis(noise, rank[..., None], axis=1)
    chosen = present & (noise < group_ratio)
    groups = (chosen[..., :, None] & jnp.asarray(hidden_with(schema))).any(axis=-2)
    groups = groups & present
    whole = whole | (groups.any(axis=-1) & (groups | ~present).all(axis=-1))
    groups = groups & ~whole[..., None]
  column = [schema.groups.index(f.group) for f in schema.features if not f.derived]
  gone = groups | whole[..., None]
  return dataclasses.replace(
    batch,
    p4=jnp.where(gone.any(axis=-1, keepdims=True), 0, batch.p4),
    features=jnp.where(gone[..., jnp.asarray(column, int)], 0, batch.features),
    present=jnp.where(whole[..., None], False, batch.present),
    hidden_rank=jnp.where(whole, rank, -1),
    hidden_groups=groups if group_ratio else None,
  )


def hidden_measurements(view: Batch, batch: Batch, schema: Schema) -> jax.Array:
  """(B, N, F) what the view of a batch hides and the batch has: targets of a reconstruction.

  What is a quotient of two visible measurements is none (`QUOTIENTS`).
  """
  gone = jnp.zeros(batch.present.shape, bool)
  if view.hidden_rank is not None:
    gone = gone | (view.hidden_rank >= 0)[..., None]
  if view.hidden_groups is not None:
    gone = gone | view.hidden_groups
  gone = gone & batch.present & batch.mask[..., None]
  group_of = {f.name: schema.groups.index(f.group) for f in schema.features}
  columns = {name: gone[..., group] for name, group in group_of.items()}
  for name, sources in QUOTIENTS.items():
    if {name, *sources} <= set(group_of):
      parts = [gone[..., group_of[source]] for source in sources]
      columns[name] = columns[name] & jnp.stack(parts).any(axis=0)
  return jnp.stack(list(columns.values()), axis=-1)
