"""Laws of every encoder and head: permutations, padding, hidden particles, precision, memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.models import ClassificationHead, LorentzParT, MaskedParticleHead, ParT

ENCODERS = {
  "lorentz_part": (LorentzParT, {}),
  "projected": (LorentzParT, {"mv_out": "projected", "subgroup": False}),
  "invariant": (LorentzParT, {"scalars": "invariant", "frame": "lab", "pair": None}),
  "part": (ParT, {"pair": "lorentz_part"}),
}


class Model:
  """An encoder, the masked-particle head and the classification head, with their variables."""

  def __init__(self, name, schema, sizes, batch, **options):
    kind, own = ENCODERS[name]
    self.encoder = kind(schema, **{**sizes, **own, **options})
    dtype = options.get("dtype")
    self.masked = MaskedParticleHead(widths=(16,), dtype=dtype)
    self.tagger = ClassificationHead(4, layers=1, heads=2, mlp_ratio=2, dtype=dtype)

    @jax.jit
    def init(key):
      encoder, encoded = self.encoder.init(key, batch), None
      encoded = self.encoder.apply(encoder, batch)
      return {
        "encoder": encoder,
        "masked": self.masked.init(key, encoded),
        "tagger": self.tagger.init(key, encoded),
      }

    self.variables = init(jax.random.key(0))
    self.outputs = jax.jit(lambda batch: self.apply(self.variables, batch))
    self.outputs_and_gradients = jax.jit(self._outputs_and_gradients)

  def apply(self, variables, batch):
    """Everything that comes out of the model."""
    encoded = self.encoder.apply(variables["encoder"], batch)
    return {
      "encoded": encoded,
      "particles": self.masked.apply(variables["masked"], encoded),
      "logits": self.tagger.apply(variables["tagger"], encoded),
    }

  def _outputs_and_gradients(self, batch):
    def loss(variables, p4, features):
      out = self.apply(variables, batch.replace(p4=p4, features=features))
      real = jnp.where(batch.mask[..., None], out["particles"], 0)
      return jnp.sum(jnp.sin(out["logits"])) + jnp.sum(jnp.sin(real)), out

    gradients, out = jax.grad(loss, (0, 1, 2), has_aux=True)(
      self.variables, batch.p4, batch.features
    )
    return out, gradients


@pytest.fixture(scope="module", params=list(ENCODERS))
def model(request, schema, sizes, make_batch):
  return Model(request.param, schema, sizes, make_batch(hide=True))


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


def test_padding_changes_no_bit_of_outputs_and_gradients(model, make_batch):
  batch = make_batch(lengths=(6, 4, 0), hide=True)
  out, gradients = model.outputs_and_gradients(batch)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((out, gradients)))
  encoder = gradients[0]["encoder"]["params"]
  assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(encoder["block_0"]))
  assert_bits_equal(model.outputs_and_gradients(garbage(batch, ~batch.mask)), (out, gradients))


def test_hidden_particles_cannot_leak(model, make_batch):
  """Changing hidden momenta and features changes no bit of any prediction or gradient."""
  batch = make_batch(hide=True)
  hidden = batch.hidden_rank >= 0
  assert hidden.any()
  out, gradients = model.outputs_and_gradients(batch)
  assert_bits_equal(model.outputs_and_gradients(garbage(batch, hidden)), (out, gradients))
  # and what is visible does matter
  other = model.outputs(batch.replace(p4=batch.p4 * np.where(hidden, 1, 1.1)[..., None]))
  assert np.abs(other["particles"] - out["particles"])[hidden].max() > 1e-5


def test_ranks_tell_hidden_particles_apart(model, make_batch):
  batch = make_batch(hide=True)
  hidden = batch.hidden_rank[0] >= 0
  particles = np.asarray(model.outputs(batch)["particles"][0][hidden])
  assert np.abs(particles[0] - particles[1]).max() > 1e-6
  swapped = batch.hidden_rank.copy()
  swapped[0, hidden] = swapped[0, hidden][::-1]
  again = model.outputs(batch.replace(hidden_rank=swapped))["particles"][0][hidden]
  np.testing.assert_allclose(again, particles[::-1], rtol=1e-5, atol=1e-5)


def test_permuting_particles_permutes_tokens(model, make_batch):
  batch = make_batch(lengths=(6, 6), hide=True)
  order = np.array([4, 2, 0, 5, 1, 3])
  names = ("p4", "features", "present", "mask", "hidden_rank")
  moved = batch.replace(**{name: getattr(batch, name)[:, order] for name in names})
  before, after = model.outputs(batch), model.outputs(moved)
  assert_close(after["logits"], before["logits"], 1e-5)
  assert_close(after["particles"], before["particles"][:, order], 1e-5)
  assert_close(after["encoded"].tokens, before["encoded"].tokens[:, order], 1e-5)
  if before["encoded"].multivectors is not None:
    permuted = before["encoded"].multivectors[:, order]
    assert_close(after["encoded"].multivectors, permuted, 1e-4)


def test_an_event_does_not_depend_on_its_company(model, make_batch):
  """Neither the padded length nor the other events of the batch matter."""
  short, long = make_batch(lengths=(5,), hide=True), make_batch(lengths=(5, 9), hide=True)
  assert long.length > short.length
  alone, together = model.outputs(short), model.outputs(long)
  together = jax.tree.map(
    lambda a, b: b[:1] if a.shape[1:] == b.shape[1:] else b[:1, : a.shape[1]], alone, together
  )
  np.testing.assert_allclose(together["logits"], alone["logits"], rtol=1e-6, atol=1e-6)
  tokens = together["encoded"].tokens, alone["encoded"].tokens
  np.testing.assert_allclose(*tokens, rtol=2e-6, atol=2e-6)


def test_nothing_hidden_needs_no_ranks(model, make_batch):
  batch = make_batch()
  none = batch.replace(hidden_rank=np.full(batch.mask.shape, -1, np.int32))
  assert_close(model.outputs(batch), model.outputs(none), 1e-6)


def test_padded_slots_of_what_is_handed_over_are_zero(model, make_batch):
  batch = make_batch(hide=True)
  encoded = model.outputs(batch)["encoded"]
  for name in ("tokens", "p4", "multivectors"):
    array = getattr(encoded, name)
    if array is not None:
      np.testing.assert_array_equal(array[~batch.mask], 0)
  np.testing.assert_array_equal(encoded.hidden, batch.hidden_rank >= 0)
  np.testing.assert_array_equal(encoded.p4[encoded.hidden], 0)


@pytest.mark.parametrize("name", ["lorentz_part", "part"])
def test_precisions_agree(schema, sizes, make_batch, name):
  batch = make_batch(hide=True)
  single = Model(name, schema, sizes, batch)
  low = Model(name, schema, sizes, batch, dtype=jnp.bfloat16)
  low.variables = single.variables
  out, rough = single.outputs(batch), low.outputs(batch)
  assert rough["encoded"].tokens.dtype == jnp.bfloat16
  assert rough["logits"].dtype == rough["particles"].dtype == jnp.float32
  assert {x.dtype.name for x in jax.tree.leaves(single.variables)} == {"float32"}
  with jax.enable_x64(True):
    double = make_batch(hide=True, dtype=np.float64)
    double = jax.tree.map(lambda a, b: a if a.dtype.kind != "f" else b, double, batch)
    exact = jax.jit(lambda v, b: single.apply(v, b))(
      single.variables, jax.tree.map(lambda x: x.astype(float) if x.dtype.kind == "f" else x, double)
    )
  assert exact["encoded"].tokens.dtype == np.float64
  for get in (lambda o: o["logits"], lambda o: o["encoded"].tokens):
    np.testing.assert_allclose(get(out), get(exact), rtol=2e-4, atol=2e-4)
    error = np.asarray(get(rough), float) - get(exact)
    assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt((get(exact) ** 2).mean())


def test_rematerialisation_gives_the_same_numbers(schema, sizes, make_batch):
  batch = make_batch(hide=True)
  plain = Model("lorentz_part", schema, sizes, batch)
  saving = Model("lorentz_part", schema, sizes, batch, remat=True)
  assert_bits_equal(saving.variables, plain.variables)
  first, second = plain.outputs_and_gradients(batch), saving.outputs_and_gradients(batch)
  assert_close(second, first, 2e-5)


def test_dropout_is_an_option(schema, sizes, make_batch):
  batch = make_batch()
  encoder = ParT(schema, dropout=0.3, **sizes)
  variables = jax.jit(encoder.init)(jax.random.key(0), batch)

  @jax.jit
  def tokens(key):
    return encoder.apply(variables, batch, deterministic=False, rngs={"dropout": key}).tokens

  one, again, two = (tokens(jax.random.key(seed)) for seed in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - two).max() > 1e-2


def test_paths_of_parameters_and_constants(model, sizes):
  variables = model.variables["encoder"]
  blocks = {k for k in variables["params"] if k.startswith("block_")}
  assert blocks == {f"block_{layer}" for layer in range(sizes["depth"])}
  assert {"embed", "norm", "mask_token", "rank_code"} <= set(variables["params"])
  uses_schema = getattr(model.encoder, "scalars", "schema") == "schema"
  assert ("constants" in variables) == uses_schema
  assert set(variables) <= {"params", "constants"}


def test_wrong_options_say_what_was_expected(schema, sizes, make_batch):
  batch = make_batch()
  for option, value, words in (
    ("frame", "rest", "'jet' or 'lab'"),
    ("scalars", "all", "'schema' or 'invariant'"),
    ("mv_out", "dense", "'equivariant', 'projected' or None"),
    ("pair", "parts", "no pair features 'parts'"),
    ("references", ("bean",), "no reference 'bean'"),
    ("implementation", "tpux", "no implementation 'tpux'"),
  ):
    encoder = LorentzParT(schema, **{**sizes, option: value})
    with pytest.raises(ValueError, match=words):
      jax.eval_shape(encoder.init, jax.random.key(0), batch)
  encoder = LorentzParT(schema, **sizes)
  variables = jax.eval_shape(encoder.init, jax.random.key(0), batch)
  with pytest.raises(ValueError, match=r"expected \(\.\.\., 2, 4\)"):
    jax.eval_shape(lambda v: encoder.apply(v, batch, references=jnp.ones((3, 4))), variables)
  assert dataclasses.is_dataclass(encoder)
