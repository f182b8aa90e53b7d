"""What a data set's features are, how they are standardised, and how they are reconstructed.

A schema is data: it comes with the manifest of a data set, models are built from it, and it is
saved with them. No layer counts features or knows their names by itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp

from jetfm.lorentz.kinematics import (
  PARTICLE_FEATURES,
  constituent_mass,
  particle_features,
  seed_mass,
)
from jetfm.names import nearest
from jetfm.typing import Array

LIKELIHOODS = ("mse", "cosine", "gaussian_mixture", "zero_inflated_lognormal", "categorical")
TRANSFORMS = {"log": 0, "log1p": 0, "tanh": 0, "clip": 2, "affine": 2, "zscore": 0, "periodic": 1}
"""Number of arguments of each transform; `categorical` takes any number of them, its values."""

LOG_FLOOR = 1e-8
DERIVED_TARGETS: dict[str, Callable[[Array, Array], Array]] = {
  "mass": constituent_mass,
  "seed_mass": seed_mass,
}


def _one_of(what: str, name: str, allowed: Iterable[str]) -> None:
  allowed = tuple(allowed)
  if name not in allowed:
    near = nearest(name, allowed)
    raise ValueError(f"{what} '{name}' is unknown; the nearest is '{near}' of {list(allowed)}")


@dataclasses.dataclass(frozen=True)
class Transform:
  """One step from physical units towards network inputs.

  log, log1p, tanh | clip(low, high) | affine(shift, scale): (x - shift) * scale |
  zscore: (x - mean) / std, with constants of the training split | periodic(period): wrap to
  (-period/2, period/2] | categorical(v_0, v_1, ...): one-hot of the nearest value.

  Raises: ValueError for an unknown kind or a wrong number of arguments.
  """

  kind: str
  args: tuple[float, ...] = ()

  def __post_init__(self):
    _one_of("transform", self.kind, (*TRANSFORMS, "categorical"))
    want = TRANSFORMS.get(self.kind)
    if want is None and len(self.args) < 2:
      raise ValueError(f"categorical needs at least two values, got {self.args}")
    if want is not None and len(self.args) != want:
      raise ValueError(f"transform '{self.kind}' takes {want} arguments, got {self.args}")


@dataclasses.dataclass(frozen=True)
class Feature:
  """One measured or derived quantity.

  Attributes:
    name: of a stored branch or, when `derived`, of a function of the four-momenta.
    unit: of the untransformed value.
    group: detector group that measures it; a group is present or missing as a whole.
    transforms: applied in order by `forward`, undone in reverse by `inverse`.
    likelihood: what reconstructs it, one of `LIKELIHOODS`.
    derived: computed on the device from p4, never stored.
    mean, std: z-score constants; None until fitted on a training split.
  """

  name: str
  unit: str = ""
  group: str = "kinematics"
  transforms: tuple[Transform, ...] = ()
  likelihood: str = "mse"
  derived: bool = False
  mean: float | None = None
  std: float | None = None

  def __post_init__(self):
    _one_of("likelihood", self.likelihood, LIKELIHOODS)
    kinds = [t.kind for t in self.transforms]
    if "categorical" in kinds[:-1] or kinds.count("zscore") > 1:
      raise ValueError(f"feature '{self.name}': categorical is last and zscore once, got {kinds}")

  @property
  def width(self) -> int:
    """Columns after `forward`: the number of categories, else 1."""
    last = self.transforms[-1:]
    return len(last[0].args) if last and last[0].kind == "categorical" else 1

  @property
  def needs_fit(self) -> bool:
    return any(t.kind == "zscore" for t in self.transforms) and self.mean is None

  def known(self, x: Array) -> Any:
    """x (...) of a target -> (...) bool: which events have it.

    Not those where it is no number, or stored as 0 GeV: the mass of a jet that is not there.
    """
    size: Any = abs(x)
    finite = size < math.inf
    return finite if self.derived or self.unit != "GeV" else finite & (size > 0)

  def before_zscore(self, x: Array) -> Array:
    """x (...) -> the values whose mean and standard deviation the z-score wants."""
    for t in self.transforms:
      if t.kind == "zscore":
        break
      x = _forward(t, x, 0.0, 1.0)
    return x

  def forward(self, x: Array, mean: Array | float | None = None, std: Array | float | None = None):
    """Physical units (...) -> network input (...), or (..., width) when categorical.

    `mean` and `std` override the fitted constants (a model passes those it was trained with).
    Raises: ValueError when a z-score was never fitted.
    """
    mean, std = self._constants(mean, std)
    for t in self.transforms:
      x = _forward(t, x, mean, std)
    return x

  def inverse(self, y: Array, mean: Array | float | None = None, std: Array | float | None = None):
    """Network scale (...) -> physical units (...). What clip cut off stays cut off."""
    mean, std = self._constants(mean, std)
    for t in reversed(self.transforms):
      y = _inverse(t, y, mean, std)
    return y

  def _constants(self, mean, std):
    if mean is None and self.needs_fit:
      raise ValueError(
        f"feature '{self.name}' has a z-score without constants: fit the schema on a training "
        "split (launch.ingest does), or pass mean and std"
      )
    if mean is None:
      return (0.0, 1.0) if self.mean is None else (self.mean, self.std)
    return mean, std


def _forward(t: Transform, x: Array, mean, std) -> Array:
  match t.kind:
    case "log":
      return jnp.log(jnp.maximum(x, LOG_FLOOR))
    case "log1p":
      return jnp.log1p(x)
    case "tanh":
      return jnp.tanh(x)
    case "clip":
      return jnp.clip(x, t.args[0], t.args[1])
    case "affine":
      return (x - t.args[0]) * t.args[1]
    case "zscore":
      return (x - mean) / std
    case "periodic":
      period = t.args[0]
      return -(jnp.mod(period / 2 - x, period) - period / 2)
    case _:  # categorical
      values = jnp.asarray(t.args, dtype=jnp.result_type(x, jnp.float32))
      nearest = jnp.argmin(jnp.abs(x[..., None] - values), axis=-1)
      return (nearest[..., None] == jnp.arange(len(t.args))).astype(values.dtype)


def _inverse(t: Transform, y: Array, mean, std) -> Array:
  match t.kind:
    case "log":
      return jnp.exp(y)
    case "log1p":
      return jnp.expm1(y)
    case "tanh":
      # Values at the asymptote, which float32 reaches near |x| = 8, come back finite.
      edge = 1 - float(jnp.finfo(jnp.result_type(y, jnp.float32)).epsneg)
      return jnp.arctanh(jnp.clip(y, -edge, edge))
    case "affine":
      return y / t.args[1] + t.args[0]
    case "zscore":
      return y * std + mean
    case "clip":
      return y
    case "periodic":
      return _forward(t, y, mean, std)
    case _:  # categorical
      return jnp.asarray(t.args, dtype=y.dtype)[jnp.argmax(y, axis=-1)]


@dataclasses.dataclass(frozen=True)
class Schema:
  """The features of a data set, in input order, and what else an event carries.

  Raises: ValueError for a duplicated name, or a derived name that no formula computes.
  """

  name: str
  features: tuple[Feature, ...]
  classes: tuple[str, ...] = ()
  targets: tuple[Feature, ...] = ()
  spectators: tuple[str, ...] = ()

  def __post_init__(self):
    for what, names in (
      ("feature", [f.name for f in self.features]),
      ("class", list(self.classes)),
      ("target", [t.name for t in self.targets]),
      ("spectator", list(self.spectators)),
    ):
      twice = {n for n in names if names.count(n) > 1}
      if twice:
        raise ValueError(f"schema '{self.name}': {what} {sorted(twice)} appears twice")
    for feature in self.features:
      if feature.derived:
        _one_of("derived feature", feature.name, PARTICLE_FEATURES)
    for target in self.targets:
      if target.derived:
        _one_of("derived target", target.name, DERIVED_TARGETS)

  @property
  def stored(self) -> tuple[str, ...]:
    """Names of the columns of `Batch.features`."""
    return tuple(f.name for f in self.features if not f.derived)

  @property
  def stored_targets(self) -> tuple[str, ...]:
    """Names of the columns of `Batch.targets`."""
    return tuple(t.name for t in self.targets if not t.derived)

  @property
  def groups(self) -> tuple[str, ...]:
    """Detector groups in order of first appearance: the columns of `Batch.present`."""
    return tuple(dict.fromkeys(f.group for f in self.features))

  @property
  def width(self) -> int:
    """Columns of the standardised inputs."""
    return sum(f.width for f in self.features)

  def values(self, p4: Array, features: Array, mask: Array) -> Array:
    """p4 (..., N, 4), stored features (..., N, F), mask (..., N) -> (..., N, len(features)).

    Physical units, in the order of `self.features`; padded slots are 0.
    """
    derived = tuple(f.name for f in self.features if f.derived)
    computed = particle_features(derived, p4, mask)
    stored = jnp.where(mask[..., None], features, 0.0)
    columns = [
      computed[..., derived.index(f.name)] if f.derived else stored[..., self.stored.index(f.name)]
      for f in self.features
    ]
    return jnp.stack(columns, axis=-1)

  def target_values(self, p4: Array, targets: Array, mask: Array) -> Array:
    """p4 (..., N, 4), stored targets (..., T), mask (..., N) -> (..., len(targets)), in units."""
    if not self.targets:
      return jnp.zeros((*targets.shape[:-1], 0), targets.dtype)
    columns = [
      DERIVED_TARGETS[t.name](p4, mask)
      if t.derived
      else targets[..., self.stored_targets.index(t.name)]
      for t in self.targets
    ]
    return jnp.stack(columns, axis=-1)

  def fitted(self, constants: Mapping[str, tuple[float, float]]) -> Schema:
    """A copy whose z-scores have the given (mean, std) by feature or target name.

    Raises: ValueError for a z-score without constants, or a std that is not finite and positive.
    """

    def fit(feature: Feature) -> Feature:
      if not any(t.kind == "zscore" for t in feature.transforms):
        return feature
      if feature.name not in constants:
        raise ValueError(f"no z-score constants for '{feature.name}'; got {sorted(constants)}")
      mean, std = map(float, constants[feature.name])
      if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ValueError(f"'{feature.name}': mean {mean} and std {std} cannot standardise anything")
      return dataclasses.replace(feature, mean=mean, std=std)

    return dataclasses.replace(
      self,
      features=tuple(map(fit, self.features)),
      targets=tuple(map(fit, self.targets)),
    )

  def to_dict(self) -> dict[str, Any]:
    """Plain lists, strings and numbers, for JSON."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, data: Mapping[str, Any]) -> Schema:
    """The schema that `to_dict` described, also after a trip through JSON."""

    def feature(d: Mapping[str, Any]) -> Feature:
      steps = tuple(Transform(t["kind"], tuple(t["args"])) for t in d["transforms"])
      return Feature(**{**d, "transforms": steps})

    return cls(
      name=data["name"],
      features=tuple(map(feature, data["features"])),
      classes=tuple(data["classes"]),
      targets=tuple(map(feature, data["targets"])),
      spectators=tuple(data["spectators"]),
    )
