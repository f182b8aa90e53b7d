"""Laws of the encoder of e+e- events: what is missing, hidden or padding changes no bit."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.models import Clear, event_counts
from jetfm.models.encoders import make_encoder
from jetfm.nn import GroupEmbed
from jetfm.nn.groups import TOKEN_SCALE
from jetfm.nn.initializers import drawn_together
from jetfm.schema import Schema
from tests.jpsi import column, event_schema, group_of, make_events

SIZES = {
  "width": 16,
  "depth": 1,
  "heads": 2,
  "mlp_ratio": 2,
  "embed_widths": (8,),
  "pair_widths": (8,),
  "class_depth": 1,
}
COUNTS = (6, 1, 12, 4)


@functools.cache
def encoder(combine="concatenate", dtype=None):
  """The compiled encoder and parameters of order one, those that start at zero included."""
  module = Clear(event_schema(), combine=combine, dtype=dtype, **SIZES)
  shapes = jax.eval_shape(module.init, jax.random.key(0), make_events(COUNTS, 12))
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    collection, *_, name = (key.key for key in path)
    if collection == "constants":
      return np.full(leaf.shape, 0.8 if name == "std" else 0.1, np.float32)
    noise = rng.normal(size=leaf.shape).astype(np.float32)
    return 1 + 0.1 * noise if "scale" in name else 0.3 * noise

  variables = jax.tree_util.tree_map_with_path(fill, shapes)
  return jax.jit(functools.partial(module.apply, variables)), module, variables


def outputs(batch, **options):
  encoded = encoder(**options)[0](batch)
  return np.asarray(encoded.tokens, np.float32), np.asarray(encoded.event, np.float32)


@functools.partial(jax.jit, static_argnums=0)
def fresh(init, *args):
  """What init(key, *args) returns, as a training starts."""
  key = jax.random.key(1)
  return drawn_together(lambda: init(key, *args), key)


def same(first, second):
  for a, b in zip(outputs(first), outputs(second), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def batch():
  return make_events(COUNTS, 12)


@pytest.mark.parametrize("value", (7.0, np.nan, np.inf))
def test_missing_measurements_and_padding_change_no_bit(batch, value):
  of_feature = np.array([group_of(f) for f in event_schema().stored])
  missing = ~(batch.present & batch.mask[..., None])[..., of_feature]
  assert missing[batch.mask].any(axis=0).all()  # each feature is missing somewhere
  p4 = np.where(batch.mask[..., None], batch.p4, np.float32(value))
  features = np.where(missing, np.float32(value), batch.features)
  same(batch, batch.replace(p4=p4, features=features))


@pytest.mark.parametrize("name", event_schema().stored)
def test_every_measurement_is_seen(batch, name):
  """Also one that is alone in its group, and by its size."""
  feature = event_schema().features[column(name)]
  old = batch.features[..., column(name)]
  features = batch.features.copy()
  features[..., column(name)] = new = 0.5 * old + 1
  inputs = [np.asarray(feature.forward(x)).reshape(*old.shape, -1) for x in (old, new)]
  other = (inputs[0] != inputs[1]).any(axis=-1)
  measured = (batch.present & batch.mask[..., None])[..., group_of(name)]
  assert (measured & other).sum() > 2
  moved = np.abs(outputs(batch.replace(features=features))[0] - outputs(batch)[0]).max(axis=-1)
  assert moved[measured & other].min() > 1e-5


def hide(batch, group, whole):
  """Hides a group of every second object, and every third object altogether."""
  hidden = np.zeros(batch.present.shape, bool)
  hidden[:, ::2, group] = True
  rank = np.full(batch.mask.shape, -1, np.int32)
  if whole:
    rank[:, ::3] = np.arange(0, batch.length, 3)
  return batch.replace(hidden_groups=hidden, hidden_rank=rank)


@pytest.mark.parametrize("group", ("mdc_p3_px", "emc_energy", "muc_dpt"))
def test_hidden_measurements_change_no_bit(batch, group):
  """Their values and the momenta that follow from them; which groups an object has may."""
  masked = hide(batch, group_of(group), whole=True)
  own = np.array([group_of(f) == group_of(group) for f in event_schema().stored])
  gone = masked.hidden_groups[..., group_of(group)] & batch.present[..., group_of(group)]
  whole = masked.hidden_rank >= 0
  other = masked.replace(
    p4=np.where((gone | whole)[..., None], np.float32(np.nan), batch.p4),
    features=np.where((gone[..., None] & own) | whole[..., None], np.float32(5), batch.features),
    present=batch.present ^ whole[..., None],
  )
  same(masked, other)
  tokens, _ = outputs(masked)
  assert np.abs(tokens - outputs(batch)[0])[gone].max() > 1e-3  # hiding is seen, at least


@pytest.mark.parametrize("combine", ("concatenate", "sum"))
def test_new_tokens_are_not_smaller_than_what_blocks_add(batch, combine):
  """What an object measured would be lost among it; objects that lack groups are no exception."""
  schema = event_schema()
  embed = GroupEmbed(schema, (16, 16), combine)
  columns = np.random.default_rng(0).normal(size=(*batch.mask.shape, schema.width))
  hidden = np.zeros_like(batch.present)
  tokens, _ = fresh(embed.init_with_output, columns, batch.present, hidden)
  np.testing.assert_allclose(np.asarray(tokens)[batch.mask].std(axis=-1), TOKEN_SCALE, rtol=0.02)


def test_hidden_is_not_missing(batch):
  group = group_of("emc_energy")
  masked = hide(batch, group, whole=False)
  without = batch.replace(present=batch.present & ~masked.hidden_groups)
  assert np.abs(outputs(masked)[1] - outputs(without)[1]).max() > 1e-3


@pytest.mark.parametrize("combine", ("concatenate", "sum"))
def test_permutation(x64, combine):
  batch = make_events((12, 12), 12, dtype=np.float64)
  order = np.random.default_rng(1).permutation(12)
  tokens, event = (np.asarray(x) for x in outputs(batch, combine=combine))
  moved = jax.tree.map(lambda x: x[:, order] if x.shape[1:2] == (12,) else x, batch)
  again, same_event = outputs(moved, combine=combine)
  np.testing.assert_allclose(again, tokens[:, order], atol=1e-6)
  np.testing.assert_allclose(same_event, event, atol=1e-6)


def test_counts_are_those_of_the_event(batch):
  schema = event_schema()
  names = ("charged", "neutral", "charged_without_emc", "neutral_without_moments")
  counts = jax.jit(event_counts, static_argnums=(0, 1))
  found = np.expm1(np.asarray(counts(names, schema, batch.present, batch.mask)))
  for event in range(len(COUNTS)):
    expected = np.zeros(4)
    for n in range(COUNTS[event]):
      has = {name: batch.present[event, n, group_of(name)] for name in schema.stored}
      track, moments = has["mdc_p3_px"], has["emc_secmom"] or has["emc_latmom"]
      expected += (track, not track, track and not has["emc_energy"], not track and not moments)
    np.testing.assert_allclose(found[event], expected, atol=1e-5)


@pytest.mark.slow
def test_conditions_matter_and_start_without_effect(batch):
  """At init the conditional norms are plain ones: the same as without conditions."""
  module = Clear(event_schema(), **SIZES)
  plain = dataclasses.replace(module, conditions=())
  new = fresh(module.init, batch)

  def strip(tree):
    return {k: strip(v) if isinstance(v, dict) else v for k, v in tree.items() if k != "condition"}

  apply = jax.jit(plain.apply)
  before = jax.jit(module.apply)(new, batch)
  np.testing.assert_allclose(before.tokens, apply(strip(new), batch).tokens, atol=1e-6)
  _, module, variables = encoder()
  unconditional = apply(strip(variables), batch)
  assert np.abs(unconditional.tokens - outputs(batch)[0]).max() > 1e-2


def test_a_schema_without_the_features_says_so(batch):
  schema = event_schema()
  features = tuple(f for f in schema.features if f.name != "emc_secmom")
  smaller = Schema("small", features)
  with pytest.raises(ValueError, match="needs \\['emc_secmom'\\]"):
    event_counts(("neutral_without_moments",), smaller, batch.present, batch.mask)
  with pytest.raises(ValueError, match="no event count 'hits'"):
    event_counts(("hits",), schema, batch.present, batch.mask)
  with pytest.raises(ValueError, match="needs \\['emc_secmom'\\]"):
    Clear(smaller)
  with pytest.raises(ValueError, match=r"expected one of .*'sum'"):
    Clear(schema, combine="product")


def edges():
  """Of one shape: the gradient is compiled once."""
  some = make_events((40, 5, 3), 40)
  no_shower = some.present.copy()
  no_shower[..., group_of("emc_energy")] = False
  return {
    "up to forty objects": some,
    "one object": make_events((1, 1, 1), 40),
    "no calorimeter": some.replace(present=no_shower),
    "no group at all": some.replace(present=np.zeros_like(some.present)),
    "no objects": make_events((5, 0, 0), 40),
  }


@pytest.mark.slow
@pytest.mark.parametrize("dtype", (None, jnp.bfloat16))
def test_edges_are_finite(dtype):
  _, module, variables = encoder(dtype=dtype)
  module = dataclasses.replace(module, remat=dtype is not None)

  @jax.jit
  @jax.value_and_grad
  def value_and_grad(params, batch):
    encoded = module.apply(variables | {"params": params}, batch)
    return sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in (encoded.tokens, encoded.event))

  for name, batch in edges().items():
    value, gradient = value_and_grad(variables["params"], batch)
    assert np.isfinite(value), name
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient)), name


def test_is_an_encoder_by_name():
  assert isinstance(make_encoder("clear", event_schema(), class_depth=1), Clear)
