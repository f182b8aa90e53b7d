"""The pair bias: every implementation keeps the contract of its docstring."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm import lorentz
from jetfm.kernels import PAIR_KINDS, PairBiasWeights, pair_bias
from jetfm.kernels.pair_bias import chunked
from jetfm.kernels.pair_bias import momenta as of_momenta
from jetfm.kernels.pair_bias.triton import Options
from jetfm.kernels.pair_bias.triton_work import Share, Tile
from tests.kernels.conftest import KERNELS, PLAIN, assert_close

B, N, H, WIDTH = 2, 5, 3, 8
MASK = np.arange(N) < np.array([5, 3])[:, None]
BOTH = MASK[:, :, None] & MASK[:, None, :]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
  # Several tiles of an event, several chunks of tiles, the last ones not full.
  monkeypatch.setattr(chunked, "TILE", 4)
  monkeypatch.setattr(chunked, "CHUNK", 3)


@pytest.fixture(params=list(PAIR_KINDS))
def kind(request):
  return request.param


def momenta(dtype=np.float64, seed=0, shape=(B, N)):
  rng = np.random.default_rng(seed)
  p3 = rng.normal(size=(*shape, 3)) * 5 + [20, 0, 5]
  energy = np.sqrt((p3**2).sum(axis=-1, keepdims=True) + 0.3)
  return np.concatenate([energy, p3], axis=-1).astype(dtype)


def heavy_momenta(dtype, shape, seed=0):
  """Masses of the order of the momenta, all directions: m2 of a pair loses no digits."""
  rng = np.random.default_rng(seed)
  p3 = rng.normal(size=(*shape, 3)) * 5
  energy = np.sqrt((p3**2).sum(axis=-1, keepdims=True) + rng.uniform(1, 9, (*shape, 1)))
  return np.concatenate([energy, p3], axis=-1).astype(dtype)


def weights(kind, seed=0, widths=(WIDTH, WIDTH)):
  rng = np.random.default_rng(seed)
  sizes = (len(PAIR_KINDS[kind].mean), *widths, H)
  return PairBiasWeights(
    kernels=tuple(rng.normal(size=(a, b)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)),
    biases=tuple(rng.normal(size=b) for b in sizes[1:]),
    scales=tuple(rng.uniform(0.5, 2, size=b) for b in sizes[1:-1]),
    hidden=rng.normal(size=H),
  )


OPTIONS = ("kind", "dtype", "activation", "implementation")
bias_of = jax.jit(pair_bias, static_argnames=OPTIONS)


@functools.partial(jax.jit, static_argnames=("kind", "activation"))
def by_definition(p4, w, kind, activation=jax.nn.gelu):
  """The equation of the contract, (B, H, N, N), without triangles or folded constants."""
  mean, std, columns = (np.array(getattr(PAIR_KINDS[kind], x)) for x in ("mean", "std", "columns"))
  x = (lorentz.pair_features(p4, PAIR_KINDS[kind].source)[..., columns] - mean) / std
  for layer, (kernel, bias) in enumerate(zip(w.kernels[:-1], w.biases[:-1], strict=True)):
    x = x @ kernel + bias
    if w.scales:
      x = w.scales[layer] * x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    x = activation(x)
  return jnp.moveaxis(x @ w.kernels[-1] + w.biases[-1], -1, 1)


COTANGENT = np.random.default_rng(1).normal(size=(B, H, N, N)) * BOTH[:, None]


def of_weights(function, w):
  """A number made of a bias by random factors, and its gradient."""
  return jax.jit(jax.value_and_grad(lambda w: (function(w) * COTANGENT).sum()))(w)


@functools.cache  # for all implementations
def of_definition(kind, activation="gelu", norm=True):
  w = weights(kind)
  w = w if norm else w._replace(scales=())
  function = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}[activation]
  return of_weights(lambda w: by_definition(momenta(), w, kind, function), w)


def test_equals_the_definition(x64, kind, implementation):
  p4, w = momenta(), weights(kind)
  ours = np.asarray(bias_of(p4, w, MASK, kind=kind, implementation=implementation))
  theirs = np.asarray(by_definition(p4, w, kind))
  pairs = np.broadcast_to(BOTH[:, None], theirs.shape)
  np.testing.assert_allclose(ours[pairs], theirs[pairs], rtol=1e-10, atol=1e-12)
  assert np.isfinite(ours).all()


def assert_near(ours, theirs):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), ours, theirs)


def test_gradients_equal_those_of_the_definition(x64, kind, implementation):
  def bias(w):
    return pair_bias(momenta(), w, MASK, kind=kind, implementation=implementation)

  assert_near(of_weights(bias, weights(kind)), of_definition(kind))


@pytest.mark.parametrize(
  "activation, norm",
  [
    ("relu", False),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("relu", True), ("gelu", False))),
  ],
)
def test_other_networks_equal_their_definition(x64, every_implementation, activation, norm):
  w = weights("part") if norm else weights("part")._replace(scales=())

  def bias(w):
    options = {"activation": activation, "implementation": every_implementation}
    return pair_bias(momenta(), w, MASK, kind="part", **options)

  assert_near(of_weights(bias, w), of_definition("part", activation, norm))


def test_an_activation_that_does_not_exist_and_scales_too_few():
  p4, w = momenta(np.float32), weights("part")
  with pytest.raises(ValueError, match=r"no activation 'geluu'; the nearest is 'gelu'"):
    pair_bias(p4, w, MASK, activation="geluu")
  with pytest.raises(ValueError, match=r"1 scales for 2 hidden layers"):
    pair_bias(p4, w._replace(scales=w.scales[:1]), MASK)


def weighed(p4, w, hidden=None, **options):
  """A number made of the biases of real pairs by random factors."""
  return (pair_bias(p4, w, MASK, hidden, **options) * COTANGENT).sum()


@pytest.mark.slow
@pytest.mark.parametrize("implementation", PLAIN)
def test_gradient_of_the_momenta_is_the_finite_difference(x64, kind, implementation, monkeypatch):
  """Of visible particles; none reaches hidden and padded ones, which may hold anything.

  Whatever is not 'xla' has the same gradient.
  """
  monkeypatch.setattr(of_momenta, "PAIRS", 3 * N**2 // 2)  # an event at a time
  p4, w, hidden = momenta(), weights(kind), np.zeros((B, N), bool)
  hidden[:, 1] = True
  visible = (MASK & ~hidden)[..., None]
  direction = np.random.default_rng(3).normal(size=p4.shape) * visible
  p4 = np.where(visible, p4, np.nan)
  options = {"kind": kind, "implementation": implementation}
  value = jax.jit(lambda p4: weighed(p4, w, hidden, **options))
  gradient = np.asarray(jax.jit(jax.grad(lambda p4: weighed(p4, w, hidden, **options)))(p4))
  step = 1e-6
  difference = (value(p4 + step * direction) - value(p4 - step * direction)) / (2 * step)
  assert (gradient * direction)[visible[..., 0]].sum() == pytest.approx(float(difference), rel=1e-6)
  np.testing.assert_array_equal(gradient[~visible[..., 0]], 0)


@pytest.mark.slow
def test_rounding_has_no_gradient(x64):
  """Massless particles, two of one direction, as in published jets: in float32 as if exact."""
  rng = np.random.default_rng(0)
  p3 = rng.normal(size=(B, N, 3)) * 10 + [100, 0, 20]
  p3[:, 1] = 1.3 * p3[:, 0]
  p4 = np.concatenate([np.linalg.norm(p3, axis=-1, keepdims=True), p3], axis=-1)
  gradient = jax.jit(jax.grad(lambda p4, w: weighed(p4, w)))
  narrow = jax.tree.map(np.float32, (p4, weights("part")))
  wanted = gradient(p4, weights("part"))
  got = np.asarray(gradient(*narrow))
  np.testing.assert_allclose(got, wanted, rtol=0.05, atol=0.05 * np.abs(wanted).max())


@pytest.mark.parametrize("within", ["jit", "checkpoint", "scan"])
def test_a_program_that_needs_no_gradient_of_momenta_has_none(within):
  """Training pays for none of it."""
  w = jax.tree.map(np.float32, weights("part"))
  wrapped = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: (
      lambda w, p4: jax.lax.scan(lambda c, x: (c + f(w, x), None), 0.0, p4[None])[0]
    ),
  }[within]

  def program(stop):
    loss = wrapped(lambda w, p4: weighed(stop(p4), w, implementation="interpret"))
    return jax.jit(jax.grad(loss)).lower(w, momenta(np.float32)).as_text().count("dot_general")

  assert program(lambda p4: p4) == program(jax.lax.stop_gradient) > 0


def test_nothing_crosses_pairs(kind, implementation):
  """Other particles may change as they like: the bias of a pair is that of its two particles."""
  p4, w = momenta(np.float32), weights(kind)
  other = momenta(np.float32, seed=5)
  other[:, :2] = p4[:, :2]
  first, second = (
    np.asarray(bias_of(x, w, MASK, kind=kind, implementation=implementation)) for x in (p4, other)
  )
  np.testing.assert_allclose(first[..., :2, :2], second[..., :2, :2], rtol=1e-5, atol=1e-6)
  assert np.abs(first - second)[0, :, 2:, 2:].max() > 1e-2


def test_permuted_particles_give_permuted_pairs(kind, implementation):
  p4, w, order = momenta(np.float32), weights(kind), np.array([2, 0, 1, 4, 3])
  before, after = (
    np.asarray(bias_of(x, w, MASK, kind=kind, implementation=implementation))
    for x in (p4, p4[:, order])
  )
  expected = np.where(BOTH[:, None], before[:, :, order][..., order], 0)
  np.testing.assert_allclose(np.where(BOTH[:, None], after, 0), expected, rtol=1e-5, atol=1e-5)


def test_hidden_and_padded_momenta_do_not_matter(kind, implementation):
  p4, w = momenta(np.float32), weights(kind)
  hidden = np.zeros((B, N), bool)
  hidden[:, 1] = True
  other = p4.copy()
  other[hidden] = np.nan
  other[~MASK] = np.nan

  def run(p4):
    return np.asarray(bias_of(p4, w, MASK, hidden, kind=kind, implementation=implementation))

  np.testing.assert_array_equal(run(other), run(p4))
  constant = np.broadcast_to(np.asarray(w.hidden, np.float32), (MASK.sum(), H))
  for bias in (run(p4)[:, :, 1], run(p4)[..., 1]):  # (B, H, N)
    np.testing.assert_allclose(bias.swapaxes(1, 2)[MASK], constant)


@pytest.mark.slow
def test_bfloat16_is_close(kind, implementation):
  p4, w = momenta(np.float32), weights(kind)
  low = bias_of(p4, w, MASK, kind=kind, dtype="bfloat16", implementation=implementation)
  assert low.dtype == jnp.bfloat16
  error = (np.asarray(low, float) - by_definition(p4, w, kind)) * BOTH[:, None]
  assert np.sqrt((error**2).mean()) < 0.05


def run_with_gradients(p4, w, lengths, hidden, kind, dtype, implementation):
  """Bias of real pairs, 0 elsewhere, and gradients of all weights for a random cotangent."""
  n = p4.shape[1]
  mask = np.arange(n) < np.array(lengths)[:, None]
  real = (mask[:, :, None] & mask[:, None, :])[:, None]
  cotangent = np.random.default_rng(2).normal(size=(len(p4), H, n, n))

  def loss(w):
    bias = pair_bias(p4, w, mask, hidden, kind=kind, dtype=dtype, implementation=implementation)
    bias = jnp.where(real, bias, 0)
    return jnp.sum(bias.astype(jnp.float64) * cotangent), bias

  (_, bias), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(w)
  return bias, gradients


TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2}
QUICK = {
  ("float64", "part", 17, (8, 24)),
  ("float64", "lorentz_part", 9, (8,)),
  ("float32", "part", 17, (8,)),
  ("bfloat16", "lorentz_part", 17, (8,)),
}
SIZES = [1, 16, 17, 31, 100, 128, 200, 256]
THOROUGH = {
  *((dtype, kind, n, (64, 64, 64)) for dtype in TOLERANCES for kind in PAIR_KINDS for n in (31,)),
  *(("float64", "part", n, (8,)) for n in SIZES),
  ("float64", "invariant", 9, ()),
}


@functools.cache  # for all kernels
def case_of(dtype, kind, n, widths):
  """Arguments of `run_with_gradients`, and what the reference makes of them in float64."""
  rng = np.random.default_rng(n)
  lengths = [0, n, rng.integers(1, n + 1)]
  narrow = "float64" if dtype == "float64" else "float32"
  # ln m2 of a narrow, light pair amplifies rounding by E^2/m2, in every implementation alike.
  p4 = (heavy_momenta if dtype == "float32" else momenta)(narrow, shape=(3, n))
  w = jax.tree.map(lambda x: x.astype(narrow), weights(kind, widths=widths))
  hidden = rng.random((3, n)) < 0.2
  wide = jax.tree.map(np.float64, (p4, w))
  wanted = run_with_gradients(*wide, lengths, hidden, kind, jnp.float64, "xla")
  return (p4, w, lengths, hidden, kind), wanted


@pytest.mark.parametrize(
  "dtype, kind, n, widths",
  [
    *sorted(QUICK),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in sorted(THOROUGH - QUICK)),
  ],
)
def test_kernels_equal_the_reference_in_float64(x64, kernel, dtype, kind, n, widths):
  """Bias and gradients, with hidden particles: an empty event, a full one and one in between."""
  if kernel == "triton" and dtype == "float64":
    pytest.skip("a GPU kernel is for float32 and less")
  case, wanted = case_of(dtype, kind, n, widths)
  assert_close(run_with_gradients(*case, dtype, kernel), wanted, TOLERANCES[dtype])


@pytest.mark.parametrize("kind, n", [("part", 7), ("lorentz_part", 4)])
def test_tiles_that_need_no_list(x64, kind, n):
  """So few tiles have a program each, also those without a particle; backward they are smaller."""
  options = Options(kind, (8,), H, jnp.dtype("float64"), "gelu", interpret=True)
  assert all(options.share(tile, 1, events=1, n=n).one_each for tile in options.tiles)
  p4, w = momenta(shape=(1, n)), weights(kind, widths=(8,))
  got, wanted = (
    run_with_gradients(p4, w, [3], None, kind, jnp.float64, name) for name in ("interpret", "xla")
  )
  assert_close(got, wanted, TOLERANCES["float64"])


@pytest.mark.parametrize("symmetric", [True, False])
def test_every_tile_has_one_place(symmetric):
  share = Share(n=37, tile=Tile(4, 4, warps=4), symmetric=symmetric, events=1, most=1000)
  row, column = jax.jit(jax.vmap(share.place))(np.arange(share.tiles_of_event, dtype=np.int32))
  expected = np.triu_indices(10) if symmetric else np.indices((10, 10)).reshape(2, -1)
  np.testing.assert_array_equal([row, column], expected)


@pytest.mark.slow
def test_narrow_pairs_lose_no_more_digits_in_a_kernel(x64, kernel):
  """float32 of light particles that are close: the error is that of the plain reference."""
  p4 = momenta(np.float32, shape=(2, 17))
  w = jax.tree.map(np.float32, weights("part"))
  wide = jax.tree.map(np.float64, (p4, w))
  true = np.asarray(bias_of(*wide, implementation="xla"))
  ours, plain = (
    np.abs(np.asarray(bias_of(p4, w, implementation=name)) - true).max() for name in (kernel, "xla")
  )
  assert ours <= 2 * plain + 1e-6


def sine_sum(implementation):
  """Of the bias of real pairs, (weights, p4, mask) -> ()."""

  def loss(w, p4, mask):
    bias = pair_bias(p4, w, mask, implementation=implementation)
    return jnp.sum(jnp.where(mask[:, None, :, None] & mask[:, None, None], jnp.sin(bias), 0))

  return loss


def summed_in_shard_map(function, **options):
  """The same function of (weights, p4, mask), a sum over events that are split over a mesh."""
  split, whole = jax.sharding.PartitionSpec("data"), jax.sharding.PartitionSpec()
  return jax.shard_map(
    lambda *arrays: jax.lax.psum(function(*arrays), "data"),
    mesh=jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)),
    in_specs=(whole, split, split),
    out_specs=whole,
    **options,
  )


@pytest.mark.parametrize(
  "kernel",
  [pytest.param(name, marks=pytest.mark.slow) if name == "tpu" else name for name in KERNELS],
  indirect=True,
)
def test_transformations(kernel):
  """jit, vmap, checkpoint and shard_map change nothing, and results repeat bit by bit."""
  p4, w = momenta(np.float32), jax.tree.map(np.float32, weights("part", widths=(WIDTH,)))
  loss = sine_sum(kernel)
  gradient = jax.grad(loss)
  plain = jax.jit(gradient)(w, p4, MASK)
  jax.tree.map(np.testing.assert_array_equal, jax.jit(gradient)(w, p4, MASK), plain)
  assert_close(jax.jit(jax.grad(jax.checkpoint(loss)))(w, p4, MASK), plain, 1e-6)

  each = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))(w, p4[:, None], MASK[:, None])
  assert_close(jax.tree.map(lambda x: x.sum(axis=0), each), plain, 1e-5)

  # Pallas' interpreters do not keep track of what varies.
  mapped = summed_in_shard_map(gradient, check_vma=False)
  assert_close(jax.jit(mapped)(w, p4, jnp.asarray(MASK)), plain, 1e-6)


@pytest.mark.parametrize("implementation", ["xla", "xla_chunked"])
def test_plain_implementations_inside_a_shard_map_that_checks(implementation):
  p4, w = momenta(np.float32), jax.tree.map(np.float32, weights("part", widths=(WIDTH,)))
  loss = sine_sum(implementation)
  of_both = functools.partial(jax.grad, argnums=(0, 1))
  plain = jax.jit(of_both(loss))(w, p4, MASK)
  mapped = of_both(summed_in_shard_map(loss))
  assert_close(jax.jit(mapped)(w, p4, jnp.asarray(MASK)), plain, 1e-6)


def test_errors_say_what_was_expected():
  with pytest.raises(ValueError, match="nearest is 'part'"):
    pair_bias(momenta(), weights("part"), MASK, kind="prt")
  with pytest.raises(ValueError, match="'invariant' has 1 pair features"):
    pair_bias(momenta(), weights("part"), MASK, kind="invariant")
  with pytest.raises(ValueError, match="no implementation 'cuda'"):
    pair_bias(momenta(), weights("part"), MASK, implementation="cuda")
  with pytest.raises(ValueError, match="mask has shape"):
    pair_bias(momenta(), weights("part"), MASK[:, 1:])
  with pytest.raises(ValueError, match="hidden has shape"):
    pair_bias(momenta(), weights("part"), MASK, MASK[:, 1:])
  with pytest.raises(NotImplementedError, match="takes up to 512 particles, got 513"):
    pair_bias(momenta(shape=(1, 513)), weights("part"), implementation="interpret")
  with pytest.raises(NotImplementedError, match="takes widths up to 128, got 136"):
    pair_bias(momenta(), weights("part", widths=(136,)), implementation="interpret")
  with pytest.raises(NotImplementedError, match="'tpu' runs on TPUs"):
    pair_bias(momenta(np.float32), weights("part"), MASK, dtype="float32", implementation="tpu")
