"""How well generated particles agree with true ones, floors, and trivial generators.

Jets are padded: coordinates (B, N, 4) = pT (GeV), eta, phi (rad), E (GeV) and mask (B, N); a metric
sees particles, each with the weight of its jet. Histograms of chunks add once edges are fixed; MMD
sees `MMD_PARTICLES` particles, whatever the data.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jetfm.evals.metrics.distances import mmd_rbf
from jetfm.evals.metrics.histograms import (
  equiprobable_edges,
  histogram_mse,
  joint_edges,
  kl_divergence,
)
from jetfm.evals.metrics.histograms import probabilities as histogram
from jetfm.evals.metrics.measurement import UndefinedMetric
from jetfm.evals.metrics.weighting import counted, event_weights, random_halves

MMD_PARTICLES = 5_000
BINS = 50


@dataclasses.dataclass(frozen=True)
class Particles:
  """Particles of a sample of jets: values (M, F) and the weight of each (M,)."""

  values: np.ndarray
  weight: np.ndarray


def flat_particles(
  coordinates: np.ndarray, mask: np.ndarray, weight: np.ndarray | None = None
) -> Particles:
  """(B, N, F), (B, N), jet weights (B,) -> the particles that exist, in jets of positive weight.

  Raises: UndefinedMetric when there is none.
  """
  weight, coordinates, mask = counted(weight, coordinates, mask)
  mask = mask.astype(bool)
  if not mask.any():
    raise UndefinedMetric("a sample without any particle")
  return Particles(coordinates[mask], np.broadcast_to(weight[:, None], mask.shape)[mask])


def choose(particles: Particles, size: int, *, seed: int = 0) -> Particles:
  """`size` particles at random without repetition, with their weights; all when there are fewer."""
  if len(particles.weight) <= size:
    return particles
  rows = np.random.default_rng(seed).choice(len(particles.weight), size, replace=False)
  return Particles(particles.values[rows], particles.weight[rows])


def generation_mmd(
  true: Particles, generated: Particles, *, size: int = MMD_PARTICLES, seed: int = 0
) -> float:
  """MMD (RBF, sigma 1, biased, floored at 0) of `size` particles of each, standardised.

  Mean and standard deviation per feature are those of all true particles.
  """
  total = true.weight.sum()
  mean = true.weight @ true.values / total
  std = np.sqrt(true.weight @ (true.values - mean) ** 2 / total)
  std = np.where(std > 0, std, 1.0)
  x, y = choose(true, size, seed=seed), choose(generated, size, seed=seed + 1)
  return mmd_rbf(
    (x.values - mean) / std, (y.values - mean) / std, x_weight=x.weight, y_weight=y.weight
  )


def _joint_histograms(
  true: Particles, generated: Particles, feature: int
) -> tuple[np.ndarray, np.ndarray]:
  x, y = true.values[:, feature], generated.values[:, feature]
  edges = joint_edges(x, y, BINS)
  return histogram(x, edges, true.weight), histogram(y, edges, generated.weight)


def generation_kl(true: Particles, generated: Particles, feature: int = 0) -> float:
  """KL(true || generated) of one feature's histogram, pT by default, in nats.

  50 bins over the joint range, 1e-10 added to each bin's probability. A single generated particle
  far outside the true range widens all bins, and may take this below the floor of two true samples:
  `generation_kl_equiprobable` has no such bins.
  """
  return kl_divergence(*_joint_histograms(true, generated, feature))


def generation_kl_equiprobable(true: Particles, generated: Particles, feature: int = 0) -> float:
  """As `generation_kl`, in 50 bins that hold equal weights of the true sample.

  The outer ones have no end: the bins are the same whatever was generated.
  """
  x, y = true.values[:, feature], generated.values[:, feature]
  if not np.isfinite(y).all():
    raise UndefinedMetric("a sample holds values that are not finite")
  edges = equiprobable_edges(x, true.weight, BINS)
  return kl_divergence(histogram(x, edges, true.weight), histogram(y, edges, generated.weight))


def generation_histogram_mse(true: Particles, generated: Particles) -> float:
  """Mean squared difference of normalised 50-bin histograms, averaged over the features.

  Bins are those of `generation_kl`, as easily widened.
  """
  features = range(true.values.shape[1])
  return float(np.mean([histogram_mse(*_joint_histograms(true, generated, f)) for f in features]))


def split_jets(
  *arrays: np.ndarray, seed: int = 0
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
  """Arrays (B, ...) -> the same of two disjoint random halves of the jets, for floors.

  A metric between the halves is what perfect generation reaches with half the jets; with all of
  them it would be lower still.
  """
  first, second = random_halves(len(arrays[0]), seed=seed)
  return tuple(np.asarray(a)[first] for a in arrays), tuple(np.asarray(a)[second] for a in arrays)


def histogram_sampling_baseline(
  coordinates: np.ndarray,
  mask: np.ndarray,
  label: np.ndarray,
  weight: np.ndarray | None = None,
  *,
  like: np.ndarray | None = None,
  bins: int = BINS,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Jets whose multiplicity and features are drawn from histograms of their class, independently.

  Shapes: (B, N, F), (B, N), (B,) of the training sample; `like` (B',) are the classes wanted, the
  training labels by default -> coordinates (B', N, F), mask (B', N). What this reaches needs no
  correlation between features, nor between particles.
  Raises: ValueError for a wanted class that the training sample lacks.
  """
  coordinates, mask, label = (np.asarray(a) for a in (coordinates, mask, label))
  weight = event_weights(weight, len(label))
  like = label if like is None else np.asarray(like)
  missing = sorted(set(like.tolist()) - set(label[weight > 0].tolist()))
  if missing:
    raise ValueError(f"no training jet of class {missing}: cannot sample its histograms")
  rng = np.random.default_rng(seed)
  num_slots = mask.shape[1]
  out = np.zeros((len(like), *coordinates.shape[1:]))
  out_mask = np.zeros((len(like), num_slots), bool)
  for c in np.unique(like):
    train, wanted = np.flatnonzero(label == c), np.flatnonzero(like == c)
    counts = np.bincount(mask[train].sum(axis=1), weights=weight[train], minlength=num_slots + 1)
    number = rng.choice(num_slots + 1, len(wanted), p=counts / counts.sum())
    slots = np.arange(num_slots) < number[:, None]
    particles = flat_particles(coordinates[train], mask[train], weight[train])
    drawn = np.zeros((slots.sum(), coordinates.shape[-1]))
    for f in range(coordinates.shape[-1]):
      x = particles.values[:, f]
      edges = joint_edges(x, x, bins)
      which = rng.choice(bins, len(drawn), p=histogram(x, edges, particles.weight))
      drawn[:, f] = rng.uniform(edges[which], edges[which + 1])
    block = np.zeros((len(wanted), *coordinates.shape[1:]))
    block[slots] = drawn
    out[wanted], out_mask[wanted] = block, slots
  return out, out_mask


def gaussian_baseline(particles: Particles, size: int, *, seed: int = 0) -> Particles:
  """`size` particles from a Gaussian with the mean and covariance of a sample, of weight 1."""
  mean = np.average(particles.values, axis=0, weights=particles.weight)
  covariance = np.atleast_2d(np.cov(particles.values, rowvar=False, aweights=particles.weight))
  values = np.random.default_rng(seed).multivariate_normal(mean, covariance, size)
  return Particles(values, np.ones(size))
