"""Blocks of a few kernels say what the model's own blocks say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from jetfm.inference.few_events import few_events, prepared
from jetfm.kernels.token_layers.api import FEW_TOKENS
from jetfm.nn import Pooling
from jetfm.tasks import PLAIN
from tests.inference.toy import make_events


def on_a_gpu():
  device = AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
  mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=device)
  return jax.sharding.use_abstract_mesh(mesh)


def applied(trained, variables):
  def run(batch):
    model = trained.model
    encoded = model.encode(variables, batch, deterministic=True)
    options = {"deterministic": True, "key": jax.random.key(0)}
    head = model.head("classification", variables, {PLAIN: encoded}, {PLAIN: batch}, **options)
    return encoded.tokens, head.output

  return run


def with_encoder(trained, **options):
  model = dataclasses.replace(trained.model, encoder=trained.model.encoder.clone(**options))
  return dataclasses.replace(trained, model=model)


def moved(variables):
  """So that no norm's scale is 1 and no bias is 0."""
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: x + np.float32(0.2) * rng.normal(size=x.shape).astype(x.dtype), variables["params"]
  )
  return {**variables, "params": params}


def kernels_of(program) -> int:
  return str(program.jaxpr).count("pallas_call")


def test_the_same_numbers(predictor):
  trained = with_encoder(predictor.trained, implementation="xla")
  variables = moved(trained.variables)
  events = make_events((14, 0, 5), 16)
  want = jax.jit(applied(trained, variables))(events)
  few = with_encoder(trained, token_implementation="interpret")
  with few_events("interpret"):
    program = jax.jit(applied(few, variables)).trace(events)
    got = program.lower().compile()(events)
  # Embedding, qkv and the rest of one block; query, keys, attention and the rest of a class block.
  assert kernels_of(program) == 2 + 2 + 4
  for y, z in zip(got, want, strict=True):
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-4)


def test_many_tokens_keep_their_blocks(predictor):
  trained = predictor.trained
  events = make_events((3,) * (FEW_TOKENS // 8 + 1), 8)
  with few_events("interpret"):
    program = jax.jit(applied(trained, trained.variables)).trace(events)
  assert kernels_of(program) == 0


def test_prepared_where_it_helps(predictor):
  trained = with_encoder(predictor.trained, dtype=jnp.bfloat16)
  assert prepared(trained, 1, 128) is None, "no GPU"
  with on_a_gpu():
    ready = prepared(trained, 1, 128)
    assert ready is not None
    encoder = ready.model.encoder
    assert encoder.implementation == encoder.token_implementation == "triton"
    assert ready.variables is trained.variables
    assert prepared(trained, FEW_TOKENS, 2) is None, "many events"
    assert prepared(trained, 1, 513) is None, "too many particles"
    assert prepared(with_encoder(trained, implementation="xla"), 1, 128) is None, "not wanted"
    assert prepared(with_encoder(trained, dtype=None), 1, 128) is None, "not in float32"


def lowered_kernels(function, *arrays):
  with on_a_gpu(), few_events():
    program = jax.jit(function).trace(*arrays)
    return program.lower(lowering_platforms=("cuda",)).as_text().count("@__gpu$xla.gpu.triton")


@pytest.mark.parametrize("length", [8, 64])
def test_a_whole_program_lowers_for_a_gpu(predictor, length):
  with on_a_gpu():
    ready = prepared(with_encoder(predictor.trained, dtype=jnp.bfloat16), 1, length)
  # The pair bias, and the block's attention, beside those above.
  made = lowered_kernels(applied(ready, ready.variables), make_events((3,), length))
  assert made == 2 + 1 + 3 + 4


@pytest.mark.parametrize("particles, heads, by_kernel", [(511, 2, 1), (512, 2, 0), (40, 1, 0)])
def test_class_attention_that_is_too_much_for_its_kernel(particles, heads, by_kernel):
  """One key more than particles, or a wide head: attention by XLA, the rest by kernels."""
  pooling = Pooling(layers=1, heads=heads)
  tokens, mask = jnp.ones((1, particles, 96), jnp.bfloat16), np.ones((1, particles), bool)
  variables = jax.eval_shape(pooling.init, jax.random.key(0), tokens, mask)
  assert lowered_kernels(pooling.apply, variables, tokens, mask) == 3 + by_kernel
