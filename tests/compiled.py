"""`jetfm.lorentz` with compiled functions: called as they are, each operation is a program."""

import inspect
from types import SimpleNamespace

import jax

import jetfm.lorentz

STATIC = {
  "grade_projection": "grade",
  "pair_features": "kind",
  "pair_momenta": "kind",
  "pairwise_features": "kind",
  "particle_features": "names",
  "random_lorentz": "reflections",
}
"""Arguments that are no arrays."""

CONSTANT = ("equivariant_maps",)
"""Functions that return NumPy's arrays."""


def compiled(name, x):
  function = inspect.isfunction(x) and name not in CONSTANT
  return jax.jit(x, static_argnames=STATIC.get(name)) if function else x


lorentz = SimpleNamespace(**{name: compiled(name, x) for name, x in vars(jetfm.lorentz).items()})
