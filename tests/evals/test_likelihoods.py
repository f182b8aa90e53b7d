"""Proposals for shapes that are known, and fits that are densities."""

import itertools

import numpy as np
import pytest

from jetfm.evals import plots
from jetfm.evals.likelihoods import fit_density, peaks, propose_likelihood
from jetfm.schema import LIKELIHOODS

RNG = np.random.default_rng(0)
N = 5000
BARREL = 94 * np.cos(RNG.uniform(0, 2 * np.pi, N)) + RNG.normal(0, 2, N)
"""A cylinder seen along one axis."""
SHAPES = {
  "mse": RNG.normal(3, 2, N),
  "gaussian_mixture": BARREL,
  "zero_inflated_lognormal": np.where(RNG.random(N) < 0.6, 0, RNG.lognormal(-2, 1.5, N)),
  "categorical": RNG.choice([-1.0, 1.0], N),
}
EACH = pytest.mark.parametrize("likelihood", SHAPES)


@EACH
def test_known_shapes(likelihood):
  proposal = propose_likelihood(SHAPES[likelihood])
  assert proposal.likelihood == likelihood, proposal
  assert proposal.likelihood in LIKELIHOODS


def test_tails_alone():
  """Energies are log-normal without a spike; what is skewed to the left is a mixture."""
  energy = RNG.lognormal(-1, 0.8, N)
  assert propose_likelihood(energy).likelihood == "zero_inflated_lognormal"
  assert propose_likelihood(-energy).likelihood == "gaussian_mixture"
  assert propose_likelihood(RNG.standard_t(3, N)).likelihood == "gaussian_mixture"


@pytest.mark.parametrize("at", ([0.0], [-2.0, 2.0], [-6.0, 0.0, 5.0]))
def test_peaks_are_found_where_they_are(at):
  found = peaks(np.concatenate([RNG.normal(x, 0.6, N) for x in at]))
  np.testing.assert_allclose(np.sort(found), at, atol=0.3)


@EACH
def test_fits_are_densities_of_the_sample(likelihood):
  x = SHAPES[likelihood]
  density = fit_density(x, likelihood)
  if likelihood == "categorical":
    assert density(np.unique(x)).sum() == pytest.approx(1)
    return
  log = likelihood == "zero_inflated_lognormal"
  grid = np.geomspace(1e-8, 1e4, 20_001) if log else np.linspace(-200, 200, 20_001)
  area = np.trapezoid(density(grid), grid)
  assert area == pytest.approx((x != 0).mean(), abs=2e-3)
  # Shares of the sample in each third of its range are those of the density.
  edges = np.quantile(x[x != 0], [0, 1 / 3, 2 / 3, 1])
  for low, high in itertools.pairwise(edges):
    inside = (grid >= low) & (grid <= high)
    assert np.trapezoid(density(grid[inside]), grid[inside]) == pytest.approx(area / 3, abs=0.08)


def test_too_few_or_broken_values_say_so():
  with pytest.raises(ValueError, match="expected 100"):
    propose_likelihood(np.zeros(3))
  with pytest.raises(ValueError, match="of which 99 are finite"):
    propose_likelihood(np.append(np.zeros(99), np.nan))


def test_figure():
  figure = plots.likelihood_figure(SHAPES | {"empty": np.zeros(0)}, {"mse": "gaussian_mixture"})
  titles = [ax.get_title() for ax in figure.axes]
  assert titles[0].startswith("gaussian_mixture") and titles[3].startswith("categorical")
  assert len(plots.png(figure)) > 10_000
