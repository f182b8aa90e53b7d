"""Laws of the conservation loss, of its baseline and of the invariant mass term."""

import functools

import jax
import numpy as np
import pytest

from jetfm.objectives import (
  Conservation,
  conservation_loss,
  invariant_mass_loss,
  mass_residual_sums,
  mse_cosine_loss,
  residual_sums,
)
from tests.compiled import lorentz

B, N = 6, 9
RNG = np.random.default_rng(1)
TRUE = RNG.normal(size=(B, N, 4))
PRED = TRUE + RNG.normal(size=(B, N, 4))
SELECTED = RNG.random((B, N)) < 0.4
WEIGHT = RNG.uniform(0.5, 2.0, B)
COEF = Conservation(pt=2.0, eta=1.0, phi=0.5, energy=1.5, gamma=0.7)

BOTH = pytest.mark.parametrize("loss", [conservation_loss, mse_cosine_loss])


@functools.partial(jax.jit, static_argnames=("loss", "coef"))
def of_batch(loss, pred, true, selected, weight, coef):
  return loss(residual_sums(pred, true, selected), weight, coef)[0]


def value(loss, pred, true=TRUE, selected=SELECTED, weight=WEIGHT, coef=COEF):
  return float(of_batch(loss, pred, true, selected, weight, coef))


def test_equals_the_formula_over_all_particles_of_the_batch(x64):
  weight = np.broadcast_to(WEIGHT[:, None], SELECTED.shape)[SELECTED]
  pred, true = PRED[SELECTED], TRUE[SELECTED]

  def mean(x):
    return np.average(x, weights=weight)

  def rmse(column):
    return np.sqrt(mean((pred - true)[:, column] ** 2) + 1e-8)

  def bias(column):
    return abs(mean((pred - true)[:, column]))

  expected = (
    (2.0 * rmse(0) + 1.0 * mean(abs(pred - true)[:, 1]) + 1.5 * rmse(3)) / 5
    + 0.5 * mean(1 - np.cos(pred - true)[:, 2]) / 5
    + 0.7 * (bias(0) + bias(3))
  )
  assert value(conservation_loss, PRED) == pytest.approx(expected, rel=1e-13)


def test_root_is_taken_of_the_global_mean_not_of_each_event(x64):
  per_event = [
    value(
      conservation_loss, PRED[b : b + 1], TRUE[b : b + 1], SELECTED[b : b + 1], WEIGHT[b : b + 1]
    )
    for b in range(B)
  ]
  assert abs(np.mean(per_event) - value(conservation_loss, PRED)) > 1e-2


def test_floor_is_a_perfect_prediction(x64):
  floor = (2.0 + 1.5) / 5 * 1e-4
  assert value(conservation_loss, TRUE) == pytest.approx(floor, rel=1e-12)
  assert value(mse_cosine_loss, TRUE) == 0
  for loss in (conservation_loss, mse_cosine_loss):
    for column in range(4):
      off = TRUE + 0.01 * (np.arange(4) == column)
      assert value(loss, off) > value(loss, TRUE)


@BOTH
def test_phi_is_periodic(x64, loss):
  turns = 2 * np.pi * RNG.integers(-2, 3, size=(B, N, 1)) * (np.arange(4) == 2)
  assert value(loss, PRED + turns) == pytest.approx(value(loss, PRED), rel=1e-12)


@pytest.mark.parametrize("column", [0, 3])
def test_bias_penalty_moves_a_biased_prediction_and_leaves_an_unbiased_one(x64, column):
  selected = np.ones((2, 4), bool)
  true = np.zeros((2, 4, 4))
  spread = 0.25 * np.where(np.arange(8).reshape(2, 4) % 2, 1.0, -1.0)[..., None]
  spread = spread * (np.arange(4) == column)

  @jax.jit
  @jax.value_and_grad
  def pull(shift):
    """The penalty alone, and its gradient along a shift of all predictions."""
    moved = spread + shift * (np.arange(4) == column)
    sums = residual_sums(moved, true, selected)
    with_penalty, without = (
      conservation_loss(sums, np.ones(2), Conservation(gamma=g))[0] for g in (0.5, 0.0)
    )
    return with_penalty - without

  for offset in (0.2, -0.2):
    size, slope = map(float, pull(offset))
    assert size == pytest.approx(0.5 * 0.2) and slope == pytest.approx(0.5 * np.sign(offset))
  size, slope = map(float, pull(0.0))
  assert size == pytest.approx(0.0, abs=1e-15) and slope == pytest.approx(0.0, abs=1e-15)


def test_coefficients_count_relative_to_their_sum(x64):
  twice = Conservation(pt=4.0, eta=2.0, phi=1.0, energy=3.0, gamma=0.7)
  assert value(conservation_loss, PRED, coef=twice) == pytest.approx(
    value(conservation_loss, PRED), rel=1e-14
  )
  assert sum(COEF.normalised) == pytest.approx(1.0)


@pytest.mark.parametrize(
  "wrong", [{"pt": -1.0}, {"epsilon": 0.0}, dict.fromkeys(("pt", "eta", "phi", "energy"), 0.0)]
)
def test_impossible_coefficients_are_refused(wrong):
  with pytest.raises(ValueError, match="coefficients"):
    Conservation(**wrong)


@BOTH
def test_an_event_weighs_as_copies_of_it(x64, loss):
  copies = np.array([1, 2, 3, 1, 2, 1])
  repeated = [np.repeat(x, copies, axis=0) for x in (PRED, TRUE, SELECTED)]
  assert value(loss, *repeated, weight=np.ones(copies.sum())) == pytest.approx(
    value(loss, PRED, weight=copies.astype(float)), rel=1e-13
  )


@BOTH
def test_filler_changes_no_bit(loss):
  filler = np.full((2, N, 4), np.nan)
  with_filler = value(
    loss,
    np.concatenate([PRED, filler]),
    np.concatenate([TRUE, filler]),
    np.concatenate([SELECTED, np.ones((2, N), bool)]),
    np.concatenate([WEIGHT, np.zeros(2)]),
  )
  assert with_filler == value(loss, PRED)


@BOTH
def test_nothing_selected_is_finite(loss):
  assert np.isfinite(value(loss, PRED, selected=np.zeros((B, N), bool)))


# -- invariant mass ---------------------------------------------------------------------------

COORDINATES = np.stack(
  [RNG.uniform(1, 60, (B, N)), RNG.normal(0, 0.3, (B, N)), RNG.normal(0, 0.3, (B, N))], axis=-1
)


def momenta(coordinates, mass):
  pt, eta, phi = np.moveaxis(coordinates, -1, 0)
  energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
  return np.asarray(lorentz.from_pt_eta_phi_e(np.stack([pt, eta, phi, energy], axis=-1)))


@jax.jit
def mass_of_batch(pred, true, selected, visible, weight):
  return invariant_mass_loss(mass_residual_sums(pred, true, selected, visible), weight)


def mass_loss(pred, true, selected=SELECTED, weight=WEIGHT):
  visible = np.where(selected[..., None], 0, true).sum(axis=-2)
  return mass_of_batch(pred, true, selected, visible, weight)


def test_invariant_mass_vanishes_only_for_right_masses(x64):
  true = momenta(COORDINATES, 0.14)
  assert float(mass_loss(true, true)[0]) == 0
  _, heavier = mass_loss(momenta(COORDINATES, 3.0), true)
  assert float(heavier["particle_mass"]) == pytest.approx(
    np.arcsinh(1.0) - np.arcsinh(0.14**2 / 9), rel=1e-6
  )
  _, off_shell = mass_loss(true * np.array([0.9, 1.0, 1.0, 1.0]), true)
  assert float(off_shell["particle_mass"]) > 1


@pytest.mark.parametrize("seed", range(3))
def test_invariant_mass_is_lorentz_invariant(x64, seed):
  transform = lorentz.random_lorentz(jax.random.key(seed), 2.0, reflections=False)
  true, pred = momenta(COORDINATES, 0.14), momenta(COORDINATES + 0.1, 2.0)
  before = mass_loss(pred, true)
  after = mass_loss(*(lorentz.transform_vectors(transform, p4) for p4 in (pred, true)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), after, before)


def test_jet_mass_knows_the_sum_and_not_its_parts(x64):
  """Two selected particles that swap their momenta leave the completed jet as it was."""
  selected = np.zeros((B, N), bool)
  selected[:, :2] = True
  true = momenta(COORDINATES, 0.14)
  swapped, twice = true.copy(), true.copy()
  swapped[:, :2] = true[:, 1::-1]
  twice[:, 0] *= 2
  _, terms = mass_loss(swapped, true, selected)
  assert float(terms["jet_mass"]) == pytest.approx(0, abs=1e-12)
  _, terms = mass_loss(twice, true, selected)
  assert float(terms["jet_mass"]) > 1e-3


def test_invariant_mass_ignores_events_without_selected_particles(x64):
  true, pred = momenta(COORDINATES, 0.14), momenta(COORDINATES, 2.0)
  selected = SELECTED.copy()
  selected[3:] = False
  assert float(mass_loss(pred, true, selected)[0]) == pytest.approx(
    float(mass_loss(pred[:3], true[:3], selected[:3], WEIGHT[:3])[0]), rel=1e-14
  )
