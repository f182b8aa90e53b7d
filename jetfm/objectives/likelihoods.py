"""Densities of one measured number, by the name that the schema gives: `Feature.likelihood`.

Each turns `parameters` raw numbers of a head into a density. Raw numbers may be anything finite:
widths are kept above `SMALLEST_WIDTH`, so that values that repeat cannot be given infinite density.
Everything is computed in float32 at least, whatever the head's type.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jetfm.objectives.averages import at_least_float32
from jetfm.schema import Feature

SMALLEST_WIDTH = 1e-3
"""Of a Gaussian, on the scale of its variable."""
_LOG_SMALLEST = math.log(SMALLEST_WIDTH)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LARGEST_EXPONENT = 80.0  # exp of more does not fit into float32


class Likelihood(Protocol):
  """Shapes: raw (..., P) with P = `parameters`, values (...) -> (...)."""

  @property
  def parameters(self) -> int:
    """P, raw numbers for each value."""
    ...

  @property
  def physical(self) -> bool:
    """Whether values are in physical units, or on the scale of the network's inputs."""
    ...

  def nll(self, raw: ArrayLike, values: ArrayLike) -> jax.Array:
    """Negative log density in nats."""
    ...

  def sample(self, key: jax.Array, raw: ArrayLike) -> jax.Array:
    """One draw for each row of raw numbers."""
    ...

  def mean(self, raw: ArrayLike) -> jax.Array:
    """Expectation value."""
    ...


@dataclasses.dataclass(frozen=True)
class UnitGaussian:
  """Half the squared error and a constant: a Gaussian of width 1. The 'mse' of the schema."""

  parameters: int = 1
  physical: bool = False

  def nll(self, raw: ArrayLike, values: ArrayLike) -> jax.Array:
    return 0.5 * (self.mean(raw) - jnp.asarray(values)) ** 2 + _HALF_LOG_2PI

  def sample(self, key: jax.Array, raw: ArrayLike) -> jax.Array:
    mean = self.mean(raw)
    return mean + jax.random.normal(key, mean.shape, mean.dtype)

  def mean(self, raw: ArrayLike) -> jax.Array:
    return at_least_float32(raw)[..., 0]


@dataclasses.dataclass(frozen=True)
class Angle:
  """An angle in radians, density proportional to exp(cos(x - x0)); the 'cosine' of the schema.

  The raw numbers are a vector along x0, so that the prediction has no edge at pi; its length plays
  no part. The negative log density is 1 - cos(x - x0) and a constant.
  """

  parameters: int = 2
  physical: bool = False

  def nll(self, raw: ArrayLike, values: ArrayLike) -> jax.Array:
    difference = jnp.asarray(values) - self.mean(raw)
    log_norm = math.log(2 * math.pi * 1.2660658777520084)  # the Bessel function I0(1)
    return 2 * jnp.sin(difference / 2) ** 2 - 1 + log_norm

  def sample(self, key: jax.Array, raw: ArrayLike) -> jax.Array:
    mean = self.mean(raw)
    grid = jnp.linspace(-jnp.pi, jnp.pi, 2049)[:-1].astype(mean.dtype)
    index = jax.random.categorical(key, jnp.cos(grid), shape=mean.shape)
    x = mean + grid[index]
    return jnp.arctan2(jnp.sin(x), jnp.cos(x))

  def mean(self, raw: ArrayLike) -> jax.Array:
    raw = at_least_float32(raw)
    # Zero numbers mean the angle 0, where the derivative of the angle is defined.
    return jnp.arctan2(raw[..., 1], 1 + raw[..., 0])


@dataclasses.dataclass(frozen=True)
class GaussianMixture:
  """p(x) = sum_k w_k N(x; m_k, s_k^2), for what has several peaks.

  Raw numbers: K logits of w, K means, K logarithms of widths; ln s is a smooth maximum of the raw
  number and ln SMALLEST_WIDTH.
  """

  components: int = 5
  physical: bool = False

  @property
  def parameters(self) -> int:
    return 3 * self.components

  def nll(self, raw: ArrayLike, values: ArrayLike) -> jax.Array:
    log_weight, mean, log_width = self._split(raw)
    x = jnp.asarray(values)[..., None]
    pull = (x - mean) * jnp.exp(-log_width)
    log_density = log_weight - log_width - _HALF_LOG_2PI - 0.5 * pull**2
    return -jax.nn.logsumexp(log_density, axis=-1)

  def sample(self, key: jax.Array, raw: ArrayLike) -> jax.Array:
    log_weight, mean, log_width = self._split(raw)
    which, noise = jax.random.split(key)
    chosen = jax.random.categorical(which, log_weight)[..., None]
    mean, log_width = (jnp.take_along_axis(x, chosen, axis=-1)[..., 0] for x in (mean, log_width))
    return mean + jnp.exp(log_width) * jax.random.normal(noise, mean.shape, mean.dtype)

  def mean(self, raw: ArrayLike) -> jax.Array:
    log_weight, mean, _ = self._split(raw)
    return (jnp.exp(log_weight) * mean).sum(axis=-1)

  def _split(self, raw: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    logits, mean, width = jnp.split(at_least_float32(raw), 3, axis=-1)
    return jax.nn.log_softmax(logits, axis=-1), mean, _log_width(width)


@dataclasses.dataclass(frozen=True)
class ZeroInflatedLogNormal:
  """P(x = 0) = z, else ln x is Gaussian: a spike at zero with a heavy tail to the right.

  Raw numbers: logit of z, mean of ln x, logarithm of its width. Values in physical units; those
  below zero count as zero. The density of what is not zero is one of x, not of ln x:

      p(x) = (1 - z) N(ln x; m, s^2) / x
  """

  parameters: int = 3
  physical: bool = True

  def nll(self, raw: ArrayLike, values: ArrayLike) -> jax.Array:
    logit, mean, log_width = self._split(raw)
    x = at_least_float32(values)
    positive = x > 0
    log_x = jnp.log(jnp.where(positive, x, 1))
    pull = (log_x - mean) * jnp.exp(-log_width)
    of_positive = jax.nn.softplus(logit) + log_x + log_width + _HALF_LOG_2PI + 0.5 * pull**2
    return jnp.where(positive, of_positive, jax.nn.softplus(-logit))

  def sample(self, key: jax.Array, raw: ArrayLike) -> jax.Array:
    logit, mean, log_width = self._split(raw)
    spike, noise = jax.random.split(key)
    log_x = mean + jnp.exp(log_width) * jax.random.normal(noise, mean.shape, mean.dtype)
    zero = jax.random.bernoulli(spike, jax.nn.sigmoid(logit))
    return jnp.where(zero, 0, jnp.exp(jnp.minimum(log_x, _LARGEST_EXPONENT)))

  def mean(self, raw: ArrayLike) -> jax.Array:
    logit, mean, log_width = self._split(raw)
    exponent = mean + 0.5 * jnp.exp(jnp.minimum(2 * log_width, _LARGEST_EXPONENT))
    return jax.nn.sigmoid(-logit) * jnp.exp(jnp.minimum(exponent, _LARGEST_EXPONENT))

  def _split(self, raw: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    logit, mean, width = jnp.moveaxis(at_least_float32(raw), -1, 0)
    return logit, mean, _log_width(width)


@dataclasses.dataclass(frozen=True)
class Categorical:
  """One of a few known values, the nearest one; raw numbers are logits, one for each.

  Raises: ValueError for less than two values.
  """

  values: tuple[float, ...]
  physical: bool = False

  def __post_init__(self):
    if len(self.values) < 2:
      raise ValueError(f"a categorical likelihood needs at least two values, got {self.values}")

  @property
  def parameters(self) -> int:
    return len(self.values)

  def nll(self, raw: ArrayLike, values: ArrayLike) -> jax.Array:
    log_p = jax.nn.log_softmax(at_least_float32(raw), axis=-1)
    of_value = self.category(values)[..., None] == jnp.arange(len(self.values))
    return -jnp.where(of_value, log_p, 0).sum(axis=-1)

  def sample(self, key: jax.Array, raw: ArrayLike) -> jax.Array:
    raw = at_least_float32(raw)
    return jnp.asarray(self.values, raw.dtype)[jax.random.categorical(key, raw)]

  def mean(self, raw: ArrayLike) -> jax.Array:
    raw = at_least_float32(raw)
    return (jax.nn.softmax(raw, axis=-1) * jnp.asarray(self.values, raw.dtype)).sum(axis=-1)

  def category(self, values: ArrayLike) -> jax.Array:
    """Number of the nearest of `self.values`, (...) -> (...) int."""
    x = jnp.asarray(values)[..., None]
    return jnp.argmin(jnp.abs(x - jnp.asarray(self.values, x.dtype)), axis=-1)


def likelihood_of(feature: Feature, components: int = 5) -> Likelihood:
  """The density of a feature of the schema.

  Args:
    components: of a Gaussian mixture.
  Raises: ValueError when a feature is categorical and its likelihood is not, or the reverse.
  """
  if (feature.likelihood == "categorical") != (feature.width > 1):
    raise ValueError(
      f"feature '{feature.name}' has the likelihood '{feature.likelihood}' and "
      f"{feature.width} input column(s): a likelihood 'categorical' and a transform 'categorical' "
      "need each other"
    )
  match feature.likelihood:
    case "mse":
      return UnitGaussian()
    case "cosine":
      return Angle()
    case "gaussian_mixture":
      return GaussianMixture(components)
    case "zero_inflated_lognormal":
      return ZeroInflatedLogNormal()
    case _:
      return Categorical(feature.transforms[-1].args)


def _log_width(raw: jax.Array) -> jax.Array:
  """A smooth maximum of a raw logarithm and that of the smallest width."""
  return _LOG_SMALLEST + jax.nn.softplus(raw - _LOG_SMALLEST)
