"""The kinematic fit: laws of constrained least squares."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from jetfm.evals.selection import (
  TOTAL,
  chi2_probability,
  fit_four_momentum,
  join,
  tracks,
  unmeasured,
)
from jetfm.evals.selection.measured import PI0_MASS, PION_MASS, four_momenta, jacobian
from tests.evals.three_pions import measured_exactly, smeared, true_events


@pytest.fixture(scope="module")
def true():
  return measured_exactly(true_events(8000))


@pytest.fixture(scope="module")
def fitted(true):
  return fit_four_momentum(smeared(true))


def mass(p4):
  total = p4.sum(axis=1)
  return np.sqrt(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(axis=1))


def test_the_jacobian_is_the_derivative(true):
  step = 1e-6
  found = jacobian(true.value, true.mass, true.is_track)
  for k in range(3):
    moved = [true.value.copy(), true.value.copy()]
    moved[0][..., k] += step
    moved[1][..., k] -= step
    up, down = (four_momenta(x, true.mass, true.is_track) for x in moved)
    np.testing.assert_allclose(found[..., k], (up - down) / (2 * step), atol=1e-8)


def test_fitted_momenta_balance_and_stay_on_their_mass_shells(fitted):
  assert len(fitted.chi2) > 1000
  assert np.isfinite(fitted.chi2).all()
  np.testing.assert_allclose(fitted.p4.sum(axis=1) - TOTAL, 0, atol=1e-6)
  shells = fitted.p4[..., 0] ** 2 - (fitted.p4[..., 1:] ** 2).sum(axis=-1)
  np.testing.assert_allclose(shells[:, :2], PION_MASS**2, atol=1e-9)
  np.testing.assert_allclose(shells[:, 2:], 0, atol=1e-9)


def test_what_balances_already_is_not_moved(true):
  fit = fit_four_momentum(true)
  np.testing.assert_allclose(fit.chi2, 0, atol=1e-6)
  np.testing.assert_allclose(fit.p4, true.momenta(), atol=1e-6)


def test_chi2_of_true_events_has_four_degrees_of_freedom(fitted):
  assert stats.kstest(fitted.chi2, "chi2", args=(4,)).pvalue > 0.01
  assert stats.kstest(fitted.probability, "uniform").pvalue > 0.01


def test_pulls_are_standard_normal(fitted):
  error = 1 / np.sqrt(2 * len(fitted.pull))
  np.testing.assert_allclose(fitted.pull.std(axis=0), 1, atol=5 * error)
  np.testing.assert_allclose(fitted.pull.mean(axis=0), 0, atol=5 * np.sqrt(2) * error)


def test_the_fit_comes_nearer_to_the_truth(true, fitted):
  before = np.abs(smeared(true).momenta() - true.momenta()).mean(axis=(0, 1))
  after = np.abs(fitted.p4 - true.momenta()).mean(axis=(0, 1))
  assert (after < before).all()


def test_order_of_particles_and_of_events_does_not_matter(true):
  some = smeared(true.take(slice(0, 300)))
  fit = fit_four_momentum(some)
  order = [3, 0, 2, 1]
  turned = dataclasses.replace(
    some, **{f.name: getattr(some, f.name)[::-1, order] for f in dataclasses.fields(some)}
  )
  again = fit_four_momentum(turned)
  np.testing.assert_allclose(again.chi2[::-1], fit.chi2, rtol=1e-6)
  np.testing.assert_allclose(again.p4[::-1], fit.p4[:, order], atol=1e-6)


def test_larger_errors_lower_chi2_by_their_square(true):
  # To first order in the errors, with which the fit is linear.
  some = smeared(dataclasses.replace(true, sigma=true.sigma * 1e-3))
  wide = dataclasses.replace(some, sigma=2 * some.sigma)
  chi2, quarter = fit_four_momentum(some).chi2, fit_four_momentum(wide).chi2
  large = chi2 > 1
  np.testing.assert_allclose(chi2[large] / quarter[large], 4, rtol=0.01)


def test_the_mass_of_the_pair_is_a_fifth_constraint(true, fitted):
  five = fit_four_momentum(smeared(true), pair_mass=PI0_MASS)
  assert np.isfinite(five.chi2).mean() > 0.999
  good = np.isfinite(five.chi2)
  np.testing.assert_allclose(mass(five.p4[good, 2:]), PI0_MASS, atol=1e-6)
  np.testing.assert_allclose(five.p4[good].sum(axis=1) - TOTAL, 0, atol=1e-6)
  assert (five.chi2 > fitted.chi2 - 1e-4).all()
  assert stats.kstest(five.chi2[good], "chi2", args=(5,)).pvalue > 0.01


@pytest.mark.parametrize("lost", ["photon", "track"])
def test_a_lost_particle_is_found_and_takes_three_constraints(true, lost):
  smear = smeared(true)
  p4 = smear.momenta()
  columns = [0, 1, 2] if lost == "photon" else [1, 2, 3]
  seen = dataclasses.replace(
    smear, **{f.name: getattr(smear, f.name)[:, columns] for f in dataclasses.fields(smear)}
  )
  missing = (TOTAL - p4[:, columns].sum(axis=1))[:, None, 1:]
  if lost == "photon":
    measured, place = join(seen, unmeasured(missing, 0.0)), 3
  else:
    measured, place = join(unmeasured(missing, PION_MASS), seen), 0
  fit = fit_four_momentum(measured, pair_mass=PI0_MASS)
  good = np.isfinite(fit.chi2)
  assert good.mean() > 0.97
  off = np.linalg.norm((fit.p4 - true.momenta())[good, place, 1:], axis=1)
  size = np.linalg.norm(true.momenta()[good, place, 1:], axis=1)
  assert np.median(off / size) < 0.1
  # Two degrees of freedom; those whose errors are too large for a linear fit have no solution.
  assert abs(np.median(fit.chi2[good]) - stats.chi2(2).median()) < 0.15


def test_what_cannot_balance_has_no_finite_chi2():
  far = np.array([[[0.01, 0.2, 0.0], [0.0, 0.2, 0.1]]])  # 0.6 GeV of 3.1
  assert not fit_four_momentum(tracks(far)).chi2[0] < 1e3


def test_probability_is_that_of_scipy():
  x = np.linspace(0, 60, 50)
  np.testing.assert_allclose(chi2_probability(x), stats.chi2(4).sf(x), rtol=1e-9)


def test_an_error_of_zero_is_refused(true):
  bad = dataclasses.replace(true, sigma=0 * true.sigma)
  with pytest.raises(ValueError, match="expected > 0"):
    fit_four_momentum(bad)
