"""Laws of single tasks: floors, targets, what counts, and errors that help."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.lorentz import (
  constituent_mass,
  jet_momentum,
  seed_mass,
  to_jet_frame,
  transverse_momentum,
)
from jetfm.models import Generated, ParticleCloud, physical_momenta, standardise_kinematics
from jetfm.tasks import TASKS, make_task
from jetfm.tasks.classification import place_of_label
from jetfm.tasks.heads import Predicted
from jetfm.tasks.regression import Estimate, true_values

KEY = jax.random.key(2)
COUNTS = [2, 5, 16, 9]
STEP = jnp.asarray(10**6)


def in_jet_frame(batch, seen):
  """Momenta of all particles and the matrix, in the frame of the particles that are seen."""
  jet = jet_momentum(batch.p4, seen)
  return to_jet_frame(batch.p4, batch.mask, jet=jet)


def loss_of(task, outputs, batch, views=None, step=STEP):
  views = task.views(KEY, batch, True) if views is None else views
  return task.loss(task.statistics(outputs, views, batch), batch.weight, step)


def metrics_of(task, outputs, batch):
  statistics = task.statistics(outputs, task.views(KEY, batch, False), batch)
  return {k: float(x[0] / x[1]) for k, x in task.metrics(statistics, batch.weight).items()}


# -- masked particles -------------------------------------------------------------------------


def masked_truth(task, batch):
  view = task.views(KEY, batch, True)[task.view]
  p4, frame = in_jet_frame(batch, view.mask & (view.hidden_rank < 0))
  return standardise_kinematics(p4), frame


@pytest.mark.parametrize("masking", ["random", "biased", "block"])
def test_masked_particles_floor(x64, jets, schema, masking):
  """At the truth the loss is (c_pT + c_E) 1e-4, metrics say that all variance is explained."""
  task = make_task("masked_particles", schema, masking=masking, mass_term=0.5)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth = Predicted(*masked_truth(task, batch))
  loss, terms = loss_of(task, truth, batch)
  assert float(loss) == pytest.approx(0.5e-4, rel=1e-3)
  assert float(terms["jet_mass"]) < 1e-7
  metrics = metrics_of(task, truth, batch)
  for name in ("pt", "eta", "phi", "energy"):
    assert metrics[f"{name}_gain"] == pytest.approx(1.0)


def test_masked_particles_gain_is_zero_for_the_mean(x64, jets, schema):
  task = make_task("masked_particles", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth, frame = masked_truth(task, batch)
  hidden = np.asarray(task.views(KEY, batch, True)[task.view].hidden_rank >= 0)
  mean = np.asarray(truth)[hidden].mean(axis=0)
  mean[2] = np.angle(np.exp(1j * np.asarray(truth)[hidden][:, 2]).mean())
  metrics = metrics_of(task, Predicted(jnp.broadcast_to(mean, truth.shape), frame), batch)
  for name in ("pt", "eta", "phi", "energy"):
    assert metrics[f"{name}_gain"] == pytest.approx(0.0, abs=1e-12)


def test_mass_of_a_masked_jet_is_that_of_all_its_particles(x64, jets, schema):
  task = make_task("masked_jet", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  total = jnp.where(batch.mask[..., None], batch.p4, 0).sum(axis=1)
  mass = jnp.sqrt(jnp.maximum(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(axis=1), 0))
  frame = jnp.broadcast_to(jnp.eye(4), (len(COUNTS), 4, 4))

  def found(prediction):
    outputs = Predicted(prediction[:, None], frame)
    return float(loss_of(task, outputs, batch)[0]), metrics_of(task, outputs, batch)

  truth = 2 * (jnp.log(1 + mass) - 4.6)
  loss, metrics = found(truth)
  assert loss < 1e-12 and metrics["mass_gain"] == pytest.approx(1.0)
  _, metrics = found(jnp.full_like(truth, truth.mean()))
  assert metrics["mass_gain"] == pytest.approx(0.0, abs=1e-12)


def test_masked_particles_predictions_lead_back_to_the_laboratory(x64, jets, schema):
  """The target with the frame of the visible rest is the hidden momentum, nothing less."""
  task = make_task("masked_particles", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth, frame = masked_truth(task, batch)
  back = jnp.einsum("bij,bnj->bni", jnp.linalg.inv(frame), physical_momenta(truth))
  np.testing.assert_allclose(
    np.asarray(back)[batch.mask], np.asarray(batch.p4)[batch.mask], rtol=1e-9, atol=1e-7
  )


@pytest.mark.parametrize("name", ["masked_particles", "masked_jet"])
def test_predictions_know_ranks_of_hidden_particles_only(jets, tiny_run, name):
  """Other hidden momenta of the same ranks: the same prediction, bit for bit."""
  run = tiny_run(name)
  batch = jets(COUNTS, 16)
  view = run.task.views(KEY, batch, True)[run.task.view]
  hidden = view.hidden_rank >= 0
  turned = batch.p4[..., jnp.array([0, 2, 1, 3])] * jnp.array([1.5, 1.0, -1.0, -3.0])
  other = batch.replace(
    p4=jnp.where(hidden[..., None], turned, batch.p4),
    features=jnp.where(hidden[..., None], -7.0, batch.features),
  )

  @jax.jit
  def predict(batch):
    outputs, _ = run.outputs(run.variables["params"], KEY, batch)
    return outputs

  assert not np.array_equal(other.p4, batch.p4)
  jax.tree.map(np.testing.assert_array_equal, predict(other), predict(batch))


def test_tasks_with_equal_views_share_them(jets, schema):
  batch = jets(COUNTS, 16)
  one = make_task("one", schema, kind="masked_particles", objective="mse_cosine")
  two = make_task("two", schema, kind="masked_particles", mass_term=1.0)
  other = make_task("masked_particles", schema, ratio=0.5)
  mass = make_task("masked_jet", schema)
  views = [task.views(KEY, batch, True) for task in (one, two, mass, other)]
  assert list(views[0]) == list(views[1]) == list(views[2]) != list(views[3])
  jax.tree.map(np.testing.assert_array_equal, views[0], views[1])
  jax.tree.map(np.testing.assert_array_equal, views[0], views[2])


# -- classification ---------------------------------------------------------------------------


def test_classification_floor_and_metrics(jets, schema):
  task = make_task("classification", schema)
  batch = jets(COUNTS, 16)
  right = jax.nn.one_hot(batch.label, 2) * 50
  identity = jnp.broadcast_to(jnp.eye(4), (4, 4, 4))
  assert float(loss_of(task, Predicted(right, identity), batch)[0]) < 1e-6
  assert metrics_of(task, Predicted(right, identity), batch)["accuracy"] == 1
  assert metrics_of(task, Predicted(-right, identity), batch)["accuracy"] == 0
  unlabelled = batch.replace(label=batch.label.at[:2].set(-1))
  wrong_there = right.at[:2].multiply(-1)
  assert metrics_of(task, Predicted(wrong_there, identity), unlabelled)["accuracy"] == 1


def test_place_of_label_is_that_in_a_stable_sort():
  logits = np.random.default_rng(0).integers(0, 4, size=(200, 6)).astype(np.float32)
  label = np.random.default_rng(1).integers(0, 6, 200)
  order = np.argsort(-logits, axis=-1, kind="stable")
  want = (order == label[:, None]).argmax(axis=-1)
  np.testing.assert_array_equal(place_of_label(logits, label), want)


def test_a_diverged_model_is_never_right():
  assert int(place_of_label(jnp.full((1, 5), jnp.nan), jnp.asarray([0]))[0]) == 4


# -- regression -------------------------------------------------------------------------------


def regression_outputs(task, batch, shift=0.0):
  targets = task.head.inner.targets
  physical = true_values(task.schema, targets, batch)
  scale = jnp.asarray([t.std for t in targets])
  mean = jnp.asarray([t.mean for t in targets])
  standardised = (physical - mean) / scale
  return Predicted(
    Estimate(standardised + shift, physical + shift * scale, standardised), jnp.eye(4)
  )


def test_regression_targets_are_those_of_the_schema_by_name(x64, jets, schema):
  task = make_task("regression", schema, targets=("gen_mass", "seed_mass", "mass"))
  batch = jets(COUNTS, 16, dtype=np.float64)
  values = true_values(schema, task.head.inner.targets, batch)
  np.testing.assert_array_equal(values[:, 0], batch.targets[:, 0])
  np.testing.assert_allclose(values[:, 1], seed_mass(batch.p4, batch.mask))
  np.testing.assert_allclose(values[:, 2], constituent_mass(batch.p4, batch.mask))


@pytest.mark.parametrize("error", ["mse", "mae", "huber"])
def test_regression_floor_and_metrics(x64, jets, schema, error):
  task = make_task("regression", schema, targets=("mass", "gen_mass"), error=error)
  batch = jets(COUNTS, 16, dtype=np.float64)
  assert float(loss_of(task, regression_outputs(task, batch), batch)[0]) == 0
  assert float(loss_of(task, regression_outputs(task, batch, 0.1), batch)[0]) > 0
  metrics = metrics_of(task, regression_outputs(task, batch, 0.1), batch)
  std = {t.name: t.std for t in schema.targets}
  for target in ("mass", "gen_mass"):
    assert metrics[f"{target}/mae"] == pytest.approx(0.1)
    assert metrics[f"{target}/mse_physical"] == pytest.approx((0.1 * std[target]) ** 2)
  true = (np.asarray(batch.targets[:, 0]) - 80) / std["gen_mass"]
  spread = metrics["gen_mass/mean_square"] - metrics["gen_mass/mean"] ** 2
  assert spread == pytest.approx(true.var())


@pytest.mark.parametrize("missing", [np.nan, 0.0])
def test_regression_leaves_out_targets_that_are_not_there(x64, jets, schema, missing):
  task = make_task("regression", schema, targets=("gen_mass",))
  batch = jets(COUNTS, 16, dtype=np.float64)
  partial = batch.replace(targets=batch.targets.at[1].set(missing))
  expected = loss_of(
    task,
    regression_outputs(task, batch, jnp.asarray([[0.1], [0.0], [0.3], [0.5]])),
    batch.replace(weight=batch.weight.at[1].set(0)),
  )[0]
  outputs = regression_outputs(task, partial, jnp.asarray([[0.1], [9.0], [0.3], [0.5]]))
  assert float(loss_of(task, outputs, partial)[0]) == pytest.approx(float(expected), rel=1e-12)


# -- generation and super-resolution ----------------------------------------------------------


def true_cloud(batch, seen, slots):
  """The right answer of both tasks: momenta by falling pT, and sure logits."""
  p4, frame = in_jet_frame(batch, seen)
  order = np.argsort(np.where(batch.mask, -np.asarray(transverse_momentum(batch.p4)), np.inf))
  p4 = np.take_along_axis(np.asarray(p4), order[..., None], axis=1)
  p4 = np.pad(p4, [(0, 0), (0, max(0, slots - p4.shape[1])), (0, 0)])[:, :slots]
  exists = np.arange(slots) < np.asarray(batch.mask.sum(axis=-1))[:, None]
  return ParticleCloud(standardise_kinematics(p4), jnp.where(exists, 40.0, -40.0)), frame


def shuffled(batch, seed=0):
  order = np.random.default_rng(seed).permutation(batch.length)
  names = ("p4", "features", "present", "mask")
  return batch.replace(**{name: getattr(batch, name)[:, order] for name in names})


def super_resolution_truth(task, batch):
  seen = task.views(KEY, batch, True)[task.view]
  hardest = np.asarray(transverse_momentum(seen.p4)).min(
    axis=-1, where=np.asarray(seen.mask), initial=np.inf
  )
  given = np.asarray(batch.mask & (transverse_momentum(batch.p4) >= hardest[:, None]))
  return Predicted(*true_cloud(batch, given, task.particles))


@pytest.mark.parametrize("distance", ["matched", "chamfer", "angular"])
@pytest.mark.parametrize("slots", [12, 20])
def test_super_resolution_floor(x64, jets, schema, distance, slots):
  """Targets are sorted by pT, whatever the order of the particles, and cut at the slots."""
  task = make_task("super_resolution", schema, given=4, particles=slots, distance=distance)
  batch = shuffled(jets(COUNTS, 16, dtype=np.float64))
  truth = super_resolution_truth(task, batch)
  assert float(loss_of(task, truth, batch)[0]) < 1e-15
  metrics = metrics_of(task, truth, batch)
  assert metrics["direction_chamfer"] < 1e-15 and metrics["pt_emd"] < 1e-9
  lost = np.maximum(np.array(COUNTS) - slots, 0) / np.array(COUNTS)
  assert metrics["multiplicity_error"] == pytest.approx(lost.mean(), abs=1e-12)


def test_angular_is_blind_to_the_order_of_directions_only(x64, jets, schema):
  batch = jets([16, 16], 16, dtype=np.float64)
  order = np.random.default_rng(0).permutation(16)
  task = make_task("super_resolution", schema, given=4, particles=16, distance="angular")
  truth = super_resolution_truth(task, batch)
  kinematics = truth.output.kinematics

  def loss_with(columns):
    moved = kinematics.at[..., columns].set(kinematics[:, order][..., columns])
    cloud = truth.output.replace(kinematics=moved)
    return float(loss_of(task, truth.replace(output=cloud), batch)[0])

  assert loss_with(jnp.array([1, 2])) < 1e-12
  assert min(loss_with(jnp.array([column])) for column in range(4)) > 1e-2


def test_chamfer_is_blind_to_order_and_matched_is_not(x64, jets, schema):
  batch = jets([16, 16], 16, dtype=np.float64)
  order = np.random.default_rng(0).permutation(16)
  loss = {}
  for distance in ("matched", "chamfer"):
    task = make_task("super_resolution", schema, given=4, particles=16, distance=distance)
    truth = super_resolution_truth(task, batch)
    cloud = truth.output
    moved = truth.replace(output=cloud.replace(kinematics=cloud.kinematics[:, order]))
    loss[distance] = float(loss_of(task, moved, batch)[0])
  assert loss["chamfer"] < 1e-15 and loss["matched"] > 0.1


@pytest.mark.parametrize("given", [4, 30])
def test_super_resolution_sees_its_leading_particles_only(jets, schema, given):
  task = make_task("super_resolution", schema, given=given)
  batch = shuffled(jets(COUNTS, 16))
  view = task.views(KEY, batch, True)[task.view]
  assert view.length == given
  pt = np.where(view.mask, transverse_momentum(view.p4), -1)
  assert (np.diff(pt, axis=-1) <= 0).all()
  soft = np.asarray(transverse_momentum(batch.p4) < pt[:, -1:]) & np.asarray(batch.mask)
  without = batch.replace(p4=jnp.where(soft[..., None], 0.5 * batch.p4, batch.p4))
  jax.tree.map(np.testing.assert_array_equal, task.views(KEY, without, True)[task.view].p4, view.p4)
  assert soft.any() == (given == 4)


def generated(task, batch, mean, log_variance):
  cloud, frame = true_cloud(batch, batch.mask, task.particles)
  shape = (batch.num_events, task.latent)
  return Predicted(
    Generated(cloud, jnp.broadcast_to(mean, shape), jnp.broadcast_to(log_variance, shape)), frame
  )


def test_generation_floor_is_the_truth_at_the_prior(x64, jets, schema):
  task = make_task("generation", schema, particles=20, latent=3)
  batch = shuffled(jets(COUNTS, 16, dtype=np.float64))
  assert float(loss_of(task, generated(task, batch, 0.0, 0.0), batch)[0]) < 1e-15
  assert metrics_of(task, generated(task, batch, 0.0, 0.0), batch)["kl"] == 0
  assert float(loss_of(task, generated(task, batch, 0.5, -1.0), batch)[0]) > 1e-3


def test_generation_kl_counts_single_numbers_and_warms_up(x64, jets, schema):
  """At the true cloud only beta(step) KL / (4 <n>) is left."""
  task = make_task("generation", schema, particles=20, latent=3, beta=0.7, warm_up_steps=100)
  batch = jets(COUNTS, 16, dtype=np.float64)
  outputs = generated(task, batch, 0.5, -1.0)
  kl = 3 * 0.5 * (0.25 + np.exp(-1) - 1 + 1)
  for step, factor in ((0, 0.0), (50, 0.5), (100, 1.0), (500, 1.0)):
    loss, terms = loss_of(task, outputs, batch, step=jnp.asarray(step))
    assert float(loss) == pytest.approx(0.7 * factor * kl / (4 * np.mean(COUNTS)), abs=1e-12)
    assert float(terms["kl"]) == pytest.approx(kl)


def test_free_bits_cost_nothing_below_their_level(x64, jets, schema):
  batch = jets(COUNTS, 16, dtype=np.float64)
  task = make_task("generation", schema, particles=20, latent=3, free_bits=1.0)
  loss = [
    float(loss_of(task, generated(task, batch, mean, 0.0), batch)[0]) for mean in (0.0, 0.5, 3.0)
  ]
  assert loss[0] == loss[1] < loss[2]


# -- registry ---------------------------------------------------------------------------------


def test_unknown_names_suggest_the_nearest(schema):
  with pytest.raises(ValueError, match="nearest is 'super_resolution'"):
    make_task("superresolution", schema)
  with pytest.raises(ValueError, match="nearest is 'smoothing'"):
    make_task("classification", schema, smooting=0.1)
  with pytest.raises(ValueError, match="gen_mass"):
    make_task("regression", schema, targets=("genmass",))


@pytest.mark.parametrize(
  ("kind", "options"),
  [
    ("masked_particles", {"ratio": 1.5}),
    ("masked_particles", {"objective": "mse"}),
    ("masked_jet", {"ratio": 0.0}),
    ("masked_particles", {"coefficients": {"pt": -1.0}}),
    ("regression", {"error": "l2"}),
    ("regression", {"targets": ()}),
    ("generation", {"condition": "class"}),
    ("generation", {"beta": -1.0}),
    ("super_resolution", {"given": 200}),
    ("super_resolution", {"distance": "emd"}),
  ],
)
def test_impossible_options_are_refused_at_once(schema, kind, options):
  with pytest.raises(ValueError, match=r"expected|must"):
    make_task(kind, schema, **options)


def test_classification_needs_classes(schema):
  with pytest.raises(ValueError, match="at least two classes"):
    make_task("classification", dataclasses.replace(schema, classes=()))


@pytest.mark.parametrize("name", TASKS)
def test_names_are_the_registry_unless_given(schema, name):
  assert make_task(name, schema).name == name
  assert make_task("other", schema, kind=name).name == "other"
