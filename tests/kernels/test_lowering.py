"""Every kernel, forward and backward, becomes a program for a GPU and for a TPU, on any machine."""

import itertools
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from jetfm.kernels import PAIR_KINDS, PairBiasWeights, implementations, pair_attention, pair_bias
from jetfm.kernels.pair_attention.api import IMPLEMENTATIONS as ATTENTION
from jetfm.kernels.pair_bias.api import IMPLEMENTATIONS as BIAS
from jetfm.kernels.pallas import mosaic_gpu_call
from jetfm.kernels.token_layers import (
  BlockDropout,
  ResidualWeights,
  normalised_linear,
  residual_mlp,
)
from jetfm.kernels.token_layers.api import LINEAR, RESIDUAL

B, H = 4, 8
# platform of JAX's lowering -> of its device, a device, and how a kernel is called in the program
TARGETS = {
  "cuda": ("gpu", "NVIDIA H200", "__gpu$xla.gpu.triton"),
  "tpu": ("tpu", "TPU v5e", "tpu_custom_call"),
}
MOSAIC_GPU = "mosaic_gpu"
Shape = jax.ShapeDtypeStruct


def kernels_in(platform, function, *shapes, call=None) -> int:
  """How many kernels the program has when it is lowered for a platform."""
  name, kind, usual_call = TARGETS[platform]
  device = AbstractDevice(device_kind=kind, num_cores=None, platform=name)
  mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    lowered = jax.jit(function).trace(*shapes).lower(lowering_platforms=(platform,))
  return lowered.as_text().count(f"@{call or usual_call}")


def attention_shapes(n, dtype, width=16):
  q = Shape((B, n, H, width), dtype)
  return q, q, q, Shape((B, H, n, n), dtype), Shape((B,), jnp.int32)


def two_layers(implementation):
  def loss(q, k, v, bias, lengths):
    options = {"lengths": lengths, "implementation": implementation}
    x, bias = pair_attention(q, k, v, bias, share_bias=True, **options)
    return pair_attention(x, k, v, bias, **options).astype(jnp.float32).sum()

  return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))


@pytest.mark.parametrize("platform", TARGETS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("n, width", [(17, 8), (100, 12), (128, 16), (256, 32)])
def test_attention_lowers(platform, dtype, n, width):
  implementation = {"cuda": "triton"}.get(platform, platform)
  shapes = attention_shapes(n, dtype, width)
  assert kernels_in(platform, two_layers(implementation), *shapes) == 4


@pytest.mark.parametrize("platform", TARGETS)
def test_attention_without_bias_lowers(platform):
  q, *_ = attention_shapes(64, jnp.bfloat16)
  implementation = {"cuda": "triton"}.get(platform, platform)

  def loss(q):
    return pair_attention(q, q, q, implementation=implementation).astype(jnp.float32).sum()

  assert kernels_in(platform, jax.value_and_grad(loss), q) == 2


@pytest.mark.parametrize(
  "n, width, dtype",
  [(17, 8, "float16"), (48, 20, "bfloat16"), (128, 16, "bfloat16"), (512, 64, "bfloat16")],
)
def test_attention_by_mosaic_gpu_lowers(n, width, dtype):
  shapes = attention_shapes(n, dtype, width)
  assert kernels_in("cuda", two_layers("mosaic_gpu"), *shapes, call=MOSAIC_GPU) == 4


def test_attention_without_bias_by_mosaic_gpu_lowers():
  q, *_ = attention_shapes(64, jnp.bfloat16)

  def loss(q):
    return pair_attention(q, q, q, implementation="mosaic_gpu").astype(jnp.float32).sum()

  assert kernels_in("cuda", jax.value_and_grad(loss), q, call=MOSAIC_GPU) == 2


TRANSFORMATIONS = {
  "checkpoint": lambda loss: jax.grad(jax.checkpoint(loss)),
  "vmap": lambda loss: jax.vmap(jax.grad(loss)),
  "shard_map": lambda loss: (
    lambda *arrays: jax.shard_map(
      jax.grad(loss),
      in_specs=jax.sharding.PartitionSpec("data"),
      out_specs=jax.sharding.PartitionSpec("data"),
      check_vma=False,  # Mosaic GPU cannot change in place what it keeps track of
    )(*arrays)
  ),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformed_attention_by_mosaic_gpu_lowers(name):
  def loss(q, k, v, bias):
    x, bias = pair_attention(q, k, v, bias, share_bias=True, implementation="mosaic_gpu")
    return pair_attention(x, k, v, bias, implementation="mosaic_gpu").astype(jnp.float32).sum()

  *shapes, _ = attention_shapes(64, jnp.bfloat16)
  if name == "vmap":
    shapes = [Shape((3, *x.shape), x.dtype) for x in shapes]
  assert kernels_in("cuda", TRANSFORMATIONS[name](loss), *shapes, call=MOSAIC_GPU) == 4


def test_what_mosaic_gpu_changes_in_place_is_no_effect_of_the_program():
  """The compiler cannot split a program with effects over devices."""

  def kernel(given, changed_ref, made_ref):
    del given
    made_ref[...] = changed_ref[...]

  shape = Shape((128,), jnp.float32)
  call = mosaic_gpu_call(
    kernel, name="copy", grid={"event": 1}, out_shape=(shape,) * 2, scratch={}, aliases={0: 0}
  )
  assert not jax.make_jaxpr(call)(shape).effects


@pytest.mark.parametrize("checked, call", [(True, TARGETS["cuda"][2]), (False, MOSAIC_GPU)])
def test_none_takes_what_works_inside_a_shard_map(checked, call):
  def loss(*arrays):
    return pair_attention(*arrays).astype(jnp.float32).sum()

  def program(*arrays):
    split = jax.sharding.PartitionSpec("data")
    gradient = jax.grad(loss, argnums=(0, 3))
    return jax.shard_map(gradient, in_specs=split, out_specs=split, check_vma=checked)(*arrays)

  *shapes, _ = attention_shapes(64, jnp.bfloat16)
  assert kernels_in("cuda", program, *shapes, call=call) == 2


def test_mosaic_gpu_knows_its_gpus(monkeypatch):
  monkeypatch.setitem(TARGETS, "cuda", ("gpu", "NVIDIA A100", ""))
  with pytest.raises(NotImplementedError, match=r"runs on H100 .* for 'NVIDIA A100'"):
    kernels_in("cuda", two_layers("mosaic_gpu"), *attention_shapes(64, jnp.bfloat16))


def test_none_takes_mosaic_gpu_where_jax_has_no_triton(monkeypatch):
  monkeypatch.setitem(sys.modules, "jetfm.kernels.pair_attention.triton", None)
  half, single = (attention_shapes(64, dtype) for dtype in ("bfloat16", "float32"))
  assert kernels_in("cuda", two_layers(None), *half, call=MOSAIC_GPU) == 4
  assert kernels_in("cuda", two_layers(None), *single, call=MOSAIC_GPU) == 0
  monkeypatch.setitem(TARGETS, "cuda", ("gpu", "NVIDIA A100", ""))
  assert kernels_in("cuda", two_layers(None), *half, call=MOSAIC_GPU) == 0


def bias_shapes(n, kind, widths):
  sizes = (len(PAIR_KINDS[kind].mean), *widths, H)
  f32 = jnp.float32
  weights = PairBiasWeights(
    kernels=tuple(Shape(pair, f32) for pair in itertools.pairwise(sizes)),
    biases=tuple(Shape((size,), f32) for size in sizes[1:]),
    scales=tuple(Shape((size,), f32) for size in sizes[1:-1]),
    hidden=Shape((H,), f32),
  )
  flags = Shape((B, n), bool)
  return weights, Shape((B, n, 4), f32), flags, flags


def bias_loss(implementation, kind, dtype):
  def loss(weights, p4, mask, hidden):
    bias = pair_bias(
      p4, weights, mask, hidden, kind=kind, dtype=dtype, implementation=implementation
    )
    return bias.astype(jnp.float32).sum()

  return jax.value_and_grad(loss)


@pytest.mark.parametrize("platform", TARGETS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
  "n, kind, widths",
  [
    (17, "part", (64, 64, 64)),
    (128, "part", (64, 64, 64)),
    (128, "lorentz_part", (64, 64, 64)),
    (100, "invariant", (24,)),
    (64, "event", (32, 32)),
    (40, "part", ()),
  ],
)
def test_bias_lowers(platform, dtype, n, kind, widths):
  implementation = {"cuda": "triton"}.get(platform, platform)
  shapes = bias_shapes(n, kind, widths)
  assert kernels_in(platform, bias_loss(implementation, kind, dtype), *shapes) == 2


def in_shard_map(loss):
  """Gradient of the first argument, which all devices have alike; the others count events.

  Without the value: of a sum, the last forward kernel is not needed.
  """
  whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")

  def program(weights, *events):
    specs = (whole, *(split for _ in events))
    return jax.shard_map(jax.grad(loss), in_specs=specs, out_specs=whole)(weights, *events)

  return program


def test_bias_has_gradients_inside_a_shard_map_that_checks():
  def loss(weights, p4, mask, hidden):
    return pair_bias(p4, weights, mask, hidden, dtype=jnp.bfloat16).astype(jnp.float32).sum()

  assert kernels_in("cuda", in_shard_map(loss), *bias_shapes(64, "part", (64,))) == 1


@pytest.mark.parametrize("platform", TARGETS)
def test_gradients_of_momenta_lower(platform):
  """With those of the weights, also inside a shard_map that checks."""

  def gradients(weights, p4, mask, hidden):
    def loss(weights, p4):
      return pair_bias(p4, weights, mask, hidden, dtype=jnp.bfloat16).astype(jnp.float32).sum()

    return jax.grad(loss, (0, 1))(weights, p4)

  shapes = bias_shapes(64, "part", (64,))
  assert kernels_in(platform, gradients, *shapes) == 1  # of a sum, the bias is not needed
  whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")
  specs = {"in_specs": (whole, split, split, split), "out_specs": (whole, split)}
  mapped = lambda *arrays: jax.shard_map(gradients, **specs)(*arrays)  # noqa: E731
  assert kernels_in(platform, mapped, *shapes) == 1


def test_token_layers_have_gradients_inside_a_shard_map_that_checks():
  width, hidden, words = 32, 48, jnp.zeros((3, 2), jnp.uint32)

  def loss(weights, x):
    linear, residual = weights
    q, _ = normalised_linear(x, *linear, parts=2, dtype=x.dtype, implementation=None)
    y = residual_mlp(x, q, residual, dropout=BlockDropout(0.1, words), implementation=None)
    return y.astype(jnp.float32).sum()

  def of(*shape):
    return Shape(shape, jnp.float32)

  vector = of(width)
  linear = of(width, 2 * width), of(2 * width)
  residual = ResidualWeights(
    of(width, width), vector, vector, vector, of(width, hidden), of(hidden), of(hidden, width),
    vector, vector,
  )  # fmt: skip
  x = Shape((B, 40, width), jnp.bfloat16)
  assert kernels_in("cuda", in_shard_map(loss), (linear, residual), x) == 1 + 3


def test_no_event_needs_no_kernel():
  weights, *events = bias_shapes(64, "part", (64,))
  none = [Shape((0, *x.shape[1:]), x.dtype) for x in events]
  assert kernels_in("cuda", bias_loss(None, "part", jnp.bfloat16), weights, *none) == 0
  none = [Shape((0, *x.shape[1:]), x.dtype) for x in attention_shapes(64, jnp.bfloat16)]
  assert kernels_in("cuda", two_layers(None), *none) == 0


def test_the_most_particles_lower():
  shapes = attention_shapes(512, jnp.bfloat16, 64)
  assert kernels_in("cuda", two_layers("triton"), *shapes) == 4
  for platform, name in (("cuda", "triton"), ("tpu", "tpu")):
    loss = bias_loss(name, "part", jnp.bfloat16)
    assert kernels_in(platform, loss, *bias_shapes(512, "part", (64,))) == 2


@pytest.mark.parametrize("platform", TARGETS)
def test_none_takes_the_kernel_of_the_platform_where_it_can(platform):
  attention, shapes = two_layers(None), attention_shapes(64, jnp.float32)
  assert kernels_in(platform, attention, *shapes) == 4
  assert kernels_in(platform, attention, *attention_shapes(32, jnp.float32)) == 0
  assert kernels_in(platform, attention, *attention_shapes(600, jnp.float32)) == 0
  assert kernels_in(platform, attention, *attention_shapes(64, jnp.float32, 72)) == 0
  bias = bias_loss(None, "part", None)
  assert kernels_in(platform, bias, *bias_shapes(64, "part", (64,))) == 2
  for n, widths in ((32, (64,)), (600, (8,)), (64, (136,))):
    assert kernels_in(platform, bias, *bias_shapes(n, "part", widths)) == 0
  # The same trace lowers for another machine, without kernels.
  name, kind, call = TARGETS[platform]
  device = AbstractDevice(device_kind=kind, num_cores=None, platform=name)
  mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    lowered = jax.jit(attention).trace(*shapes).lower(lowering_platforms=("cpu",))
  assert f"@{call}" not in lowered.as_text()


def test_named_kernels_know_the_target():
  """Asking for a GPU's kernel in a program for a TPU is an error, said when it is traced."""
  with pytest.raises(NotImplementedError, match="this program is for 'tpu'"):
    kernels_in("tpu", two_layers("triton"), *attention_shapes(64, jnp.float32))


@pytest.mark.parametrize("kernels", [ATTENTION, BIAS, LINEAR, RESIDUAL])
@pytest.mark.parametrize("capability, able", [("7.5", False), ("8.0", True), ("gfx942", True)])
def test_nvidia_gpus_that_xla_compiles_no_triton_for_are_refused(
  monkeypatch, kernels, capability, able
):
  monkeypatch.setattr(implementations, "target_platform", lambda: "gpu")
  gpu = SimpleNamespace(compute_capability=capability)
  monkeypatch.setattr(jax, "devices", lambda: [gpu])
  call = {"particles": 64, "dtypes": (jnp.float32,), "width": 16}
  assert implementations.can_run(kernels["triton"], call) == able
  if not able:
    with pytest.raises(NotImplementedError, match="needs the compute capability"):
      implementations.by_name("attention", "triton", kernels, **call)
