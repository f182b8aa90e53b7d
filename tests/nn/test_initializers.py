"""Initial values: one draw for all parameters, each with the distribution that it asks for."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jetfm.nn import initializers
from jetfm.nn.linear import Dense, Linear

KEY = jax.random.key(3)
X = jnp.ones((2, 50))


class Layers(nn.Module):
  """Parameters of all kinds, one of them made in a rematerialised layer."""

  heads: int = 1

  @nn.compact
  def __call__(self, x):
    x = nn.remat(Linear)(60, name="remat")(x)
    x = Dense(50, bias_init=initializers.normal(2.0), name="dense")(x)
    for head in range(self.heads):
      x = Linear(50, name=f"head_{head}")(x)
    token = self.param("token", initializers.truncated_normal(0.1), (1, 4000))
    return x.sum() + token.sum()


def init(key=KEY, **options):
  module = Layers(**options)
  return initializers.drawn_together(lambda: module.init(key, X)["params"], key)


def apart(key=KEY):
  return Layers().init(key, X)["params"]


@pytest.mark.parametrize("make", [init, apart])
def test_every_parameter_has_its_distribution(make):
  params = jax.tree.map(np.asarray, make())
  for kernel in (params["remat"]["kernel"], params["dense"]["kernel"]):
    deviation = len(kernel) ** -0.5
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.05)
    assert np.abs(kernel).max() <= 2 * deviation / initializers.WITHIN
  assert 0 < np.abs(params["token"]).max() <= 0.2
  np.testing.assert_allclose(params["token"].std(), 0.1 * initializers.WITHIN, rtol=0.05)
  np.testing.assert_allclose(params["dense"]["bias"].std(), 2, rtol=0.4)  # of 50 numbers
  np.testing.assert_array_equal(params["remat"]["bias"], 0)


def test_no_two_parameters_share_a_number():
  params = init(heads=3)
  drawn = np.concatenate([np.ravel(params[f"head_{i}"]["kernel"]) for i in range(3)])
  # Of 2^23 numbers that a draw can be, a few pairs of 7,500 meet by chance.
  assert len(drawn) - len(np.unique(drawn)) < 20


def test_values_belong_to_the_key_and_not_to_what_comes_after():
  made = init(), init(), init(heads=2), init(jax.random.key(4))
  one, again, more, other = jax.tree.map(np.asarray, made)
  jax.tree.map(np.testing.assert_array_equal, one, again)
  for name in ("remat", "dense", "head_0"):
    jax.tree.map(np.testing.assert_array_equal, one[name], more[name])
    assert (one[name]["kernel"] != other[name]["kernel"]).mean() > 0.99


def test_applying_a_model_takes_nothing():
  """Flax asks an initializer for its shape whenever a parameter is used."""
  module = Linear(50)

  def make(applied):
    def both():
      first = module.init(KEY, X)
      with initializers.drawn_apart():
        for _ in range(applied):
          module.apply(first, X)
      return first, module.init(KEY, X)

    return initializers.drawn_together(both, KEY)

  jax.tree.map(np.testing.assert_array_equal, make(applied=0), make(applied=2))


def test_a_program_draws_once_for_each_distribution():
  names = collections.Counter()

  def count(jaxpr):
    for equation in jaxpr.eqns:
      names[equation.primitive.name] += 1
      for inner in jaxprs_in_params(equation.params):
        count(inner)

  count(jax.make_jaxpr(init)(KEY).jaxpr)
  assert names["random_bits"] == 2
