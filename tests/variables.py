"""Variables of a model without compiling its `init`, which costs as much as a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def initial(init: Callable[..., Any], *args: Any, seed: int = 0) -> dict[str, Any]:
  """What init(*args) returns, but for the parameters' random numbers: those are NumPy's, float32.

  As Linen has them: kernels of variance one over the inputs, biases 0, scales 1; what is learned
  beside these (tokens, queries, codes) is of order one. Constants are those of `init`.
  """
  shapes = None

  def others(*args):
    nonlocal shapes
    variables = init(*args)
    shapes = jax.tree.map(lambda x: x.shape, variables["params"])
    return {name: x for name, x in variables.items() if name != "params"}

  constants = jax.jit(others)(*args)  # nothing random is left to compile
  rng = np.random.default_rng(seed)

  def fill(path, shape):
    name = path[-1].key
    if "scale" in name:
      return np.ones(shape, np.float32)
    if "bias" in name or name == "hidden":
      return np.zeros(shape, np.float32)
    noise = rng.normal(size=shape).astype(np.float32)
    inputs = {"kernel": shape[:1], "weight": shape[1:]}.get(name.split("_")[0], ())
    return noise / np.float32(np.prod(inputs) ** 0.5)

  params = jax.tree_util.tree_map_with_path(fill, shapes, is_leaf=lambda x: isinstance(x, tuple))
  return {"params": params, **constants}
