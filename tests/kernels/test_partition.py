"""Kernels on several devices: each takes its own events, and none is moved."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tests.kernels.conftest import assert_close
from tests.kernels.test_pair_bias import momenta, weights
from tests.kernels.test_token_layers import numbers, residual_weights
from tests.processes import on_devices

DEVICES = 2


def check() -> None:
  """Gradients of the kernels on all devices equal those on one; runs in a fresh process.

  The devices take their events by `shard_map`, or as the compiler splits arrays.
  """
  from jetfm.kernels import pair_attention, pair_bias
  from jetfm.kernels.token_layers import BlockDropout, normalised_linear, residual_mlp
  from jetfm.kernels.token_layers.api import FEW_TOKENS

  rng = np.random.default_rng(0)
  n, heads = 6, 3
  q, k, v = (jnp.asarray(rng.normal(size=(4, n, heads, 8)), jnp.float32) for _ in range(3))
  p4 = jnp.asarray(momenta(np.float32, shape=(4, n)))
  w = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), weights("part", widths=(8,)))
  mask = jnp.arange(n) < jnp.asarray([6, 2, 0, 3])[:, None]
  draw = numbers(rng, "float32")
  w = w, residual_weights(draw, 8 * heads, 16)
  dropout = BlockDropout(0.3, jax.random.bits(jax.random.key(0), (3, 2), jnp.uint32))

  def loss(w, q, k, v, p4, mask, dropout=None):
    of_pairs, of_tokens = w
    by_kernel = {"implementation": "interpret"}
    bias = pair_bias(p4, of_pairs, mask, **by_kernel)
    options = {"lengths": mask.sum(axis=1), **by_kernel}
    x, bias = pair_attention(q, k, v, bias, share_bias=True, **options)
    x = jnp.sin(pair_attention(x, k, v, bias, **options)).reshape(-1, n, 8 * heads)
    y = residual_mlp(x, jnp.cos(x), of_tokens, dropout=dropout, **by_kernel)
    (y,) = normalised_linear(y, of_tokens.mlp_in, of_tokens.mlp_in_bias, **by_kernel)
    return jnp.sum(jnp.sin(y))

  alone = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(w, q, k, v, p4, mask)
  mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  data, whole = PartitionSpec("data"), PartitionSpec()

  def of_own_events(w, *arrays):
    of_weights, *others = jax.grad(loss, argnums=(0, 1, 2, 3))(w, *arrays)
    return jax.lax.psum(of_weights, "data"), *others

  mapped = jax.shard_map(
    of_own_events,
    mesh=mesh,
    in_specs=(whole, *[data] * 5),
    out_specs=(whole, *[data] * 3),
    check_vma=False,  # Pallas' interpreters do not keep track of it
  )
  assert_close(jax.jit(mapped)(w, q, k, v, p4, mask), alone, 1e-5)

  split = [jax.device_put(x, NamedSharding(mesh, data)) for x in (q, k, v, p4, mask)]
  # What is dropped depends on the place in the whole batch, which only the compiler knows.
  gradient = jax.jit(jax.grad(functools.partial(loss, dropout=dropout), argnums=(0, 1, 2, 3)))
  alone = gradient(w, q, k, v, p4, mask)
  w = jax.device_put(w, NamedSharding(mesh, whole))
  compiled = gradient.lower(w, *split).compile()
  together = compiled(w, *split)
  assert_close(together, alone, 1e-5)
  assert together[1].sharding.spec[0] == "data"
  program = compiled.as_text()
  assert "all-gather" not in program
  assert "all-reduce" in program  # of the weights' gradients

  # So many tokens that a device with half of them alone would take smaller tiles.
  x, few = (jnp.asarray(rng.normal(size=(4, 520, 8)), "bfloat16"), residual_weights(draw, 8, 16))
  assert x.size // 8 > FEW_TOKENS > x.size // 8 // DEVICES

  def of_many(x, weights):
    y = residual_mlp(x, jnp.cos(x), weights, implementation="interpret")
    return jnp.sum(y.astype("float32"))

  gradient = jax.jit(jax.grad(of_many, argnums=(0, 1)))
  alone = gradient(x, few)
  assert_close(gradient(jax.device_put(x, NamedSharding(mesh, data)), few), alone, 2e-2)


def test_events_stay_on_their_devices():
  on_devices(DEVICES, f"{__name__}:check")
