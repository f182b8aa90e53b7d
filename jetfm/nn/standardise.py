"""Standardisation with the numbers that the model was trained with.

They live in the collection `constants`, filled from a schema at init and never trained: a restored
model keeps those of its training, whatever data set it is used on.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.schema import Feature, Schema


def _constant(module: nn.Module, attribute: str, features: Sequence[Feature], default: float):
  """The variable `constants`/attribute of a module: one number for each feature.

  Raises: ValueError when it is filled from a z-score that was never fitted.
  """

  def fill() -> jax.Array:
    for feature in features:
      if feature.needs_fit:
        raise ValueError(
          f"'{feature.name}' has a z-score without constants: build the model from the schema of "
          "a manifest, or from Schema.fitted"
        )
    values = [getattr(feature, attribute) for feature in features]
    return jnp.asarray([default if x is None else x for x in values], jnp.float32)

  return module.variable("constants", attribute, fill)


class StandardiseInputs(nn.Module):
  """The features of a schema, from physical units to network inputs.

  Collection `constants`: mean and std, one for each feature.
  Raises: ValueError at init if a z-score of the schema was never fitted.
  """

  schema: Schema

  def setup(self) -> None:
    self.mean = _constant(self, "mean", self.schema.features, 0.0)
    self.std = _constant(self, "std", self.schema.features, 1.0)

  def __call__(
    self, p4: jax.Array, features: jax.Array, present: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """Exactly 0 where `mask` is False, and for what a detector group did not measure.

    Shapes: p4 (B, N, 4), stored features (B, N, F), present (B, N, G), mask (B, N) ->
    (B, N, schema.width).
    """
    values = self.schema.values(p4, features, mask)
    columns = []
    for index, feature in enumerate(self.schema.features):
      column = feature.forward(
        values[..., index], self.mean.value[index], self.std.value[index]
      ).reshape(*mask.shape, feature.width)
      measured = mask
      if not feature.derived:
        measured = mask & present[..., self.schema.groups.index(feature.group)]
      columns.append(jnp.where(measured[..., None], column, 0))
    return jnp.concatenate(columns, axis=-1)


class StandardiseTargets(nn.Module):
  """Regression targets of a schema, from physical units to the scale of the loss, and back.

  Collection `constants`: mean and std, one for each target.
  Shapes: (..., T) -> (..., T).
  Raises: ValueError at init if a z-score of the targets was never fitted.
  """

  targets: tuple[Feature, ...]

  def setup(self) -> None:
    self.mean = _constant(self, "mean", self.targets, 0.0)
    self.std = _constant(self, "std", self.targets, 1.0)

  def __call__(self, values: jax.Array) -> jax.Array:
    """Physical units -> standardised."""
    return self._transform(values, inverse=False)

  def inverse(self, standardised: jax.Array) -> jax.Array:
    """Standardised -> physical units."""
    return self._transform(standardised, inverse=True)

  def _transform(self, x: jax.Array, inverse: bool) -> jax.Array:
    columns = [
      (target.inverse if inverse else target.forward)(
        x[..., index], self.mean.value[index], self.std.value[index]
      )
      for index, target in enumerate(self.targets)
    ]
    return jnp.stack(columns, axis=-1)
