"""Laws of every encoder and head: permutations, padding, hidden particles, precision, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.models import ClassificationHead, LorentzParT, MaskedParticleHead, ParT

ENCODERS = {
  "lorentz_part": (LorentzParT, {}),
  "projected": (LorentzParT, {"mv_out": "projected", "subgroup": False, "scalars": "invariant"}),
  "part": (ParT, {"pair": "lorentz_part"}),
}
LENGTHS = (6, 4, 0)
PARTICLES = ("p4", "features", "present", "mask", "hidden_rank")


class Model:
  """An encoder, the masked-particle head and the classification head, with their variables."""

  def __init__(self, name, schema, sizes, batch, initialise):
    kind, options = ENCODERS[name]
    self.encoder = kind(schema, **sizes, **options)
    self.masked = MaskedParticleHead(widths=(8,))
    self.tagger = ClassificationHead(4, layers=1, heads=2, mlp_ratio=1)

    encoder = initialise(self.encoder, batch)
    encoded = jax.eval_shape(self.encoder.apply, encoder, batch)
    self.variables = {
      "encoder": encoder,
      "masked": initialise(self.masked, encoded),
      "tagger": initialise(self.tagger, encoded),
    }
    self.outputs_and_gradients = jax.jit(self._outputs_and_gradients)

  def apply(self, variables, batch):
    """Everything that comes out of the model."""
    encoded = self.encoder.apply(variables["encoder"], batch)
    return {
      "encoded": encoded,
      "particles": self.masked.apply(variables["masked"], encoded),
      "logits": self.tagger.apply(variables["tagger"], encoded),
    }

  def outputs(self, batch):
    return self.outputs_and_gradients(batch)[0]

  def _outputs_and_gradients(self, batch):
    def loss(variables, p4, features):
      out = self.apply(variables, batch.replace(p4=p4, features=features))
      real = jnp.where(batch.mask[..., None], out["particles"], 0)
      return jnp.sum(jnp.sin(out["logits"])) + jnp.sum(jnp.sin(real)), out

    gradients, out = jax.grad(loss, (0, 1, 2), has_aux=True)(
      self.variables, batch.p4, batch.features
    )
    return out, gradients


@pytest.fixture(scope="module")
def batch(make_batch):
  """Three jets of one shape for all tests: compiling is what costs time here."""
  return make_batch(lengths=LENGTHS, hide=True)


QUICK = "lorentz_part"


@pytest.fixture(
  scope="module",
  params=[
    QUICK,
    *(pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS if name != QUICK),
  ],
)
def model(request, schema, sizes, batch, initialise):
  return Model(request.param, schema, sizes, batch, initialise)


def assert_bits_equal(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


def assert_close(first, second, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a, float), np.asarray(b, float), rtol=tolerance, atol=tolerance
    ),
    first,
    second,
  )


def garbage(batch, where):
  """NaN and nonsense in the slots `where` (B, N), in every field that holds particles."""
  at = where[..., None]
  hidden = batch.hidden_rank
  return batch.replace(
    p4=np.where(at, np.nan, batch.p4),
    features=np.where(at, np.nan, batch.features),
    present=np.where(at, ~batch.present, batch.present),
    hidden_rank=None if hidden is None else np.where(where & ~batch.mask, 77, hidden),
  )


@pytest.mark.slow
def test_padding_changes_no_bit_of_outputs_and_gradients(model, batch):
  out, gradients = model.outputs_and_gradients(batch)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((out, gradients)))
  encoder = gradients[0]["encoder"]["params"]
  assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(encoder["block_0"]))
  assert_bits_equal(model.outputs_and_gradients(garbage(batch, ~batch.mask)), (out, gradients))


def test_hidden_particles_cannot_leak(model, batch):
  """Changing hidden momenta and features changes no bit of any prediction or gradient."""
  hidden = batch.hidden_rank >= 0
  assert hidden.any()
  out, gradients = model.outputs_and_gradients(batch)
  assert_bits_equal(model.outputs_and_gradients(garbage(batch, hidden)), (out, gradients))
  # and what is visible does matter
  other = model.outputs(batch.replace(p4=batch.p4 * np.where(hidden, 1, 1.1)[..., None]))
  assert np.abs(other["particles"] - out["particles"])[hidden].max() > 1e-5


def test_ranks_tell_hidden_particles_apart(model, batch):
  hidden = batch.hidden_rank[0] >= 0
  particles = np.asarray(model.outputs(batch)["particles"][0][hidden])
  assert np.abs(particles[0] - particles[1]).max() > 1e-6
  swapped = batch.hidden_rank.copy()
  swapped[0, hidden] = swapped[0, hidden][::-1]
  again = model.outputs(batch.replace(hidden_rank=swapped))["particles"][0][hidden]
  np.testing.assert_allclose(again, particles[::-1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", [QUICK], indirect=True)
def test_gradient_of_the_momenta_is_the_finite_difference(x64, model, batch):
  """Through tokens, frame and pair bias: what saliency and adversarial jets need."""
  visible = batch.mask & (batch.hidden_rank < 0)
  p4 = np.asarray(batch.p4, np.float64)
  direction = np.random.default_rng(0).normal(size=p4.shape) * visible[..., None]
  variables = jax.tree.map(np.float64, model.variables)

  @jax.jit
  @jax.value_and_grad
  def along(step):
    moved = batch.replace(p4=p4 + step * direction, features=np.asarray(batch.features, float))
    return jnp.sin(model.apply(variables, moved)["logits"]).sum()

  step = 1e-5
  (after, _), (before, _), (_, slope) = (along(x) for x in (step, -step, 0.0))
  assert slope == pytest.approx(float(after - before) / (2 * step), rel=1e-5)


def test_permuting_particles_permutes_tokens(model, batch):
  order = np.array([[4, 2, 0, 5, 1, 3], [1, 3, 0, 2, 4, 5], [0, 1, 2, 3, 4, 5]])

  def permute(x):
    return np.take_along_axis(np.asarray(x), order.reshape(3, 6, *[1] * (x.ndim - 2)), axis=1)

  moved = batch.replace(**{name: permute(getattr(batch, name)) for name in PARTICLES})
  before, after = model.outputs(batch), model.outputs(moved)
  assert_close(after["logits"], before["logits"], 1e-5)
  assert_close(after["particles"], permute(before["particles"]), 1e-5)
  assert_close(after["encoded"].tokens, permute(before["encoded"].tokens), 1e-5)
  if before["encoded"].multivectors is not None:
    assert_close(after["encoded"].multivectors, permute(before["encoded"].multivectors), 1e-4)


def test_an_event_does_not_depend_on_its_company(model, batch, make_batch):
  """Neither the padded length nor the other events of the batch matter."""
  one = make_batch(lengths=LENGTHS[:1], padded=8, hide=True)
  alone = jax.jit(lambda batch: model.apply(model.variables, batch))(one)
  together = model.outputs(batch)
  np.testing.assert_allclose(alone["logits"], together["logits"][:1], rtol=1e-6, atol=1e-6)
  ours, theirs = alone["encoded"].tokens[:, :6], together["encoded"].tokens[:1]
  np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


def test_nothing_hidden_needs_no_ranks(schema, sizes, make_batch, initialise):
  batch = make_batch()
  none = batch.replace(hidden_rank=np.full(batch.mask.shape, -1, np.int32))
  encoder = ParT(schema, **sizes)
  variables = initialise(encoder, batch)
  apply = jax.jit(encoder.apply)
  assert_close(apply(variables, batch), apply(variables, none), 1e-6)


def test_padded_slots_of_what_is_handed_over_are_zero(model, batch):
  encoded = model.outputs(batch)["encoded"]
  for name in ("tokens", "p4", "multivectors"):
    array = getattr(encoded, name)
    if array is not None:
      np.testing.assert_array_equal(array[~batch.mask], 0)
  np.testing.assert_array_equal(encoded.hidden, batch.hidden_rank >= 0)
  np.testing.assert_array_equal(encoded.p4[encoded.hidden], 0)


@pytest.mark.slow
def test_precisions_agree(schema, sizes, batch, initialise):
  encoder = LorentzParT(schema, **sizes)
  variables = initialise(encoder, batch)
  single = jax.jit(encoder.apply)(variables, batch).tokens
  rough = jax.jit(LorentzParT(schema, dtype=jnp.bfloat16, **sizes).apply)(variables, batch).tokens
  with jax.enable_x64(True):
    double = jax.tree.map(lambda x: x.astype(float) if x.dtype == np.float32 else x, batch)
    exact = np.asarray(jax.jit(encoder.apply)(variables, double).tokens)
  assert {x.dtype.name for x in jax.tree.leaves(variables)} == {"float32"}
  assert (rough.dtype, single.dtype, exact.dtype) == (jnp.bfloat16, np.float32, np.float64)
  np.testing.assert_allclose(single, exact, rtol=2e-4, atol=2e-4)
  error = np.asarray(rough, float) - exact
  assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt((exact**2).mean())


@pytest.mark.slow
def test_rematerialisation_gives_the_same_numbers(schema, sizes, batch, initialise):
  plain, saving = (ParT(schema, remat=remat, **{**sizes, "depth": 2}) for remat in (False, True))
  variables = initialise(plain, batch)
  assert jax.tree.structure(jax.eval_shape(saving.init, jax.random.key(0), batch)) == (
    jax.tree.structure(variables)
  )

  def gradients(encoder):
    return jax.jit(jax.grad(lambda v: jnp.sin(encoder.apply(v, batch).tokens).sum()))(variables)

  assert_close(gradients(saving), gradients(plain), 2e-5)


@pytest.mark.slow
def test_kernels_give_the_same_numbers(schema, sizes, batch, initialise):
  """All kernels, the bias shared by two layers, dropout and rematerialisation included."""
  options = {**sizes, "depth": 2, "dropout": 0.2}
  plain = ParT(schema, implementation="xla", **options)
  variables = initialise(plain, batch)

  def gradients(encoder):
    def loss(variables):
      rngs = {"dropout": jax.random.key(1)}
      tokens = encoder.apply(variables, batch, deterministic=False, rngs=rngs).tokens
      return jnp.sin(tokens).sum()

    return jax.jit(jax.grad(loss))(variables)

  wanted = gradients(plain)
  for remat, of_tokens in ((False, "xla"), (True, "interpret")):
    kernels = {"implementation": "interpret", "token_implementation": of_tokens}
    fused = ParT(schema, remat=remat, **kernels, **options)
    assert_close(gradients(fused), wanted, 2e-5)


def test_dropout_is_an_option(schema, sizes, make_batch, initialise):
  batch = make_batch(lengths=(4,))
  encoder = ParT(schema, dropout=0.3, **sizes)
  variables = initialise(encoder, batch)

  @jax.jit
  def tokens(key):
    return encoder.apply(variables, batch, deterministic=False, rngs={"dropout": key}).tokens

  one, again, two = (tokens(jax.random.key(seed)) for seed in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - two).max() > 1e-2


@pytest.mark.parametrize("name", list(ENCODERS))
def test_paths_of_parameters_and_constants(name, schema, sizes, batch):
  """What checkpoints, fine-tuning strategies and optimizers rely on."""
  kind, options = ENCODERS[name]
  encoder = kind(schema, **{**sizes, **options, "depth": 3})
  variables = jax.eval_shape(encoder.init, jax.random.key(0), batch)
  blocks = {k for k in variables["params"] if k.startswith("block_")}
  assert blocks == {"block_0", "block_1", "block_2"}
  assert {"embed", "norm", "mask_token", "rank_code"} <= set(variables["params"])
  uses_schema = options.get("scalars", "schema") == "schema"
  assert ("constants" in variables) == uses_schema
  assert set(variables) <= {"params", "constants"}


def test_wrong_options_say_what_was_expected(schema, sizes, make_batch):
  batch = make_batch()
  for option, value, words in (
    ("frame", "rest", "'jet', 'lab'"),
    ("scalars", "all", "'schema', 'invariant'"),
    ("mv_out", "dense", "'equivariant', 'projected', None"),
    ("pair", "parts", "'parts', expected one of .*'part'.* None"),
    ("pair_activation", "tanh", "'gelu', 'relu'"),
    ("heads", 3, "cannot be split into 3 heads"),
    ("references", ("bean",), "no reference 'bean'"),
  ):
    with pytest.raises(ValueError, match=words):
      LorentzParT(schema, **{**sizes, option: value})
  encoder = LorentzParT(schema, **sizes, implementation="tpux")
  with pytest.raises(ValueError, match="no implementation 'tpux'"):
    jax.eval_shape(encoder.init, jax.random.key(0), batch)
  encoder = LorentzParT(schema, **sizes)
  variables = jax.eval_shape(encoder.init, jax.random.key(0), batch)
  with pytest.raises(ValueError, match=r"expected \(\.\.\., 2, 4\)"):
    jax.eval_shape(lambda v: encoder.apply(v, batch, references=jnp.ones((3, 4))), variables)
