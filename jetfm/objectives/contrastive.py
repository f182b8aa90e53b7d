"""Contrastive losses: embeddings of what belongs together are pulled together, others apart.

Every pair of events of the global batch counts: these functions are written for all of it, and
under `jit` with sharded inputs the compiler gathers what it needs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.objectives.averages import at_least_float32, ratio


def supervised_contrastive(
  z: ArrayLike, label: ArrayLike, weight: ArrayLike, temperature: float = 0.1
) -> jax.Array:
  """SupCon: events of one class are each other's positives.

      L_i = -1/|P(i)| sum_{p in P(i)} ln( exp(z_i z_p / T) / sum_{a != i} exp(z_i z_a / T) )

  averaged over anchors i by their weight. P(i) are the other events of i's class. Events of weight
  0 or without a label (-1) are neither anchors nor among a; an anchor without positives does not
  count. Weights are those of anchors only.

  Shapes: z (B, D) of length one, label (B,) int, weight (B,) -> scalar in nats; 0 without anchors.
  Raises: ValueError unless the temperature is positive.
  Source: arXiv:2004.11362, eq. 2.
  """
  loss, anchor = _per_anchor(z, label, weight, temperature)
  return _weighted(loss, anchor, weight)


def nt_xent(
  first: ArrayLike, second: ArrayLike, weight: ArrayLike, temperature: float = 0.1
) -> jax.Array:
  """Two views of each event: the other view is the only positive, all other views are negatives.

  It is `supervised_contrastive` of 2 B views with one class for each event.
  Shapes: first and second (B, D) of length one, weight (B,) -> scalar in nats.
  Raises: ValueError unless the temperature is positive.
  Source: arXiv:2002.05709, eq. 1.
  """
  event = jnp.arange(jnp.shape(first)[0])
  both = jnp.concatenate([jnp.asarray(first), jnp.asarray(second)])
  twice = jnp.concatenate([event, event]), jnp.concatenate([jnp.asarray(weight)] * 2)
  return supervised_contrastive(both, *twice, temperature)


def nearest_is_positive(
  z: ArrayLike, label: ArrayLike, weight: ArrayLike
) -> tuple[jax.Array, jax.Array]:
  """Whether the most similar other event has the same label, and who counts: (B,) and (B,) bool.

  Chance is the probability that two events have one label. Who counts: `supervised_contrastive`.
  """
  similarity, other, positive = _pairs(z, label, weight)
  nearest = jnp.argmax(jnp.where(other, similarity, -jnp.inf), axis=-1)
  hit = jnp.take_along_axis(positive, nearest[:, None], axis=-1)[:, 0]
  return hit, positive.any(axis=-1)


def _pairs(z, label, weight) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(B, B): similarities, who is compared with whom, and whose positive who is."""
  label = jnp.asarray(label)
  real = (jnp.asarray(weight) != 0) & (label >= 0)
  z = jnp.where(real[:, None], at_least_float32(z), 0)  # filler may hold NaN
  similarity = jnp.matmul(z, z.T, precision="highest")
  other = real[:, None] & real[None, :] & ~jnp.eye(len(label), dtype=bool)
  return similarity, other, other & (label[:, None] == label[None, :])


def _per_anchor(z, label, weight, temperature) -> tuple[jax.Array, jax.Array]:
  """(B,) loss of each anchor, 0 where it does not count, and (B,) which ones count."""
  if not temperature > 0:
    raise ValueError(f"the temperature is {temperature}, expected a positive number")
  similarity, other, positive = _pairs(z, label, weight)
  logits = similarity / temperature
  anchor = positive.any(axis=-1)
  # A row without others would be the logarithm of nothing: it is replaced before, not after.
  rows = jnp.where(other | ~anchor[:, None], logits, -jnp.inf)
  log_sum = jax.nn.logsumexp(rows, axis=-1)
  of_positives = jnp.where(positive, logits, 0).sum(axis=-1)
  loss = log_sum - ratio(of_positives, positive.sum(axis=-1).astype(logits.dtype))
  return jnp.where(anchor, loss, 0), anchor


def _weighted(loss, anchor, weight) -> jax.Array:
  weight = jnp.where(anchor, jnp.asarray(weight), 0).astype(loss.dtype)
  return ratio((weight * loss).sum(), weight.sum())
