"""Laws of generation and super-resolution: floors, order, sums, and what is seen."""

import numpy as np
import pytest

from jetfm.models import Generated, ParticleCloud
from jetfm.tasks.heads import Predicted
from tests.compiled import lorentz, physical_momenta, standardise_kinematics
from tests.tasks.judged import Judged, in_jet_frame

COUNTS = [2, 5, 16, 9]


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
  task = Judged("super_resolution", schema, given=4, particles=slots, distance=distance)
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
  task = Judged("super_resolution", schema, given=4, particles=16, distance="angular")
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
    task = Judged("super_resolution", schema, given=4, particles=16, distance=distance)
    truth = super_resolution_truth(task, batch)
    cloud = truth.output
    moved = truth.replace(output=cloud.replace(kinematics=cloud.kinematics[:, order]))
    loss[distance] = task.loss(moved, batch)[0]
  assert loss["chamfer"] < 1e-15 and loss["matched"] > 0.1


def test_the_jet_term_is_of_the_sum_of_the_particles(x64, jets, schema):
  """Blind to their order, and the square of ln k when all momenta are k times too large."""
  counts = [9, 1, 16, 5]
  batch = jets(counts, 16, dtype=np.float64)
  task = Judged("super_resolution", schema, given=1, particles=16, jet_term=0.7)
  plain = Judged("super_resolution", schema, given=1, particles=16)
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
  task = Judged("super_resolution", schema, given=1, particles=16, jet_term=1.0)
  frame = np.broadcast_to(np.eye(4), (2, 4, 4))
  cloud = ParticleCloud(
    np.asarray(standardise_kinematics(batch.p4)), np.where(batch.mask, 40.0, -40.0)
  )
  _, terms = task.loss(Predicted(cloud, frame), batch)
  assert terms["jet_pt"] < 1e-20 and terms["jet_mass"] < 1e-9


@pytest.mark.parametrize("given", [4, 30])
def test_super_resolution_sees_its_leading_particles_only(jets, schema, given):
  task = Judged("super_resolution", schema, given=given)
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
  task = Judged("generation", schema, particles=20, latent=3)
  batch = shuffled(jets(COUNTS, 16, dtype=np.float64))
  assert task.loss(generated(task, batch, 0.0, 0.0), batch)[0] < 1e-15
  assert task.metrics(generated(task, batch, 0.0, 0.0), batch)["kl"] == 0
  assert task.loss(generated(task, batch, 0.5, -1.0), batch)[0] > 1e-3


def test_generation_kl_counts_single_numbers_and_warms_up(x64, jets, schema):
  """At the true cloud only beta(step) KL / (4 <n>) is left."""
  task = Judged("generation", schema, particles=20, latent=3, beta=0.7, warm_up_steps=100)
  batch = jets(COUNTS, 16, dtype=np.float64)
  outputs = generated(task, batch, 0.5, -1.0)
  kl = 3 * 0.5 * (0.25 + np.exp(-1) - 1 + 1)
  for step, factor in ((0, 0.0), (50, 0.5), (100, 1.0), (500, 1.0)):
    loss, terms = task.loss(outputs, batch, step=step)
    assert loss == pytest.approx(0.7 * factor * kl / (4 * np.mean(COUNTS)), abs=1e-12)
    assert terms["kl"] == pytest.approx(kl)


def test_free_bits_cost_nothing_below_their_level(x64, jets, schema):
  batch = jets(COUNTS, 16, dtype=np.float64)
  task = Judged("generation", schema, particles=20, latent=3, free_bits=1.0)
  loss = [task.loss(generated(task, batch, mean, 0.0), batch)[0] for mean in (0.0, 0.5, 3.0)]
  assert loss[0] == loss[1] < loss[2]
