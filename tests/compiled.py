"""Functions of the library, each one program: called as they are, each operation is one."""

import inspect
from types import SimpleNamespace

import jax

import jetfm.lorentz
from jetfm import models

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
"""`jetfm.lorentz`, its functions compiled."""

physical_momenta = jax.jit(models.physical_momenta)
standardise_kinematics = jax.jit(models.standardise_kinematics)
