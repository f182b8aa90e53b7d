"""Events that stand for jets of chosen kinematics, where a generator is told nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jetfm.batches import batch_of
from jetfm.lorentz import from_pt_eta_phi_e
from jetfm.schema import Schema
from jetfm.typing import Array, Batch

Labels = Array | Sequence[str] | str | int
"""Class names, or their numbers."""


def chosen_jets(schema: Schema, label: Labels, kinematics: Mapping[str, Array | float]) -> Batch:
  """Jets of these kinematics, each of equal particles; stored features are 0.

  Args:
    label: (B,) or one for all; -1 is no class.
    kinematics: `pt` and `mass` in GeV, `eta`, `phi` in rad and `multiplicity`, as `label`.
  Raises: ValueError for an unknown class, no particles, and what no jet can have.
  """
  chosen: dict[str, Any] = {**kinematics, "label": _class_numbers(schema, label)}
  arrays = np.broadcast_arrays(*map(np.atleast_1d, chosen.values()))
  chosen = dict(zip(chosen, arrays, strict=True))
  pt, eta, phi, mass, count, number = (
    chosen[name] for name in ("pt", "eta", "phi", "mass", "multiplicity", "label")
  )
  allowed = {
    "pt": pt > 0,
    "mass": mass >= 0,
    "multiplicity": (count >= 1) & (count == np.round(count)),
    "label": (number >= -1) & (number < len(schema.classes)) & (number == np.round(number)),
  }
  for name, values in chosen.items():
    possible = np.isfinite(values) & allowed.get(name, True)
    if not possible.all():
      raise ValueError(f"{name} is {values[~possible][0]}, which no jet can have")
  energy = np.hypot(pt * np.cosh(eta), mass)
  jet = np.asarray(from_pt_eta_phi_e(np.stack([pt, eta, phi, energy], axis=-1)))
  mask = np.arange(int(count.max(initial=1))) < count[:, None]
  p4 = np.where(mask[..., None], (jet / count[:, None])[:, None], 0).astype(np.float32)
  features = {name: np.zeros(mask.shape, np.float32) for name in schema.stored}
  return batch_of(schema, p4, features, mask=mask, label=number)


def _class_numbers(schema: Schema, label: Labels) -> np.ndarray:
  label = np.asarray(label)
  if label.dtype.kind not in "US":
    return label
  if unknown := set(label.ravel().tolist()) - set(schema.classes):
    raise ValueError(f"no class '{unknown.pop()}'; there are {', '.join(schema.classes)}")
  return np.vectorize(schema.classes.index, otypes=[int])(label)
