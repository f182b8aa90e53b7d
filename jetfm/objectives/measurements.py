"""The hybrid likelihood: each measurement of an object by the density that its schema names."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jetfm.objectives.likelihoods import Angle, Categorical, Likelihood, likelihood_of
from jetfm.schema import Feature, Schema
from jetfm.typing import Array


@dataclasses.dataclass(frozen=True)
class HybridLikelihood:
  """Densities of all features of a schema, given independently of each other.

  Their raw numbers are side by side in one row of `parameters` numbers, in the schema's order.

  Attributes:
    components: of each Gaussian mixture.
  Raises: ValueError for a feature whose likelihood does not fit its transforms.
  """

  schema: Schema
  components: int = 5

  def __post_init__(self):
    _ = self.parts

  @functools.cached_property
  def parts(self) -> tuple[Likelihood, ...]:
    """One for each feature."""
    return tuple(likelihood_of(f, self.components) for f in self.schema.features)

  @property
  def parameters(self) -> int:
    """P, raw numbers for each object."""
    return sum(part.parameters for part in self.parts)

  def split(self, raw: Array) -> list[jax.Array]:
    """(..., P) -> one (..., P_f) for each feature."""
    ends, start = [], 0
    for part in self.parts:
      ends.append(slice(start, start + part.parameters))
      start += part.parameters
    return [jnp.asarray(raw)[..., where] for where in ends]

  def nll(self, raw: Array, values: Array, mean: Array, std: Array) -> jax.Array:
    """Negative log density of each measurement in nats, (..., P) and (..., F) -> (..., F).

    Args:
      values: `Schema.values`, in physical units; finite also where nothing was measured.
      mean, std: (F,) constants of the z-scores, those that the model was trained with.
    """
    columns = [
      part.nll(own, self._scaled(index, values, mean, std))
      for index, (part, own) in enumerate(zip(self.parts, self.split(raw), strict=True))
    ]
    return jnp.stack(columns, axis=-1)

  def errors(self, raw: Array, values: Array, mean: Array, std: Array) -> jax.Array:
    """How far the best guess is off, (..., P) and (..., F) -> (..., F).

    Of a categorical feature 1 where the most probable category is wrong, else 0; of the others the
    squared error of the expectation on the scale of the network's inputs.
    """
    guesses, truths = self.guesses(raw, values, mean, std)
    off = guesses - truths
    columns = []
    for index, part in enumerate(self.parts):
      x = off[..., index]
      if isinstance(part, Categorical):
        columns.append((x != 0).astype(x.dtype))
      else:
        columns.append((2 * jnp.sin(x / 2) if isinstance(part, Angle) else x) ** 2)
    return jnp.stack(columns, axis=-1)

  def guesses(
    self, raw: Array, values: Array, mean: Array, std: Array
  ) -> tuple[jax.Array, jax.Array]:
    """Best guess and truth of each feature, (..., P) and (..., F) -> twice (..., F).

    On the scale of the network's inputs the expectation; of a categorical feature the number of the
    most probable category.
    """
    guesses, truths = [], []
    for index, (part, own) in enumerate(zip(self.parts, self.split(raw), strict=True)):
      true = self._scaled(index, values, mean, std)
      if isinstance(part, Categorical):
        guess = own.argmax(-1).astype(true.dtype)
      else:
        guess = self._of_network(index, part.mean(own), mean, std)
      guesses.append(guess)
      truths.append(self._of_network(index, true, mean, std))
    return jnp.stack(guesses, axis=-1), jnp.stack(truths, axis=-1)

  def draws(self, key: jax.Array, raw: Array, mean: Array, std: Array) -> jax.Array:
    """One draw of every feature on the scale of `guesses`, (..., P) -> (..., F)."""
    keys = jax.random.split(key, len(self.parts))
    columns = [
      self._of_network(index, part.sample(keys[index], own), mean, std)
      for index, (part, own) in enumerate(zip(self.parts, self.split(raw), strict=True))
    ]
    return jnp.stack(columns, axis=-1)

  def sample(self, key: jax.Array, raw: Array, mean: Array, std: Array) -> jax.Array:
    """One draw of every feature in physical units, (..., P) -> (..., F)."""
    keys = jax.random.split(key, len(self.parts))
    draws = [p.sample(k, x) for p, k, x in zip(self.parts, keys, self.split(raw), strict=True)]
    return self._physical(draws, mean, std)

  def mean(self, raw: Array, mean: Array, std: Array) -> jax.Array:
    """Expectation of every feature, brought to physical units, (..., P) -> (..., F).

    For a transform that is not linear this is not the expectation in physical units.
    """
    means = [p.mean(x) for p, x in zip(self.parts, self.split(raw), strict=True)]
    return self._physical(means, mean, std)

  def _scaled(self, index: int, values, mean, std) -> jax.Array:
    """Values of one feature on the scale of its density."""
    x, part = jnp.asarray(values)[..., index], self.parts[index]
    if part.physical:
      return x
    return _before_categories(self.schema.features[index]).forward(x, mean[index], std[index])

  def _of_network(self, index: int, x: jax.Array, mean, std) -> jax.Array:
    """From the scale of the feature's density to that of the network's inputs, or a category."""
    part = self.parts[index]
    if isinstance(part, Categorical):
      return part.category(x).astype(x.dtype)
    return self.schema.features[index].forward(x, mean[index], std[index]) if part.physical else x

  def _physical(self, columns, mean, std) -> jax.Array:
    out = []
    for index, (part, x) in enumerate(zip(self.parts, columns, strict=True)):
      feature = _before_categories(self.schema.features[index])
      out.append(x if part.physical else feature.inverse(x, mean[index], std[index]))
    return jnp.stack(out, axis=-1)


def _before_categories(feature: Feature) -> Feature:
  """The feature without a final one-hot: its categories are values of what comes before."""
  if feature.width == 1:
    return feature
  return dataclasses.replace(feature, transforms=feature.transforms[:-1], likelihood="mse")
