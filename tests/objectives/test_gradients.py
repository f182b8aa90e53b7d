"""Law: the gradient of every loss is its finite difference, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jetfm.lorentz import from_pt_eta_phi_e
from jetfm.objectives import (
  chamfer_distance,
  conservation_loss,
  cross_entropy,
  existence_cross_entropy,
  gaussian_kl,
  invariant_mass_loss,
  mass_residual_sums,
  mse_cosine_loss,
  regression_error,
  residual_sums,
  wasserstein_1d,
  with_free_bits,
)

B, N, K = 3, 5, 4
RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(B, N, 4))
PRED = RNG.normal(size=(B, N, 4))
MASK = np.arange(N) < np.array([5, 3, 1])[:, None]
WEIGHT = np.array([1.0, 0.3, 2.0])
LABEL = np.array([0, 3, 1])
LOW_MASK = np.arange(N) < np.array([4, 3, 2])[:, None]


def four_momenta(x):
  return from_pt_eta_phi_e(
    jnp.stack(
      [jnp.exp(x[..., 0] + 1), 0.3 * x[..., 1], 0.3 * x[..., 2], jnp.exp(x[..., 3] + 1.5)], -1
    )
  )


def invariant_mass(p4):
  visible = four_momenta(TRUE[:, 0])
  sums = mass_residual_sums(p4, four_momenta(TRUE), MASK, visible)
  return invariant_mass_loss(sums, WEIGHT)[0]


LOSSES = {
  "conservation": lambda x: conservation_loss(residual_sums(x, TRUE, MASK), WEIGHT)[0],
  "mse_cosine": lambda x: mse_cosine_loss(residual_sums(x, TRUE, MASK), WEIGHT)[0],
  "invariant_mass": lambda x: invariant_mass(four_momenta(x)),
  "cross_entropy": lambda x: cross_entropy(x[:, 0], LABEL).sum(),
  "label_smoothing": lambda x: cross_entropy(x[:, 0], LABEL, 0.1).sum(),
  "regression_mse": lambda x: regression_error(x, TRUE, "mse").sum(),
  "regression_mae": lambda x: regression_error(x, TRUE, "mae").sum(),
  "regression_huber": lambda x: regression_error(x, TRUE, "huber", 0.7).sum(),
  "gaussian_kl": lambda x: gaussian_kl(x[:, :2], x[:, 2:4]).sum(),
  "free_bits": lambda x: with_free_bits(gaussian_kl(x[:, 0], x[:, 1]).mean(axis=0), 0.2),
  "chamfer": lambda x: (chamfer_distance(x, TRUE, LOW_MASK, MASK) * WEIGHT).sum(),
  "wasserstein": lambda x: wasserstein_1d(x[..., 0], TRUE[..., 0], LOW_MASK, MASK).sum(),
  "existence": lambda x: existence_cross_entropy(x[..., 0], MASK).sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_finite_difference(x64, name):
  loss = jax.jit(LOSSES[name])
  check_grads(loss, (PRED,), order=1, atol=1e-6, rtol=1e-6, eps=1e-6)
  gradient = np.asarray(jax.grad(loss)(PRED))
  assert np.abs(gradient).max() > 1e-3, "the loss must depend on its input"


MASKED = {
  "conservation": LOSSES["conservation"],
  "mse_cosine": LOSSES["mse_cosine"],
  "invariant_mass": invariant_mass,
}


@pytest.mark.parametrize("name", MASKED)
def test_unselected_slots_have_no_gradient_even_if_nan(x64, name):
  gradient = jax.jit(jax.grad(MASKED[name]))
  clean, dirty = gradient(PRED), gradient(np.where(MASK[..., None], PRED, np.nan))
  np.testing.assert_array_equal(dirty, clean)
  assert not np.asarray(clean)[~MASK].any()


def test_set_losses_ignore_what_is_outside_the_masks(x64):
  @jax.jit
  @jax.value_and_grad
  def loss(a, b):
    distance = chamfer_distance(a, b, LOW_MASK, MASK)
    return (distance + wasserstein_1d(a[..., 0], b[..., 0], LOW_MASK, MASK)).sum()

  clean = loss(PRED, TRUE)
  dirty = loss(np.where(LOW_MASK[..., None], PRED, np.nan), np.where(MASK[..., None], TRUE, np.nan))
  jax.tree.map(np.testing.assert_array_equal, dirty, clean)
