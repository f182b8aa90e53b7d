"""Laws of single tasks: floors, targets, what counts, and errors that help."""

import dataclasses

import jax
import numpy as np
import pytest

from jetfm.models import Generated, ParticleCloud
from jetfm.tasks import TASKS, make_task
from jetfm.tasks.classification import place_of_label
from jetfm.tasks.heads import Predicted
from jetfm.tasks.regression import Estimate, true_values
from tests.compiled import lorentz, physical_momenta, standardise_kinematics

KEY = jax.random.key(2)
COUNTS = [2, 5, 16, 9]

values_of = jax.jit(true_values, static_argnums=(0, 1))


class Compiled:
  """A task as two programs: its views, and what it says of outputs."""

  def __init__(self, kind, schema, **options):
    self.task = task = make_task(kind, schema, **options)
    self._views = jax.jit(lambda batch: [task.views(KEY, batch, train) for train in (True, False)])

    @jax.jit
    def judge(outputs, views, batch, step):
      seen, tested = (task.statistics(outputs, x, batch) for x in views)
      return task.loss(seen, batch.weight, step), task.metrics(tested, batch.weight)

    self._judge = judge

  def view(self, batch):
    """What the encoder sees in training."""
    return jax.tree.map(np.asarray, self._views(batch)[0][self.task.view])

  def loss(self, outputs, batch, step=10**6):
    """The loss, and its terms."""
    (loss, terms), _ = self._judge(outputs, self._views(batch), batch, step)
    return float(loss), {name: float(x) for name, x in terms.items()}

  def metrics(self, outputs, batch, step=10**6):
    _, metrics = self._judge(outputs, self._views(batch), batch, step)
    return {name: float(np.divide(*np.asarray(x))) for name, x in metrics.items()}


def in_jet_frame(batch, seen):
  """Momenta of all particles and the matrix, in the frame of the particles that are seen."""
  jet = lorentz.jet_momentum(batch.p4, seen)
  return map(np.asarray, lorentz.to_jet_frame(batch.p4, batch.mask, jet=jet))


# -- masked particles -------------------------------------------------------------------------


def masked_truth(task, batch):
  view = task.view(batch)
  p4, frame = in_jet_frame(batch, view.mask & (view.hidden_rank < 0))
  return np.asarray(standardise_kinematics(p4)), frame


@pytest.mark.parametrize("masking", ["random", "biased", "block"])
def test_masked_particles_floor(x64, jets, schema, masking):
  """At the truth the loss is (c_pT + c_E) 1e-4, metrics say that all variance is explained."""
  task = Compiled("masked_particles", schema, masking=masking, mass_term=0.5)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth = Predicted(*masked_truth(task, batch))
  loss, terms = task.loss(truth, batch)
  assert loss == pytest.approx(0.5e-4, rel=1e-3)
  assert terms["jet_mass"] < 1e-7
  metrics = task.metrics(truth, batch)
  for name in ("pt", "eta", "phi", "energy"):
    assert metrics[f"{name}_gain"] == pytest.approx(1.0)


def test_masked_particles_gain_is_zero_for_the_mean(x64, jets, schema):
  task = Compiled("masked_particles", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth, frame = masked_truth(task, batch)
  hidden = task.view(batch).hidden_rank >= 0
  mean = truth[hidden].mean(axis=0)
  mean[2] = np.angle(np.exp(1j * truth[hidden][:, 2]).mean())
  metrics = task.metrics(Predicted(np.broadcast_to(mean, truth.shape), frame), batch)
  for name in ("pt", "eta", "phi", "energy"):
    assert metrics[f"{name}_gain"] == pytest.approx(0.0, abs=1e-12)


def test_mass_of_a_masked_jet_is_that_of_all_its_particles(x64, jets, schema):
  task = Compiled("masked_jet", schema)
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
  task = Compiled("masked_particles", schema)
  batch = jets(COUNTS, 16, dtype=np.float64)
  truth, frame = masked_truth(task, batch)
  back = np.einsum("bij,bnj->bni", np.linalg.inv(frame), physical_momenta(truth))
  np.testing.assert_allclose(back[batch.mask], batch.p4[batch.mask], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("name", ["masked_particles", "masked_jet"])
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
  mass = make_task("masked_jet", schema)
  views = jax.jit(lambda x: [task.views(KEY, x, True) for task in (one, two, mass, other)])(batch)
  assert list(views[0]) == list(views[1]) == list(views[2]) != list(views[3])
  jax.tree.map(np.testing.assert_array_equal, views[0], views[1])
  jax.tree.map(np.testing.assert_array_equal, views[0], views[2])


# -- classification ---------------------------------------------------------------------------


def test_classification_floor_and_metrics(jets, schema):
  task = Compiled("classification", schema)
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
  task = Compiled("regression", schema, targets=("mass", "gen_mass"), error=error)
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
  task = Compiled("regression", schema, targets=("gen_mass",))
  batch = jets(COUNTS, 16, dtype=np.float64)
  second = np.arange(4) == 1
  partial = batch.replace(targets=np.where(second[:, None], missing, batch.targets))
  expected, _ = task.loss(
    regression_outputs(task, batch, np.array([[0.1], [0.0], [0.3], [0.5]])),
    batch.replace(weight=np.where(second, 0, batch.weight)),
  )
  outputs = regression_outputs(task, partial, np.array([[0.1], [9.0], [0.3], [0.5]]))
  assert task.loss(outputs, partial)[0] == pytest.approx(expected, rel=1e-12)


# -- generation and super-resolution ----------------------------------------------------------


def true_cloud(batch, seen, slots):
  """The right answer of both tasks: momenta by falling pT, and sure logits."""
  p4, frame = in_jet_frame(batch, seen)
  order = np.argsort(
    np.where(batch.mask, -np.asarray(lorentz.transverse_momentum(batch.p4)), np.inf)
  )
  p4 = np.take_along_axis(p4, order[..., None], axis=1)
  p4 = np.pad(p4, [(0, 0), (0, max(0, slots - p4.shape[1])), (0, 0)])[:, :slots]
  exists = np.arange(slots) < batch.mask.sum(axis=-1)[:, None]
  kinematics = np.asarray(standardise_kinematics(p4))
  return ParticleCloud(kinematics, np.where(exists, 40.0, -40.0)), frame


def shuffled(batch, seed=0):
  order = np.random.default_rng(seed).permutation(batch.length)
  names = ("p4", "features", "present", "mask")
  return batch.replace(**{name: getattr(batch, name)[:, order] for name in names})


def super_resolution_truth(task, batch):
  seen = task.view(batch)
  hardest = np.asarray(lorentz.transverse_momentum(seen.p4)).min(
    axis=-1, where=seen.mask, initial=np.inf
  )
  given = batch.mask & (np.asarray(lorentz.transverse_momentum(batch.p4)) >= hardest[:, None])
  return Predicted(*true_cloud(batch, given, task.task.particles))


@pytest.mark.parametrize("distance", ["matched", "chamfer", "angular"])
@pytest.mark.parametrize("slots", [12, 20])
def test_super_resolution_floor(x64, jets, schema, distance, slots):
  """Targets are sorted by pT, whatever the order of the particles, and cut at the slots."""
  task = Compiled("super_resolution", schema, given=4, particles=slots, distance=distance)
  batch = shuffled(jets(COUNTS, 16, dtype=np.float64))
  truth = super_resolution_truth(task, batch)
  assert task.loss(truth, batch)[0] < 1e-15
  metrics = task.metrics(truth, batch)
  assert metrics["direction_chamfer"] < 1e-15 and metrics["pt_emd"] < 1e-9
  lost = np.maximum(np.array(COUNTS) - slots, 0) / np.array(COUNTS)
  assert metrics["multiplicity_error"] == pytest.approx(lost.mean(), abs=1e-12)


def test_angular_is_blind_to_the_order_of_directions_only(x64, jets, schema):
  batch = jets([16, 16], 16, dtype=np.float64)
  order = np.random.default_rng(0).permutation(16)
  task = Compiled("super_resolution", schema, given=4, particles=16, distance="angular")
  truth = super_resolution_truth(task, batch)
  kinematics = truth.output.kinematics

  def loss_with(columns):
    moved = np.where(np.isin(np.arange(4), columns), kinematics[:, order], kinematics)
    cloud = truth.output.replace(kinematics=moved)
    return task.loss(truth.replace(output=cloud), batch)[0]

  assert loss_with([1, 2]) < 1e-12
  assert min(loss_with([column]) for column in range(4)) > 1e-2


def test_chamfer_is_blind_to_order_and_matched_is_not(x64, jets, schema):
  batch = jets([16, 16], 16, dtype=np.float64)
  order = np.random.default_rng(0).permutation(16)
  loss = {}
  for distance in ("matched", "chamfer"):
    task = Compiled("super_resolution", schema, given=4, particles=16, distance=distance)
    truth = super_resolution_truth(task, batch)
    cloud = truth.output
    moved = truth.replace(output=cloud.replace(kinematics=cloud.kinematics[:, order]))
    loss[distance] = task.loss(moved, batch)[0]
  assert loss["chamfer"] < 1e-15 and loss["matched"] > 0.1


def test_the_jet_term_is_of_the_sum_of_the_particles(x64, jets, schema):
  """Blind to their order, and the square of ln k when all momenta are k times too large."""
  counts = [9, 1, 16, 5]
  batch = jets(counts, 16, dtype=np.float64)
  task = Compiled("super_resolution", schema, given=1, particles=16, jet_term=0.7)
  plain = Compiled("super_resolution", schema, given=1, particles=16)
  truth = super_resolution_truth(task, batch)

  def found(momenta):
    cloud = truth.output.replace(kinematics=np.asarray(standardise_kinematics(momenta)))
    (loss, terms), (without, _) = (
      t.loss(truth.replace(output=cloud), batch) for t in (task, plain)
    )
    assert loss - without == pytest.approx(0.7 * (terms["jet_pt"] + terms["jet_mass"]))
    return terms

  momenta = physical_momenta(truth.output.kinematics)
  jet = np.stack([p4[:n].sum(axis=0) for p4, n in zip(momenta, counts, strict=True)])
  m2 = np.maximum(jet[:, 0] ** 2 - (jet[:, 1:] ** 2).sum(axis=-1), 0)
  pt = np.hypot(jet[:, 1], jet[:, 2])
  k = 1.3
  terms = found(k * np.asarray(momenta))
  assert terms["jet_pt"] == pytest.approx(np.mean(np.log((k * pt + 10) / (pt + 10)) ** 2))
  ratios = np.arcsinh(k**2 * m2 / 100) - np.arcsinh(m2 / 100)
  assert terms["jet_mass"] == pytest.approx(np.mean((ratios / 2) ** 2), rel=1e-6)
  orders = [np.r_[np.random.default_rng(0).permutation(n), n:16] for n in counts]
  moved = np.stack([p4[order] for p4, order in zip(momenta, orders, strict=True)])
  terms = found(moved)
  assert max(terms["jet_pt"], terms["jet_mass"]) < 1e-20


@pytest.mark.parametrize("rapidity", [0.0, 3.0, -4.0])
def test_a_perfect_cloud_is_a_perfect_jet_far_along_the_beam_too(x64, jets, schema, rapidity):
  """Momenta of predictions are bounded, true ones are not touched: in the laboratory's frame."""
  batch = jets([9, 1], 16, dtype=np.float64)
  boost = np.eye(4)
  boost[[0, 3], [0, 3]], boost[[0, 3], [3, 0]] = np.cosh(rapidity), np.sinh(rapidity)
  batch = batch.replace(p4=batch.p4 @ boost)
  task = Compiled("super_resolution", schema, given=1, particles=16, jet_term=1.0)
  frame = np.broadcast_to(np.eye(4), (2, 4, 4))
  cloud = ParticleCloud(
    np.asarray(standardise_kinematics(batch.p4)), np.where(batch.mask, 40.0, -40.0)
  )
  _, terms = task.loss(Predicted(cloud, frame), batch)
  assert terms["jet_pt"] < 1e-20 and terms["jet_mass"] < 1e-9


@pytest.mark.parametrize("given", [4, 30])
def test_super_resolution_sees_its_leading_particles_only(jets, schema, given):
  task = Compiled("super_resolution", schema, given=given)
  batch = shuffled(jets(COUNTS, 16))
  view = task.view(batch)
  assert view.length == given
  pt = np.where(view.mask, lorentz.transverse_momentum(view.p4), -1)
  assert (np.diff(pt, axis=-1) <= 0).all()
  soft = (np.asarray(lorentz.transverse_momentum(batch.p4)) < pt[:, -1:]) & batch.mask
  without = batch.replace(p4=np.where(soft[..., None], 0.5 * batch.p4, batch.p4))
  np.testing.assert_array_equal(task.view(without).p4, view.p4)
  assert soft.any() == (given == 4)


def generated(task, batch, mean, log_variance):
  cloud, frame = true_cloud(batch, batch.mask, task.task.particles)
  shape = (batch.num_events, task.task.latent)
  return Predicted(Generated(cloud, np.full(shape, mean), np.full(shape, log_variance)), frame)


def test_generation_floor_is_the_truth_at_the_prior(x64, jets, schema):
  task = Compiled("generation", schema, particles=20, latent=3)
  batch = shuffled(jets(COUNTS, 16, dtype=np.float64))
  assert task.loss(generated(task, batch, 0.0, 0.0), batch)[0] < 1e-15
  assert task.metrics(generated(task, batch, 0.0, 0.0), batch)["kl"] == 0
  assert task.loss(generated(task, batch, 0.5, -1.0), batch)[0] > 1e-3


def test_generation_kl_counts_single_numbers_and_warms_up(x64, jets, schema):
  """At the true cloud only beta(step) KL / (4 <n>) is left."""
  task = Compiled("generation", schema, particles=20, latent=3, beta=0.7, warm_up_steps=100)
  batch = jets(COUNTS, 16, dtype=np.float64)
  outputs = generated(task, batch, 0.5, -1.0)
  kl = 3 * 0.5 * (0.25 + np.exp(-1) - 1 + 1)
  for step, factor in ((0, 0.0), (50, 0.5), (100, 1.0), (500, 1.0)):
    loss, terms = task.loss(outputs, batch, step=step)
    assert loss == pytest.approx(0.7 * factor * kl / (4 * np.mean(COUNTS)), abs=1e-12)
    assert terms["kl"] == pytest.approx(kl)


def test_free_bits_cost_nothing_below_their_level(x64, jets, schema):
  batch = jets(COUNTS, 16, dtype=np.float64)
  task = Compiled("generation", schema, particles=20, latent=3, free_bits=1.0)
  loss = [task.loss(generated(task, batch, mean, 0.0), batch)[0] for mean in (0.0, 0.5, 3.0)]
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
    ("super_resolution", {"jet_term": -1.0}),
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
