"""Events that stand for jets of chosen kinematics, where a generator is told nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.batches import batch_of
from jetfm.lorentz import from_pt_eta_phi_e
from jetfm.schema import Schema
from jetfm.typing import Array, Batch

Labels = Array | Sequence[str] | str | int


def chosen_jets(
  schema: Schema,
  label: Labels,
  pt: Array | float,
  eta: Array | float,
  mass: Array | float,
  multiplicity: Array | int,
  phi: Array | float = 0.0,
) -> Batch:
  """Jets of these kinematics, each of so many equal particles; stored features are 0.

  Args: (B,) each or one for all.
    label: class names, or their numbers; -1 is no class.
    pt, mass: GeV. phi: rad.
  Raises: ValueError for an unknown class, no particles, and what no jet can have.
  """
  numbers = [pt, eta, phi, mass, multiplicity, _class_numbers(schema, label)]
  pt, eta, phi, mass, count, label = np.broadcast_arrays(*map(np.atleast_1d, numbers))
  known = (label >= -1) & (label < len(schema.classes)) & (label == np.round(label))
  for name, values, allowed in (
    ("pt", pt, pt > 0),
    ("mass", mass, mass >= 0),
    ("eta", eta, True),
    ("phi", phi, True),
    ("multiplicity", count, (count >= 1) & (count == np.round(count))),
    ("label", label, known),
  ):
    possible = allowed & np.isfinite(values)
    if not possible.all():
      raise ValueError(
        f"{name} is {values[~possible][0]}, which no jet of '{schema.name}' can have"
      )
  energy = np.hypot(pt * np.cosh(eta), mass)
  jet = np.asarray(from_pt_eta_phi_e(np.stack([pt, eta, phi, energy], axis=-1)))
  mask = np.arange(int(count.max(initial=1))) < count[:, None]
  p4 = np.where(mask[..., None], (jet / count[:, None])[:, None], 0).astype(np.float32)
  features = {name: np.zeros(mask.shape, np.float32) for name in schema.stored}
  return batch_of(schema, p4, features, mask=mask, label=label)


def _class_numbers(schema: Schema, label: Labels) -> np.ndarray:
  label = np.asarray(label)
  if label.dtype.kind not in "US":
    return label
  if unknown := set(label.ravel().tolist()) - set(schema.classes):
    raise ValueError(f"no class '{unknown.pop()}'; there are {', '.join(schema.classes)}")
  return np.vectorize(schema.classes.index, otypes=[int])(label)
