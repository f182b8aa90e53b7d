"""Which likelihood suits a measured quantity: what its distribution looks like, and a proposal.

The names are those of `jetfm.schema.LIKELIHOODS`. A proposal is a start for a schema, and no
verdict: look at the figure (`jetfm.evals.plots.likelihood_figure`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

FEW_VALUES = 12
"""At most so many different values are categories."""
SPIKE = 0.01
"""A share of exact zeros beyond this is a spike."""
SKEW = 1.0
"""Positive quantities that are skewed more than this, and much less so in their logarithm, are
log-normal-like."""
VALLEY = 0.7
"""Two peaks are separate when the density between them falls below this part of the lower one."""
TAILS = 3.0
"""Excess kurtosis beyond which one Gaussian is too narrow and too wide at once."""
_BINS = 512

Density = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Proposal:
  """What a sample looks like, and which likelihood of the schema that asks for."""

  likelihood: str
  why: str
  modes: int
  zeros: float
  """Share of exact zeros."""
  skewness: float
  """Of what is not zero."""
  distinct: int
  """Different values."""


def propose_likelihood(values: np.ndarray) -> Proposal:
  """Looks at the values that were measured, (n,), on the scale that the density will see.

  In physical units for what may be log-normal, else after the schema's transforms.
  Raises: ValueError for less than 100 values, or some that are not finite.
  """
  x = _checked(values)
  distinct, zeros = len(np.unique(x)), float((x == 0).mean())
  rest = x[x != 0]
  modes, skewness = len(peaks(rest)) if len(rest) > 1 else 1, _moment(rest, 3)

  def proposal(likelihood: str, why: str) -> Proposal:
    return Proposal(likelihood, why, modes, zeros, skewness, distinct)

  if distinct <= FEW_VALUES:
    return proposal("categorical", f"{distinct} different values")
  if zeros > SPIKE and (rest > 0).all():
    return proposal("zero_inflated_lognormal", f"{zeros:.0%} are zero, the others positive")
  if modes > 1:
    return proposal("gaussian_mixture", f"{modes} peaks")
  if (x > 0).all() and skewness > SKEW:
    of_log = _moment(np.log(x), 3)
    if abs(of_log) < 0.5 * skewness:
      why = f"positive, skewness {skewness:.1f}, of the logarithm {of_log:.1f}"
      return proposal("zero_inflated_lognormal", why)
  if abs(skewness) > SKEW or _moment(x, 4) > TAILS:
    why = f"one peak, skewness {skewness:.1f}, excess kurtosis {_moment(x, 4):.1f}"
    return proposal("gaussian_mixture", why)
  return proposal("mse", "one peak, nearly symmetric")


def peaks(values: np.ndarray) -> np.ndarray:
  """Positions of the separate peaks of a sample, (n,) -> (k,), by height.

  Of a histogram smoothed with Silverman's width, robust against tails; see `VALLEY`.
  """
  x = np.asarray(values, float)
  low, high = np.quantile(x, [0.001, 0.999])
  quartiles = np.subtract(*np.quantile(x, [0.75, 0.25]))
  spread = min(x.std(), quartiles / 1.349) if quartiles > 0 else x.std()
  width = 0.9 * spread * len(x) ** -0.2
  if not high > low or not width > 0:
    return np.array([np.median(x)])
  low, high = low - 3 * width, high + 3 * width
  counts, edges = np.histogram(x, _BINS, (low, high))
  centres = 0.5 * (edges[1:] + edges[:-1])
  reach = np.arange(-_BINS, _BINS + 1) * (edges[1] - edges[0]) / width
  density = np.convolve(counts, np.exp(-0.5 * reach**2), "full")
  density = density[_BINS : 2 * _BINS]
  inner = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
  found: list[int] = []
  for candidate in inner[np.argsort(-density[inner], kind="stable")]:
    between = [density[min(candidate, i) : max(candidate, i) + 1].min() for i in found]
    if density[candidate] > 0.05 * density.max() and all(
      valley < VALLEY * density[candidate] for valley in between
    ):
      found.append(int(candidate))
  return centres[found] if found else np.array([np.median(x)])


def fit_density(values: np.ndarray, likelihood: str, components: int = 5) -> Density:
  """The density of a likelihood with the parameters that describe a sample best.

  Of 'zero_inflated_lognormal' that of what is not zero, times its share; of 'categorical' the share
  of each value at that value.
  Raises: ValueError for a likelihood without such a fit ('cosine'), and as `propose_likelihood`.
  """
  x = _checked(values)
  match likelihood:
    case "mse":
      return _gaussians(np.ones(1), np.array([x.mean()]), np.array([max(x.std(), 1e-12)]))
    case "gaussian_mixture":
      return _gaussians(*_mixture(x, components))
    case "zero_inflated_lognormal":
      log = np.log(x[x > 0]) if (x > 0).any() else np.zeros(1)
      of_log = _gaussians(np.ones(1), np.array([log.mean()]), np.array([max(log.std(), 1e-6)]))
      share = float((x > 0).mean())

      def density(y: np.ndarray) -> np.ndarray:
        positive = np.where(y > 0, y, 1.0)
        return np.where(y > 0, share * of_log(np.log(positive)) / positive, 0.0)

      return density
    case "categorical":
      known, counts = np.unique(x, return_counts=True)

      def shares(y: np.ndarray) -> np.ndarray:
        place = np.clip(np.searchsorted(known, y), 0, len(known) - 1)
        return np.where(known[place] == y, counts[place] / len(x), 0.0)

      return shares
    case _:
      raise ValueError(f"no fit for the likelihood '{likelihood}'")


def _mixture(x: np.ndarray, components: int, steps: int = 100):
  """Weights, means and widths by expectation maximisation from equal parts of the sample."""
  sample = np.sort(x)[:: max(1, len(x) // 5000)]
  parts = np.array_split(sample, components)
  weight = np.full(components, 1 / components)
  mean = np.array([part.mean() for part in parts])
  smallest = 1e-3 * max(sample.std(), 1e-12)
  width = np.array([max(part.std(), smallest) for part in parts])
  for _ in range(steps):
    log_p = np.log(weight) - np.log(width) - 0.5 * ((sample[:, None] - mean) / width) ** 2
    log_p -= log_p.max(axis=1, keepdims=True)
    share = np.exp(log_p)
    share /= share.sum(axis=1, keepdims=True)
    total = share.sum(axis=0) + 1e-12
    weight, mean = total / total.sum(), (share * sample[:, None]).sum(axis=0) / total
    width = np.sqrt((share * (sample[:, None] - mean) ** 2).sum(axis=0) / total + smallest**2)
  return weight, mean, width


def _gaussians(weight: np.ndarray, mean: np.ndarray, width: np.ndarray) -> Density:
  def density(y: np.ndarray) -> np.ndarray:
    pull = (np.asarray(y, float)[..., None] - mean) / width
    return (weight * np.exp(-0.5 * pull**2) / (width * math.sqrt(2 * math.pi))).sum(axis=-1)

  return density


def _moment(x: np.ndarray, order: int) -> float:
  """Standardised central moment; of order 4 in excess of a Gaussian's."""
  if len(x) < 2 or not x.std() > 0:
    return 0.0
  return float(np.mean(((x - x.mean()) / x.std()) ** order) - (3 if order == 4 else 0))


def _checked(values: np.ndarray) -> np.ndarray:
  x = np.asarray(values, float).ravel()
  if len(x) < 100 or not np.isfinite(x).all():
    finite = int(np.isfinite(x).sum())
    raise ValueError(f"got {len(x)} values of which {finite} are finite, expected 100 finite ones")
  return x
