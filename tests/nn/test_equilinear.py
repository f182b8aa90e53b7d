"""EquiLinear commutes with the Lorentz group, and is lgatr's layer."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.nn import EquiLinear, grade_invariants
from tests.compiled import lorentz

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "lgatr_linear.npz"


def inputs(seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(7, 3, 16)), rng.normal(size=(7, 5))


def randomised(layer, *args):
  """Every parameter drawn at random: zero biases would hide broken rules."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(layer.init, jax.random.key(0), *args)
  return jax.tree.map(lambda x: rng.normal(size=x.shape), shapes)


def commutation_error(apply, transform, x):
  """max |f(L x) - L f(x)| over the size of the output, which must not be 0."""
  before = apply(lorentz.transform_multivectors(transform, x))
  after = np.asarray(lorentz.transform_multivectors(transform, apply(x)))
  size = np.abs(after).max()
  assert size > 1e-3
  return np.abs(before - after).max() / size


@pytest.mark.parametrize("scalars_out", [0, 2])
@pytest.mark.parametrize("scalars_in", [False, True])
@pytest.mark.parametrize("subgroup", [False, True])
def test_commutes_with_lorentz(x64, subgroup, scalars_in, scalars_out):
  layer = EquiLinear(4, scalars_out, subgroup)
  x, s = inputs()
  s = s if scalars_in else None
  variables = randomised(layer, x, s)
  apply = jax.jit(lambda x: layer.apply(variables, x, s))
  for seed in range(5):
    transform = lorentz.random_lorentz(
      jax.random.key(seed), max_rapidity=2.0, reflections=not subgroup
    )
    assert commutation_error(lambda x: apply(x)[0], transform, x) < 1e-10
    if scalars_out:
      moved = apply(lorentz.transform_multivectors(transform, x))[1]
      still = np.asarray(apply(x)[1])
      np.testing.assert_allclose(moved, still, rtol=1e-10, atol=1e-10)
      assert np.abs(still).max() > 1e-3


def test_ten_maps_break_reflections(x64):
  layer = EquiLinear(4, subgroup=True)
  x, _ = inputs()
  variables = randomised(layer, x)
  apply = jax.jit(lambda x: layer.apply(variables, x)[0])
  error = commutation_error(apply, lorentz.parity(), x)
  assert error > 0.1


def test_a_dense_layer_fails_the_same_check(x64):
  layer = nn.Dense(16)
  x, _ = inputs()
  variables = randomised(layer, x)
  transform = lorentz.boost(0.5, np.array([1.0, 0.0, 0.0]))
  apply = jax.jit(lambda x: layer.apply(variables, x))
  assert commutation_error(apply, transform, x) > 0.1


@pytest.mark.parametrize("scalars", ["none", "in", "out", "both"])
@pytest.mark.parametrize("group", ["full", "connected"])
def test_equals_lgatr(x64, group, scalars):
  """Bases are equal (tests/lorentz/test_lgatr_basis.py); weights are copied as they are, linear
  ones transposed, as PyTorch stores (out, in)."""
  with np.load(GOLDEN) as file:
    prefix = f"{group}_{scalars}/"
    case = {k.removeprefix(prefix): file[k] for k in file.files if k.startswith(prefix)}
  params: dict = {}
  for name, value in case.items():
    match name.removeprefix("params/").split("."):
      case [plain] if name.startswith("params/"):
        params[plain] = value
      case [module, "weight"]:
        params.setdefault(module, {})["kernel"] = value.T
      case [module, "bias"]:
        params.setdefault(module, {})["bias"] = value
  outputs = case["y_scalars"].shape[-1] if "y_scalars" in case else 0
  layer = EquiLinear(case["y"].shape[-2], outputs, subgroup=group == "connected")
  s = case.get("scalars")

  ours = jax.eval_shape(layer.init, jax.random.key(0), case["x"], s)["params"]
  assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, params)
  y, y_scalars = jax.jit(layer.apply)({"params": params}, case["x"], s)
  np.testing.assert_allclose(y, case["y"], rtol=1e-10, atol=1e-12)
  if outputs:
    np.testing.assert_allclose(y_scalars, case["y_scalars"], rtol=1e-10, atol=1e-12)
  else:
    assert y_scalars is None


def test_grade_invariants_do_not_change(x64):
  x, _ = inputs()
  invariants = jax.jit(grade_invariants)
  before = np.asarray(invariants(x))
  for seed in range(3):
    transform = lorentz.random_lorentz(jax.random.key(seed), max_rapidity=2.0, reflections=True)
    after = invariants(lorentz.transform_multivectors(transform, x))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)
  assert np.abs(before).min() > 1e-6


def test_computes_in_float32_for_lower_inputs():
  x = jnp.ones((2, 3, 16), jnp.bfloat16)
  y, _ = jax.eval_shape(EquiLinear(4).init_with_output, jax.random.key(0), x)[0]
  assert y.dtype == jnp.float32


def test_wrong_shapes_say_what_was_expected():
  with pytest.raises(ValueError, match=r"expected \(\.\.\., C, 16\)"):
    EquiLinear(4).init(jax.random.key(0), jnp.ones((2, 3, 15)))
  with pytest.raises(ValueError, match="do not belong"):
    EquiLinear(4).init(jax.random.key(0), jnp.ones((2, 3, 16)), jnp.ones((3, 5)))
