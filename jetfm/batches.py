"""A Batch from arrays in memory, for events that come from no data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.schema import Schema
from jetfm.typing import Array, Batch


def batch_of(
  schema: Schema,
  p4: Array,
  features: Mapping[str, Array] | None = None,
  *,
  mask: Array | None = None,
  present: Array | None = None,
  label: Array | None = None,
  weight: Array | None = None,
) -> Batch:
  """Padded events as a `Batch` of a schema, such as that of a checkpoint.

      tagger = jetfm.load("runs/jets/classify")
      probabilities = tagger.classify(jetfm.batch_of(tagger.schema, p4))

  Of JAX's arrays it is JAX's, also inside jax.jit and jax.grad; else NumPy's. Targets and
  spectators, which no prediction sees, are 0; events are numbered from 0.

  Args:
    p4: (B, N, 4) four-momenta (E, px, py, pz) in GeV, in the laboratory; particles first.
    features: name -> (B, N), the features that the schema stores, in its units; of a schema whose
      features all follow from the momenta none.
    mask: (B, N) bool; None where every slot with an energy other than 0 holds a particle.
    present: (B, N, G) bool, which detector groups measured a particle; None where all did.
    label: (B,) class numbers, -1 where it is not known; None where none is.
    weight: (B,); None where all events count alike.
  Momenta are taken as they are: what is not finite, or has a negative energy or one below its
  momentum, is for `jetfm.data` to refuse.
  Raises: ValueError for shapes that do not fit, features that are missing or unknown, padding
    before a particle, or a label that is no class.
  """
  given = dict(features or {})
  xp: Any = np
  if any(isinstance(x, jax.Array) for x in (p4, mask, present, label, weight, *given.values())):
    xp = jnp
  p4 = xp.asarray(p4)
  if p4.ndim != 3 or p4.shape[-1] != 4:
    raise ValueError(f"p4 has shape {p4.shape}, expected (events, particles, 4)")
  size, shape = len(p4), p4.shape[:2]
  if set(given) != set(schema.stored):
    missing = [name for name in schema.stored if name not in given]
    unknown = [name for name in given if name not in schema.stored]
    raise ValueError(
      f"features of the input set '{schema.name}': missing {missing}, unknown {unknown}"
    )
  mask = p4[..., 0] != 0 if mask is None else xp.asarray(mask, bool)
  for name, array, expected in (
    ("mask", mask, shape),
    ("present", present, (*shape, len(schema.groups))),
    ("label", label, (size,)),
    ("weight", weight, (size,)),
    *((name, array, shape) for name, array in given.items()),
  ):
    if array is not None and np.shape(array) != expected:
      raise ValueError(f"{name} has shape {np.shape(array)}, expected {expected}")
  if not isinstance(mask, jax.core.Tracer):
    check_padding(np.asarray(mask))
  if label is not None and schema.classes and not isinstance(label, jax.core.Tracer):
    wrong = (np.asarray(label) < -1) | (np.asarray(label) >= len(schema.classes))
    if wrong.any():
      raise ValueError(
        f"event {int(wrong.argmax())} has the label {np.asarray(label)[wrong][0]}; there are "
        f"{len(schema.classes)} classes, and -1 for none"
      )
  columns = [xp.asarray(given[name], xp.float32) for name in schema.stored]
  groups = (*shape, len(schema.groups))
  return Batch(
    p4=p4 if xp.issubdtype(p4.dtype, xp.floating) else p4.astype(xp.float32),
    features=xp.stack(columns, axis=-1) if columns else xp.zeros((*shape, 0), xp.float32),
    present=xp.broadcast_to(mask[..., None], groups)
    if present is None
    else xp.asarray(present, bool),
    mask=mask,
    label=xp.full(size, -1, xp.int32) if label is None else xp.asarray(label, xp.int32),
    targets=xp.zeros((size, len(schema.stored_targets)), xp.float32),
    weight=xp.ones(size, xp.float32) if weight is None else xp.asarray(weight, xp.float32),
    event_id=xp.arange(size, dtype=xp.int32),
    spectators=xp.zeros((size, len(schema.spectators)), xp.float32),
  )


def check_padding(mask: np.ndarray) -> None:
  """Raises: ValueError for an event, a row of (B, N), whose padding is not behind its particles."""
  late = (mask[:, 1:] & ~mask[:, :-1]).any(axis=1)
  if late.any():
    raise ValueError(f"event {int(late.argmax())} has padding before a particle")
