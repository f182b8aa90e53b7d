"""Laws of single tasks: floors, targets, what counts, and errors that help."""

import dataclasses

import jax
import numpy as np
import pytest

from jetfm.tasks import TASKS, make_task
from jetfm.tasks.classification import place_of_label
from jetfm.tasks.heads import Predicted
from jetfm.tasks.regression import Estimate, true_values
from tests.compiled import lorentz, physical_momenta, standardise_kinematics
from tests.tasks.judged import KEY, Judged, in_jet_frame

COUNTS = [2, 5, 16, 9]

values_of = jax.jit(true_values, static_argnums=(0, 1))


# -- masked particles -------------------------------------------------------------------------


def masked_truth(task, batch):
  view = task.view(batch)
  p4, frame = in_jet_frame(batch, view.mask & (view.hidden_rank < 0))
  return np.asarray(standardise_kinematics(p4)), frame


@pytest.mark.parametrize("masking", ["random", "biased", "block"])
def test_masked_particles_floor(x64, jets, schema, masking):
  """At the truth the loss is (c_pT + c_E) 1e-4, metrics say that all variance is explained."""
  task = Judged("masked_particles", schema, masking=masking, mass_term=0.5)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth = Predicted(*masked_truth(task, batch))
  loss, terms = task.loss(truth, batch)
  assert loss == pytest.approx(0.5e-4, rel=1e-3)
  assert terms["jet_mass"] < 1e-7
  metrics = task.metrics(truth, batch)
  for name in ("pt", "eta", "phi", "energy"):
    assert metrics[f"{name}_gain"] == pytest.approx(1.0)


def test_masked_particles_gain_is_zero_for_the_mean(x64, jets, schema):
  task = Judged("masked_particles", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth, frame = masked_truth(task, batch)
  hidden = task.view(batch).hidden_rank >= 0
  mean = truth[hidden].mean(axis=0)
  mean[2] = np.angle(np.exp(1j * truth[hidden][:, 2]).mean())
  metrics = task.metrics(Predicted(np.broadcast_to(mean, truth.shape), frame), batch)
  for name in ("pt", "eta", "phi", "energy"):
    assert metrics[f"{name}_gain"] == pytest.approx(0.0, abs=1e-12)


def test_mass_of_a_masked_jet_is_that_of_all_its_particles(x64, jets, schema):
  task = Judged("masked_jet", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  total = np.where(batch.mask[..., None], batch.p4, 0).sum(axis=1)
  mass = np.sqrt(np.maximum(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(axis=1), 0))
  frame = np.broadcast_to(np.eye(4), (len(COUNTS), 4, 4))

  def found(prediction):
    outputs = Predicted(prediction[:, None], frame)
    return task.loss(outputs, batch)[0], task.metrics(outputs, batch)

  truth = 2 * (np.log(1 + mass) - 4.6)
  loss, metrics = found(truth)
  assert loss < 1e-12 and metrics["mass_gain"] == pytest.approx(1.0)
  _, metrics = found(np.full_like(truth, truth.mean()))
  assert metrics["mass_gain"] == pytest.approx(0.0, abs=1e-12)


def test_masked_particles_predictions_lead_back_to_the_laboratory(x64, jets, schema):
  """The target with the frame of the visible rest is the hidden momentum, nothing less."""
  task = Judged("masked_particles", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth, frame = masked_truth(task, batch)
  back = np.einsum("bij,bnj->bni", np.linalg.inv(frame), physical_momenta(truth))
  np.testing.assert_allclose(back[batch.mask], batch.p4[batch.mask], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("name", ["masked_particles", "masked_jet", "masked_directions"])
def test_predictions_know_ranks_of_hidden_particles_only(jets, tiny_run, name):
  """Other hidden momenta of the same ranks: the same prediction, bit for bit."""
  run = tiny_run(name)
  batch = jets(COUNTS, 16)

  @jax.jit
  def predict(batch):
    return run.outputs(run.variables["params"], KEY, batch)

  outputs, views = predict(batch)
  hidden = np.asarray(views[run.task.view].hidden_rank) >= 0
  turned = batch.p4[..., [0, 2, 1, 3]] * np.float32([1.5, 1.0, -1.0, -3.0])
  other = batch.replace(
    p4=np.where(hidden[..., None], turned, batch.p4),
    features=np.where(hidden[..., None], np.float32(-7.0), batch.features),
  )
  assert not np.array_equal(other.p4, batch.p4)
  changed, _ = predict(other)
  jax.tree.map(np.testing.assert_array_equal, changed, outputs)


def test_tasks_with_equal_views_share_them(jets, schema):
  batch = jets(COUNTS, 16)
  one = make_task("one", schema, kind="masked_particles", objective="mse_cosine")
  two = make_task("two", schema, kind="masked_particles", mass_term=1.0)
  other = make_task("masked_particles", schema, ratio=0.5)
  alike = one, two, make_task("masked_jet", schema), make_task("masked_directions", schema)
  views = jax.jit(lambda x: [task.views(KEY, x, True) for task in (*alike, other)])(batch)
  for same in views[1:4]:
    assert list(same) == list(views[0])
    jax.tree.map(np.testing.assert_array_equal, same, views[0])
  assert list(views[4]) != list(views[0])


# -- classification ---------------------------------------------------------------------------


def test_classification_floor_and_metrics(jets, schema):
  task = Judged("classification", schema)
  batch = jets(COUNTS, 16)
  right = 50 * np.eye(2, dtype=np.float32)[batch.label]
  identity = np.broadcast_to(np.eye(4, dtype=np.float32), (4, 4, 4))
  assert task.loss(Predicted(right, identity), batch)[0] < 1e-6
  assert task.metrics(Predicted(right, identity), batch)["accuracy"] == 1
  assert task.metrics(Predicted(-right, identity), batch)["accuracy"] == 0
  first = np.arange(4) < 2
  unlabelled = batch.replace(label=np.where(first, np.int32(-1), batch.label))
  wrong_there = np.where(first[:, None], -right, right)
  assert task.metrics(Predicted(wrong_there, identity), unlabelled)["accuracy"] == 1


def test_place_of_label_is_that_in_a_stable_sort():
  logits = np.random.default_rng(0).integers(0, 4, size=(200, 6)).astype(np.float32)
  label = np.random.default_rng(1).integers(0, 6, 200)
  order = np.argsort(-logits, axis=-1, kind="stable")
  want = (order == label[:, None]).argmax(axis=-1)
  np.testing.assert_array_equal(jax.jit(place_of_label)(logits, label), want)


def test_a_diverged_model_is_never_right():
  assert jax.jit(place_of_label)(np.full((1, 5), np.nan), np.array([0])).tolist() == [4]


# -- regression -------------------------------------------------------------------------------


def regression_outputs(task, batch, shift=0.0):
  targets = task.task.head.inner.targets
  physical = np.asarray(values_of(task.task.schema, targets, batch))
  scale = np.array([t.std for t in targets])
  mean = np.array([t.mean for t in targets])
  standardised = (physical - mean) / scale
  return Predicted(
    Estimate(standardised + shift, physical + shift * scale, standardised), np.eye(4)
  )


def test_regression_targets_are_those_of_the_schema_by_name(x64, jets, schema):
  task = make_task("regression", schema, targets=("gen_mass", "seed_mass", "mass"))
  batch = jets(COUNTS, 16, dtype=np.float64)
  values = np.asarray(values_of(schema, task.head.inner.targets, batch))
  np.testing.assert_array_equal(values[:, 0], batch.targets[:, 0])
  np.testing.assert_allclose(values[:, 1], lorentz.seed_mass(batch.p4, batch.mask))
  np.testing.assert_allclose(values[:, 2], lorentz.constituent_mass(batch.p4, batch.mask))


@pytest.mark.parametrize("error", ["mse", "mae", "huber"])
def test_regression_floor_and_metrics(x64, jets, schema, error):
  task = Judged("regression", schema, targets=("mass", "gen_mass"), error=error)
  batch = jets(COUNTS, 16, dtype=np.float64)
  assert task.loss(regression_outputs(task, batch), batch)[0] == 0
  assert task.loss(regression_outputs(task, batch, 0.1), batch)[0] > 0
  metrics = task.metrics(regression_outputs(task, batch, 0.1), batch)
  std = {t.name: t.std for t in schema.targets}
  for target in ("mass", "gen_mass"):
    assert metrics[f"{target}/mae"] == pytest.approx(0.1)
    assert metrics[f"{target}/mse_physical"] == pytest.approx((0.1 * std[target]) ** 2)
  true = (batch.targets[:, 0] - 80) / std["gen_mass"]
  spread = metrics["gen_mass/mean_square"] - metrics["gen_mass/mean"] ** 2
  assert spread == pytest.approx(true.var())


@pytest.mark.parametrize("missing", [np.nan, 0.0])
def test_regression_leaves_out_targets_that_are_not_there(x64, jets, schema, missing):
  task = Judged("regression", schema, targets=("gen_mass",))
  batch = jets(COUNTS, 16, dtype=np.float64)
  second = np.arange(4) == 1
  partial = batch.replace(targets=np.where(second[:, None], missing, batch.targets))
  expected, _ = task.loss(
    regression_outputs(task, batch, np.array([[0.1], [0.0], [0.3], [0.5]])),
    batch.replace(weight=np.where(second, 0, batch.weight)),
  )
  outputs = regression_outputs(task, partial, np.array([[0.1], [9.0], [0.3], [0.5]]))
  assert task.loss(outputs, partial)[0] == pytest.approx(expected, rel=1e-12)


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
    ("masked_particles", {"mass_term": -1.0}),
    ("masked_jet", {"ratio": 0.0}),
    ("masked_particles", {"coefficients": {"pt": -1.0}}),
    ("regression", {"error": "l2"}),
    ("regression", {"targets": ()}),
    ("regression", {"targets": ("mass", "mass")}),
    ("regression", {"error": "huber", "delta": -1.0}),
    ("classification", {"smoothing": 2.0}),
    ("generation", {"condition": "class"}),
    ("generation", {"beta": -1.0}),
    ("generation", {"particles": 0}),
    ("generation", {"latent": 0}),
    ("super_resolution", {"given": 200}),
    ("super_resolution", {"distance": "emd"}),
    ("super_resolution", {"jet_term": -1.0}),
    ("super_resolution", {"phi_scale": -1.0}),
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
