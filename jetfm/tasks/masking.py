"""Hiding particles from the encoder: which ones, and what is left of them.

Randomness belongs to the event and the pT rank, not to the slot: which particles of an event are
hidden depends on the key and the event's id, and not on the padded length, on the order of the
particles, or on the other events of the batch.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.lorentz import azimuth, pseudorapidity, transverse_momentum, wrap_angle
from jetfm.names import nearest
from jetfm.tasks.base import view_key
from jetfm.typing import Array, Batch

MASKINGS = ("random", "biased", "block")


def check_masking(ratio: float, masking: str) -> None:
  """Raises: ValueError for an unknown way of masking or a ratio outside (0, 1)."""
  if masking not in MASKINGS:
    near = nearest(masking, MASKINGS)
    raise ValueError(f"no masking '{masking}'; the nearest is '{near}' of {list(MASKINGS)}")
  if not 0 < ratio < 1:
    raise ValueError(f"mask ratio is {ratio}, expected a fraction between 0 and 1")


def pt_order(p4: Array, mask: Array) -> jax.Array:
  """Slots by decreasing pT, padding last, (B, N, 4) and (B, N) -> (B, N) int; ties keep order."""
  pt = transverse_momentum(jnp.where(mask[..., None], p4, 0))
  return jnp.argsort(jnp.where(mask, -pt, jnp.inf), axis=-1, stable=True)


def pt_rank(p4: Array, mask: Array) -> jax.Array:
  """pT rank of each slot, 0 = leading, padding last, (B, N, 4) and (B, N) -> (B, N) int32."""
  return jnp.argsort(pt_order(p4, mask), axis=-1).astype(jnp.int32)


def hidden_count(num_particles: Array, length: int, ratio: float) -> jax.Array:
  """How many of n particles are hidden: max(1, round(ratio n)), but n - 1 at most -> int32.

  Halves are rounded to even. An event of one particle hides none.
  """
  # A table of exact integers: the rounding does not depend on the floating-point type.
  table = [max(0, min(n - 1, max(1, round(ratio * n)))) for n in range(length + 1)]
  return jnp.asarray(np.asarray(table, np.int32))[num_particles]


def event_noise(key: jax.Array, event_id: Array, length: int, draw=jax.random.gumbel) -> jax.Array:
  """Independent random numbers of each event, (B,) ids -> (B, length).

  The first n of a row do not depend on `length`.
  """
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, event_id)
  return jax.vmap(lambda k: draw(k, (length,)))(keys)


def choose_hidden(
  key: jax.Array, batch: Batch, ratio: float = 0.3, masking: str = "random"
) -> jax.Array:
  """Particles to hide in each event, batch of (B, N) -> (B, N) bool, never padding.

  random: every subset of the right size is equally probable;
  biased: drawn without replacement with probability proportional to pT (Gumbel top-k);
  block: an angular patch, a random particle and its nearest neighbours in (eta, phi).
  Raises: ValueError for an unknown way of masking or a ratio outside (0, 1).
  """
  check_masking(ratio, masking)
  p4 = jnp.where(batch.mask[..., None], batch.p4, 0)
  noise = event_noise(key, batch.event_id, batch.length)
  score = jnp.take_along_axis(noise, pt_rank(p4, batch.mask), axis=-1)
  if masking == "biased":
    # The k largest of log p_i + Gumbel_i are k draws without replacement (arXiv:1903.06059).
    score = score + jnp.log(jnp.maximum(transverse_momentum(p4), jnp.finfo(p4.dtype).tiny))
  elif masking == "block":
    seed = jnp.argmax(jnp.where(batch.mask, score, -jnp.inf), axis=-1)[..., None]
    eta, phi = pseudorapidity(p4), azimuth(p4)
    d_eta = eta - jnp.take_along_axis(eta, seed, axis=-1)
    d_phi = wrap_angle(phi - jnp.take_along_axis(phi, seed, axis=-1))
    score = -(d_eta**2 + d_phi**2)
  count = hidden_count(batch.mask.sum(axis=-1), batch.length, ratio)
  order = jnp.argsort(jnp.where(batch.mask, -score, jnp.inf), axis=-1, stable=True)
  return (jnp.argsort(order, axis=-1) < count[..., None]) & batch.mask


def hide(batch: Batch, hidden: Array) -> Batch:
  """The batch without what `hidden` (B, N) selects; of those only the pT rank remains.

  Their four-momenta and features become 0, their detector groups count as absent. Visible particles
  keep every bit, padding stays as it is.
  """
  hidden = hidden & batch.mask
  gone = hidden[..., None]
  return dataclasses.replace(
    batch,
    p4=jnp.where(gone, 0, batch.p4),
    features=jnp.where(gone, 0, batch.features),
    present=jnp.where(gone, False, batch.present),
    hidden_rank=jnp.where(hidden, pt_rank(batch.p4, batch.mask), -1),
  )


def hidden_particles(view: Batch, batch: Batch) -> jax.Array:
  """Which particles of the batch `hide` took out of the view, (B, N) bool."""
  assert view.hidden_rank is not None, "the view hides particles"
  return jnp.asarray(batch.mask) & (view.hidden_rank >= 0)


def hidden_view(ratio: float, masking: str) -> str:
  """Name of the view of `hide_some`: tasks with equal options share it."""
  return f"masked_{masking}_{ratio:g}"


def hide_some(key: jax.Array, batch: Batch, ratio: float, masking: str) -> Batch:
  """The batch without particles that `choose_hidden` draws, with the key of its view."""
  key = view_key(key, hidden_view(ratio, masking))
  return hide(batch, choose_hidden(key, batch, ratio, masking))


def leading(batch: Batch, count: int) -> Batch:
  """The `count` particles of largest pT of each event, in that order, padded length `count`.

  Events of fewer particles keep them all. Source of the low-resolution view of super-resolution.
  """
  order = pt_order(batch.p4, batch.mask)[:, : min(count, batch.length)]
  pad = count - order.shape[1]

  def take(x):
    index = order.reshape(order.shape + (1,) * (x.ndim - 2))
    x = jnp.take_along_axis(x, index, axis=1)
    return jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))

  return dataclasses.replace(
    batch,
    p4=take(batch.p4),
    features=take(batch.features),
    present=take(batch.present),
    mask=take(batch.mask),
    hidden_rank=None,
  )
