"""Kernels on several devices: each takes its own events, and none is moved."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jetfm.kernels import pair_attention, pair_bias
from jetfm.kernels.token_layers import BlockDropout, normalised_linear, residual_mlp
from jetfm.kernels.token_layers.api import FEW_TOKENS
from tests.kernels.conftest import assert_close
from tests.kernels.test_pair_bias import momenta, weights
from tests.kernels.test_token_layers import numbers, residual_weights
from tests.processes import on_devices

DEVICES = 2


class Case:
  """A loss of all kernels, in Pallas' interpreter; made where JAX has several devices."""

  def __init__(self):
    rng = np.random.default_rng(0)
    n, heads = 6, 3
    q, k, v = (jnp.asarray(rng.normal(size=(4, n, heads, 8)), jnp.float32) for _ in range(3))
    p4 = jnp.asarray(momenta(np.float32, shape=(4, n)))
    mask = jnp.arange(n) < jnp.asarray([6, 2, 0, 3])[:, None]
    self.events = q, k, v, p4, mask
    of_pairs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), weights("part", widths=(8,)))
    self.weights = of_pairs, residual_weights(numbers(rng, "float32"), 8 * heads, 16)
    self.mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

  def gradient(self, dropout=None):
    """Of the weights and of q, k, v."""
    loss = functools.partial(self._loss, dropout=dropout)
    return jax.grad(loss, argnums=(0, 1, 2, 3))

  @staticmethod
  def _loss(w, q, k, v, p4, mask, dropout):
    of_pairs, of_tokens = w
    n, width = q.shape[1], q.shape[2] * q.shape[3]
    by_kernel = {"implementation": "interpret"}
    bias = pair_bias(p4, of_pairs, mask, **by_kernel)
    options = {"lengths": mask.sum(axis=1), **by_kernel}
    x, bias = pair_attention(q, k, v, bias, share_bias=True, **options)
    x = jnp.sin(pair_attention(x, k, v, bias, **options)).reshape(-1, n, width)
    y = residual_mlp(x, jnp.cos(x), of_tokens, dropout=dropout, **by_kernel)
    (y,) = normalised_linear(y, of_tokens.mlp_in, of_tokens.mlp_in_bias, **by_kernel)
    return jnp.sum(jnp.sin(y))


def check_mapped() -> None:
  """Devices take their events by `shard_map`: the gradients are those of one device."""
  case = Case()
  data, whole = PartitionSpec("data"), PartitionSpec()

  def of_own_events(w, *arrays):
    of_weights, *others = case.gradient()(w, *arrays)
    return jax.lax.psum(of_weights, "data"), *others

  mapped = jax.shard_map(
    of_own_events,
    mesh=case.mesh,
    in_specs=(whole, *[data] * 5),
    out_specs=(whole, *[data] * 3),
    check_vma=False,  # Pallas' interpreters do not keep track of it
  )
  alone = jax.jit(case.gradient())(case.weights, *case.events)
  assert_close(jax.jit(mapped)(case.weights, *case.events), alone, 1e-5)


def check_split() -> None:
  """The compiler splits arrays over devices: the gradients are those of one, nothing is moved."""
  case = Case()
  data, whole = (NamedSharding(case.mesh, PartitionSpec(*axes)) for axes in (["data"], []))
  # What is dropped depends on the place in the whole batch, which only the compiler knows.
  dropout = BlockDropout(0.3, jax.random.bits(jax.random.key(0), (3, 2), jnp.uint32))
  gradient = jax.jit(case.gradient(dropout))
  alone = gradient(case.weights, *case.events)
  split = jax.device_put(case.events, data)
  w = jax.device_put(case.weights, whole)
  compiled = gradient.lower(w, *split).compile()
  together = compiled(w, *split)
  assert_close(together, alone, 1e-5)
  assert together[1].sharding.spec[0] == "data"
  program = compiled.as_text()
  assert "all-gather" not in program
  assert "all-reduce" in program  # of the weights' gradients

  # So many tokens that a device with half of them alone would take smaller tiles.
  rng = np.random.default_rng(1)
  few = residual_weights(numbers(rng, "float32"), 8, 16)
  x = jnp.asarray(rng.normal(size=(4, 520, 8)), "bfloat16")
  assert x.size // 8 > FEW_TOKENS > x.size // 8 // DEVICES

  def of_many(x, weights):
    y = residual_mlp(x, jnp.cos(x), weights, implementation="interpret")
    return jnp.sum(y.astype("float32"))

  gradient = jax.jit(jax.grad(of_many, argnums=(0, 1)))
  alone = gradient(x, few)
  assert_close(gradient(jax.device_put(x, data), few), alone, 2e-2)


@pytest.mark.slow
def test_devices_that_map_events():
  on_devices(DEVICES, f"{__name__}:check_mapped")


def test_events_stay_on_their_devices():
  on_devices(DEVICES, f"{__name__}:check_split")
