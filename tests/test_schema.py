"""The schema: transforms and their inverses, JSON, and what is refused."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from jetfm.data.jet_schema import INPUT_SETS, jet_schema
from jetfm.schema import Feature, Schema, Transform
from tests.compiled import lorentz

ROUND_TRIPS = {
  "log": (Transform("log"), (1e-6, 1e4)),
  "log1p": (Transform("log1p"), (-0.9, 1e4)),
  "tanh": (Transform("tanh"), (-3.0, 3.0)),
  "clip": (Transform("clip", (-2.0, 5.0)), (-2.0, 5.0)),
  "affine": (Transform("affine", (1.7, 0.7)), (-10.0, 10.0)),
  "zscore": (Transform("zscore"), (-10.0, 10.0)),
  "periodic": (Transform("periodic", (2 * math.pi,)), (-math.pi, math.pi)),
}


def feature(*transforms, **kwargs):
  return Feature("x", transforms=transforms, mean=0.3, std=2.5, **kwargs)


@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_inverse_undoes_forward(kind, x64):
  transform, (low, high) = ROUND_TRIPS[kind]
  x = np.random.default_rng(0).uniform(low, high, 1000)
  f = feature(transform)
  np.testing.assert_allclose(f.inverse(f.forward(x)), x, rtol=1e-12, atol=1e-12)


def test_inverse_undoes_a_chain(x64):
  x = np.random.default_rng(1).uniform(0.1, 50.0, 1000)
  f = feature(Transform("log"), Transform("affine", (1.7, 0.7)), Transform("zscore"))
  np.testing.assert_allclose(f.inverse(f.forward(x)), x, rtol=1e-12)
  np.testing.assert_allclose(f.forward(x), ((np.log(x) - 1.7) * 0.7 - 0.3) / 2.5, rtol=1e-12)


def test_the_zscore_makes_mean_0_and_std_1(x64):
  x = np.random.default_rng(2).lognormal(1.0, 0.5, 5000)
  f = Feature("x", transforms=(Transform("log"), Transform("zscore")))
  before = np.asarray(f.before_zscore(x))
  y = np.asarray(f.forward(x, before.mean(), before.std()))
  np.testing.assert_allclose((y.mean(), y.std()), (0, 1), atol=1e-12)


def test_a_period_changes_nothing(x64):
  x = np.random.default_rng(3).uniform(-math.pi, math.pi, 1000)
  f = feature(Transform("periodic", (2 * math.pi,)))
  for turns in (-2, -1, 1, 3):
    np.testing.assert_allclose(f.forward(x + 2 * math.pi * turns), f.forward(x), atol=1e-12)
  assert f.forward(math.pi) == f.forward(-math.pi) == math.pi  # the interval is (-pi, pi]


def test_categories_are_one_hot_and_come_back():
  values = (-1.0, 0.0, 1.0, 22.0)
  f = feature(Transform("categorical", values), likelihood="categorical")
  assert f.width == len(values)
  encode = jax.jit(f.forward)
  encoded = np.asarray(encode(np.array(values)))
  np.testing.assert_array_equal(encoded, np.eye(len(values)))
  np.testing.assert_array_equal(jax.jit(f.inverse)(encoded), values)
  np.testing.assert_array_equal(encode(0.8), [0, 0, 1, 0])  # the nearest


def test_tanh_comes_back_finite_from_its_asymptote():
  f = feature(Transform("tanh"))
  assert np.all(np.isfinite(f.inverse(f.forward(np.array([-50.0, 50.0])))))


@pytest.mark.parametrize("inputs", INPUT_SETS)
def test_json_brings_the_same_schema_back(inputs):
  schema = jet_schema(inputs)
  constants = {f.name: (0.25, 1.5) for f in (*schema.features, *schema.targets)}
  for version in (schema, schema.fitted(constants)):
    assert Schema.from_dict(json.loads(json.dumps(version.to_dict()))) == version


@pytest.mark.parametrize(
  ("inputs", "width", "stored"),
  [("kin4", 4, 0), ("kin", 7, 0), ("kinpid", 13, 6), ("full", 17, 10)],
)
def test_input_sets_of_the_papers(inputs, width, stored):
  schema = jet_schema(inputs)
  assert (schema.width, len(schema.features), len(schema.stored)) == (width, width, stored)


def test_an_unfitted_zscore_says_what_to_do():
  f = Feature("pt", transforms=(Transform("zscore"),))
  for use in (f.forward, f.inverse):
    with pytest.raises(ValueError, match=r"'pt' has a z-score without constants.*launch.ingest"):
      use(1.0)
  np.testing.assert_allclose(f.forward(5.0, 1.0, 2.0), 2.0)


def test_constants_must_exist_and_be_usable():
  schema = jet_schema("kin4")
  good = {f.name: (0.0, 1.0) for f in (*schema.features, *schema.targets)}
  with pytest.raises(ValueError, match="no z-score constants for 'pt'"):
    schema.fitted({k: v for k, v in good.items() if k != "pt"})
  for std in (0.0, math.nan, math.inf, -1.0):
    with pytest.raises(ValueError, match="cannot standardise"):
      schema.fitted({**good, "energy": (0.0, std)})


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Transform("zscor"), "'zscor' is unknown; the nearest is 'zscore'"),
    (lambda: Transform("clip", (1.0,)), "takes 2 arguments"),
    (lambda: Transform("categorical", (1.0,)), "at least two values"),
    (lambda: Feature("x", likelihood="cosin"), "'cosin' is unknown; the nearest is 'cosine'"),
    (lambda: Schema("s", (Feature("log_ptt", derived=True),)), "the nearest is 'log_pt'"),
    (lambda: Schema("s", (Feature("x"), Feature("x"))), r"\['x'\] appears twice"),
    (lambda: jet_schema("kinpdi"), "no input set 'kinpdi'; the nearest is 'kinpid'"),
    (
      lambda: feature(Transform("categorical", (0.0, 1.0)), Transform("log")),
      "categorical.*last",
    ),
  ],
)
def test_mistakes_name_the_nearest(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_values_follow_the_order_of_the_features_and_ignore_padding():
  schema = jet_schema("full")
  r = np.random.default_rng(4)
  momentum = r.normal(0, 20, (3, 8, 3))
  p4 = np.concatenate([np.linalg.norm(momentum, axis=-1, keepdims=True) + 1, momentum], -1)
  stored = r.normal(size=(3, 8, len(schema.stored)))
  mask = np.arange(8) < np.array([[8], [5], [1]])
  program = jax.jit(schema.values)
  values = np.asarray(program(p4, stored, mask))
  names = [f.name for f in schema.features]
  for i, name in enumerate(schema.stored):
    column = values[..., names.index(name)]
    np.testing.assert_allclose(column, np.where(mask, stored[..., i], 0), rtol=1e-6)
  relative = values[..., names.index("log_pt_rel")]
  jet = np.where(mask[..., None], p4, 0).sum(axis=1, keepdims=True)
  pt = np.hypot(p4[..., 1], p4[..., 2]) / np.hypot(jet[..., 1], jet[..., 2])
  np.testing.assert_allclose(relative[mask], np.log(pt)[mask], rtol=1e-4)
  garbage = np.where(mask[..., None], p4, np.nan), np.where(mask[..., None], stored, np.inf)
  np.testing.assert_array_equal(program(*garbage, mask), values)


def test_targets_join_derived_and_stored():
  schema = jet_schema("kin")
  p4 = np.array([[[50.0, 30.0, 0.0, 0.0], [60.0, -20.0, 10.0, 5.0]]])
  mask = np.ones((1, 2), bool)
  out = np.asarray(jax.jit(schema.target_values)(p4, np.array([[123.0]]), mask))
  assert [t.name for t in schema.targets] == ["mass", "seed_mass", "gen_mass"]
  np.testing.assert_allclose(out[0, 0], lorentz.mass(p4.sum(axis=1)[0]), rtol=1e-5)
  assert out[0, 2] == 123.0


def test_which_targets_an_event_has():
  """A stored 0 GeV is the mass of no jet; 0 of another unit, or of what is computed, is a value."""
  x = np.array([-3.0, 0.0, 2.0, np.nan, np.inf])
  computed = Feature("mass", "GeV", derived=True)
  for feature, zero in (
    (Feature("gen_mass", "GeV"), False),
    (Feature("n"), True),
    (computed, True),
  ):
    np.testing.assert_array_equal(feature.known(x), [True, zero, True, False, False])


def test_groups_are_the_detectors_in_order():
  assert jet_schema("full").groups == ("kinematics", "identification", "track")
  moved = dataclasses.replace(jet_schema("full").features[-1], group="vertex")
  schema = dataclasses.replace(jet_schema("kin"), features=(*jet_schema("kin").features, moved))
  assert schema.groups == ("kinematics", "vertex")
