"""Multivectors beside their particles: references, invariants, and what a network may read."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.lorentz import GRADE_SLICES
from jetfm.lorentz.algebra import INNER_SIGNS

REFERENCES = {"time": (1.0, 0.0, 0.0, 0.0), "beam": (0.0, 0.0, 0.0, 1.0)}
"""Vectors (E, px, py, pz) that break the Lorentz group down to the symmetry of a collider."""


def reference_vectors(names: Sequence[str]) -> np.ndarray:
  """(R, 4), one row for each of R names.

  Raises: ValueError for a name that is not in `REFERENCES`.
  """
  for name in names:
    if name not in REFERENCES:
      raise ValueError(f"no reference '{name}'; there are {list(REFERENCES)}")
  return np.array([REFERENCES[name] for name in names]).reshape(-1, 4)


def grade_invariants(x: jax.Array) -> jax.Array:
  """<reverse(x) x> of each grade, (..., C, 16) -> (..., C, 5): unchanged by every transformation.

  Squares of the scalar and of the pseudoscalar, invariant masses squared and their like.
  """
  squares = x * x * jnp.asarray(INNER_SIGNS, x.dtype)
  return jnp.stack([squares[..., where].sum(axis=-1) for where in GRADE_SLICES], axis=-1)


def signed_log(x: jax.Array) -> jax.Array:
  """asinh(x): odd, linear near 0, sign(x) ln(2 |x|) far from it, where momenta span decades."""
  return jnp.arcsinh(x)
