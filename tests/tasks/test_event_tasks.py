"""Tasks on e+e- events: what is hidden cannot leak, views are physical, every edge is finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jetfm.models import Clear
from jetfm.models.foundation import FoundationModel
from jetfm.tasks import make_task
from jetfm.tasks.distortions import Distortion, neutral, smear, without
from jetfm.tasks.hiding import hidden_measurements, hidden_with, hide_measurements
from tests.compiled import lorentz
from tests.jpsi import column, event_schema, group_of, make_events
from tests.variables import initial

KEY = jax.random.key(5)
SCHEMA = event_schema()
OPTIONS = {
  "masked_features": {
    "object_ratio": 0.3,
    "group_ratio": 0.3,
    "components": 2,
    "head_options": {"widths": (16,)},
  },
  "supervised_contrastive": {"head_options": {"widths": (16, 8)}},
  "view_contrastive": {"head_options": {"widths": (16, 8)}},
  "classification": {"head_options": {"widths": (16,)}},
}
EVERY = pytest.mark.parametrize("name", OPTIONS)
COUNTS, LENGTH = (40, 33, 12, 6, 1), 40
"""Of one shape in all tests: each task is compiled once."""


def compiled(function):
  """Its values as NumPy's arrays."""
  program = jax.jit(function)
  return lambda *args: jax.tree.map(np.asarray, program(*args))


@functools.cache
def hiding(object_ratio, group_ratio):
  """batch -> its view, and the measurements that are targets."""

  def hide(batch):
    view = hide_measurements(KEY, batch, SCHEMA, object_ratio, group_ratio)
    return view, hidden_measurements(view, batch, SCHEMA)

  return compiled(hide)


def distorted(batch, **options):
  return compiled(lambda batch: Distortion(**options)(KEY, batch, SCHEMA))(batch)


class Run:
  """A task on a small encoder, and its compiled loss with gradients."""

  def __init__(self, name, dtype=None, width=16, depth=1, **options):
    self.task = make_task(name, SCHEMA, **OPTIONS[name] | options)
    encoder = Clear(
      SCHEMA, width=width, depth=depth, heads=2, mlp_ratio=2, embed_widths=(width,),
      pair_widths=(8,), class_depth=1, dtype=dtype,
    )  # fmt: skip
    self.model = FoundationModel(encoder, {name: self.task.head})

    def init(key, batch):
      return self.model.init(key, {name: self.task.views(KEY, batch, True)})

    self.variables = initial(init, jax.random.key(1), make_events((3, 2), 4))
    self.value_and_grad = jax.jit(jax.value_and_grad(self.loss))
    self.predictions = jax.jit(self.outputs)

  def outputs(self, params, batch, key=KEY):
    variables = self.variables | {"params": params}
    views = self.task.views(key, batch, True)
    encoded = {
      view: self.model.encode(variables, x, deterministic=True) for view, x in views.items()
    }
    outputs = self.model.head(
      self.task.name, variables, encoded, views, deterministic=True, key=key
    )
    return outputs, views

  def loss(self, params, batch, key=KEY):
    outputs, views = self.outputs(params, batch, key)
    statistics = self.task.statistics(outputs, views, batch)
    return self.task.loss(statistics, batch.weight, jnp.asarray(0))[0]


@functools.cache
def run_of(name, dtype):
  return Run(name, dtype=dtype)


def finite(tree):
  return all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(tree))


def edges():
  some = make_events(COUNTS, LENGTH)
  no_shower = some.present.copy()
  no_shower[..., [group_of(n) for n in ("emc_energy", "emc_secmom", "EoP")]] = False
  return {
    "up to forty objects": some,
    "one object": some.replace(mask=np.arange(LENGTH) < np.ones((len(COUNTS), 1))),
    "no calorimeter": some.replace(present=no_shower),
    "nothing measured": some.replace(present=np.zeros_like(some.present)),
    "extreme": some.replace(features=some.features * 1e6, p4=some.p4 * 1e-6),
    "tiny": some.replace(features=some.features * 1e-6),
    "one class": some.replace(label=np.zeros_like(some.label)),
  }


@pytest.mark.parametrize(
  "name, dtype", [*((name, None) for name in OPTIONS), ("masked_features", jnp.bfloat16)]
)
def test_edges_are_finite(name, dtype):
  run = run_of(name, dtype)
  for what, batch in edges().items():
    value, gradient = run.value_and_grad(run.variables["params"], batch)
    assert np.isfinite(value) and finite(gradient), what


@EVERY
def test_missing_values_change_no_bit(name):
  batch = make_events(COUNTS, LENGTH)
  of_feature = np.array([group_of(f) for f in SCHEMA.stored])
  missing = ~(batch.present & batch.mask[..., None])[..., of_feature]
  other = batch.replace(features=np.where(missing, np.float32(np.nan), batch.features))
  run = run_of(name, None)
  results = [run.value_and_grad(run.variables["params"], x) for x in (batch, other)]
  jax.tree.map(np.testing.assert_array_equal, *results)


def test_hidden_measurements_cannot_leak():
  """Other values under the mask, of the same ranks: no bit of any prediction changes."""
  run, batch = run_of("masked_features", None), make_events(COUNTS, LENGTH)
  outputs, views = run.predictions(run.variables["params"], batch)
  view = views[run.task.view]
  target = compiled(lambda *x: hidden_measurements(*x, SCHEMA))(view, batch)
  gone = target.any(axis=-1) | np.asarray(view.hidden_rank >= 0)
  assert gone[batch.mask].mean() > 0.3
  other = batch.replace(
    p4=np.where(gone[..., None], batch.p4 * np.float32([3, 1, 1, 1]), batch.p4),  # same pT
    features=np.where(target, 2 - 3 * batch.features, batch.features),
  )
  changed, _ = run.predictions(run.variables["params"], other)
  np.testing.assert_array_equal(changed.output.raw, outputs.output.raw)
  losses = [run.value_and_grad(run.variables["params"], x)[0] for x in (batch, other)]
  assert losses[0] != losses[1]  # but the targets did


def test_what_is_hidden_together():
  links, names = hidden_with(SCHEMA), ("mdc_p3_px", "emc_energy", "EoP", "emc_secmom", "muc_dpt")
  mdc, emc, ratio, moments, muon = (group_of(name) for name in names)
  assert links[mdc, ratio] and links[emc, ratio] and links[emc, moments]
  assert not links[ratio, mdc] and not links[mdc, emc] and not links[moments, emc]
  assert links.diagonal().all() and links[muon].sum() == 1


def test_a_quotient_of_visible_measurements_is_no_target():
  batch = make_events([12] * 64, 12)
  view, target = hiding(0.1, 0.3)(batch)
  names = [f.name for f in SCHEMA.features]
  ratio, mdc, emc = (names.index(name) for name in ("EoP", "mdc_p3_px", "emc_energy"))
  hidden = view.hidden_groups[..., group_of("EoP")]
  assert (hidden & ~target[..., ratio]).any() and (hidden & target[..., ratio]).any()
  assert not (target[..., ratio] & ~target[..., mdc] & ~target[..., emc]).any()


def test_masking_hides_what_it_says():
  batch = make_events([12] * 64, 12)
  view, target = hiding(0.25, 0.2)(batch)
  whole, groups = view.hidden_rank >= 0, view.hidden_groups
  assert (whole.sum(axis=1) >= 3).all()  # a quarter of 12, and those with nothing left
  assert not (groups & ~batch.present).any() and not (groups & whole[..., None]).any()
  assert not view.features[target].any()
  touched = whole | groups.any(axis=-1)
  np.testing.assert_array_equal(view.p4[~touched], batch.p4[~touched])
  assert not view.p4[touched].any()
  muons = batch.present[..., group_of("muc_dpt")] & ~whole
  assert groups[..., group_of("muc_dpt")][muons].mean() == pytest.approx(0.2, abs=0.08)
  # Without single groups, any encoder can take the view.
  assert hiding(0.25, 0.0)(batch)[0].hidden_groups is None


def test_the_draw_belongs_to_the_event_and_the_rank():
  batch = make_events((6, 9), 12)
  view, _ = hiding(0.3, 0.3)(batch)
  order = np.array([4, 2, 0, 5, 1, 3, 6, 7, 8, 9, 10, 11])
  moved = jax.tree.map(lambda x: x[1:], batch)
  again, _ = hiding(0.3, 0.3)(moved)
  np.testing.assert_array_equal(again.hidden_groups[0], view.hidden_groups[1])
  shuffled = jax.tree.map(lambda x: x[:, order] if x.ndim > 1 and x.shape[1] == 12 else x, batch)
  again, _ = hiding(0.3, 0.3)(shuffled)
  np.testing.assert_array_equal(again.hidden_groups[0], view.hidden_groups[0][order])


def test_rotation_turns_everything_that_points():
  batch = make_events((12,) * 4, 12)
  turned = distorted(batch, smear=0.0, drop=0.0)
  track = batch.present[..., group_of("mdc_p3_px")]
  shower = batch.present[..., group_of("emc_x")]

  def columns(batch, *names):
    return np.stack([batch.features[..., column(n)] for n in names], axis=-1)

  p3, place = (f"mdc_p3_p{x}" for x in "xyz"), ("emc_x", "emc_y")
  p3 = tuple(p3)
  np.testing.assert_allclose(columns(turned, *p3)[track], turned.p4[track][:, 1:], atol=1e-6)
  before, after = (np.arctan2(*columns(b, *place)[shower].T[::-1]) for b in (batch, turned))
  momentum = [np.arctan2(*b.p4[shower][:, [2, 1]].T) for b in (batch, turned)]
  turn = np.exp(1j * (after - before)), np.exp(1j * (momentum[1] - momentum[0]))
  np.testing.assert_allclose(*turn, atol=1e-5)
  assert np.abs(turn[0] - 1).max() > 0.1
  same = [n for n in SCHEMA.stored if n not in (*p3[:2], *place)]
  np.testing.assert_array_equal(columns(turned, *same), columns(batch, *same))


def test_smearing_keeps_masses_and_ratios(x64):
  batch = make_events((12,) * 4, 12, dtype=np.float64)
  rng = np.random.default_rng(0)
  track, shower = np.exp(rng.normal(0, 0.1, (2, 4, 12)))
  after = compiled(lambda *x: smear(*x, SCHEMA))(batch, track, shower)
  masses = [lorentz.mass_squared(x.p4) for x in (after, batch)]
  np.testing.assert_allclose(*masses, atol=1e-9)
  is_track = ~compiled(lambda batch: neutral(batch, SCHEMA))(batch)
  moved = after.features[..., column("mdc_p3_px")][is_track]
  np.testing.assert_allclose(moved, after.p4[..., 1][is_track], rtol=1e-12)
  both = batch.present[..., group_of("EoP")]
  values = {n: after.features[..., column(n)][both] for n in ("EoP", "emc_energy")}
  p = np.linalg.norm(after.p4[..., 1:], axis=-1)[both]
  np.testing.assert_allclose(values["EoP"], values["emc_energy"] / p, rtol=1e-10)


def test_lost_showers_close_ranks():
  batch = make_events(COUNTS, LENGTH)
  lost = np.random.default_rng(0).random(batch.mask.shape) < 0.4
  after = compiled(without)(batch, lost)
  for event in range(len(COUNTS)):
    kept = np.flatnonzero(batch.mask[event] & ~lost[event])
    np.testing.assert_array_equal(after.mask[event], np.arange(LENGTH) < len(kept))
    np.testing.assert_array_equal(after.p4[event, : len(kept)], batch.p4[event, kept])
  view = distorted(batch, rotate=False, smear=0.0, drop=0.9)
  tracks = batch.present[..., group_of("q")] & batch.mask
  assert (view.mask.sum(axis=1) >= np.maximum(tracks.sum(axis=1), 1)).all()
  lost_showers = batch.mask.sum() - view.mask.sum()
  assert lost_showers > 0.6 * (batch.mask & ~tracks).sum()


@pytest.mark.parametrize(
  "name, options, message",
  [
    ("masked_features", {"object_ratio": 0.0, "group_ratio": 0.0}, "not both 0"),
    ("masked_features", {"group_ratio": 1.0}, "fractions below 1"),
    ("supervised_contrastive", {"temperature": 0.0}, "positive"),
    ("view_contrastive", {"distortion": {"smaer": 0.1}}, "smaer"),
    ("view_contrastive", {"distortion": {"drop": 1.0}}, "drop"),
  ],
)
def test_impossible_options(name, options, message):
  with pytest.raises(ValueError, match=message):
    make_task(name, SCHEMA, **options)


def test_jet_encoders_refuse_hidden_groups():
  from jetfm.models import ParT

  view, _ = hiding(0.3, 0.3)(make_events((6, 9), 12))
  with pytest.raises(ValueError, match="kind 'clear'"):
    jax.eval_shape(ParT(SCHEMA, width=8, depth=1, heads=2).init, KEY, view)


# What 100 steps of Adam on 32 events must reach, from where the loss starts.
GOALS = {
  "masked_features": lambda first, last: last < first - 1.0,  # nats per measurement
  "supervised_contrastive": lambda first, last: last < first - 0.8,
  "view_contrastive": lambda first, last: last < first - 2.0,  # floor: 62 negatives on a sphere
  "classification": lambda first, last: last < 0.05,
}


@pytest.mark.slow
@EVERY
def test_overfits(name):
  batch = make_events(np.random.default_rng(0).integers(2, 10, 32), 10, seed=1)
  run = Run(name, width=32)
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 100))

  @jax.jit
  def step(params, state):
    loss, gradient = jax.value_and_grad(run.loss)(params, batch)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, loss

  params = run.variables["params"]
  state, losses = jax.jit(optimizer.init)(params), []
  for _ in range(100):
    params, state, loss = step(params, state)
    losses.append(float(loss))
  assert GOALS[name](losses[0], losses[-1]), losses[::20]
