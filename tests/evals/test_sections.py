"""Sections of a report: what perfect and trivial outputs give, weights, and what is left out."""

import dataclasses
import json

import numpy as np
import pytest

from jetfm.evals import metrics
from jetfm.evals.catalogue import about
from jetfm.evals.metrics.seed import GENERATED_SLOTS
from jetfm.evals.report_words import FIGURES
from jetfm.evals.sections import (
  Guesses,
  Jets,
  Reconstructed,
  classification_section,
  embedding_section,
  features_section,
  generation_section,
  pretraining_section,
  regression_section,
  super_resolution_section,
)
from jetfm.evals.sections.jets import packed_by_pt
from tests.evals.conftest import make_jets

CLASSES = ("QCD", "Hbb")


def sample(seed=0, num_jets=150):
  p4, mask, label = make_jets(seed, num_jets)
  mass = metrics.jet_mass(p4, mask)
  return Jets(p4, mask, label, np.ones(num_jets), {"mass": mass})


@pytest.fixture(scope="module")
def true():
  return sample()


@pytest.fixture(scope="module")
def training():
  return sample(seed=5)


def scores(jets, seed=0):
  p = np.random.default_rng(seed).uniform(0.1, 0.9, len(jets)) * 0.5 + 0.5 * jets.label
  return np.stack([1 - p, p], axis=1)


def values(section):
  return {name: m.value for name, m in section.metrics.items()}


def test_classification_has_working_points_bins_and_sculpting(true):
  section = classification_section(true, scores(true), CLASSES, bootstrap=3)
  assert {"accuracy", "rejection_Hbb", "sculpting_Hbb"} <= set(section.metrics)
  bins = section.details["pt_dependence"]["Hbb"]
  assert len(bins["edges"]) == 6 and len(bins["rejection"]) == len(bins["efficiency"]) == 5
  # Bins hold equally many jets, so their efficiencies average to the working point.
  assert np.mean(bins["efficiency"]) == pytest.approx(0.5, abs=0.1)
  assert np.sum(section.details["confusion"]) == len(true)
  json.dumps(section.details, allow_nan=False)
  assert {kind for kind, *_ in section.figures} == {
    "roc",
    "confusion",
    "pt_dependence",
    "sculpting",
  }


def test_unlabelled_jets_do_not_count_in_classification(true):
  label = np.where(np.arange(len(true)) < 40, -1, true.label)
  mixed = dataclasses.replace(true, label=label)
  found = classification_section(mixed, scores(true), CLASSES, figures=False)
  rows = np.arange(len(true)) >= 40
  alone = classification_section(true.select(rows), scores(true)[rows], CLASSES, figures=False)
  assert values(found) == values(alone)
  nothing = dataclasses.replace(true, label=np.full(len(true), -1))
  (accuracy,) = classification_section(nothing, scores(true), CLASSES).metrics.values()
  assert accuracy.value is None and "label" in accuracy.reason


def test_without_a_background_class_there_are_no_rejections(true):
  section = classification_section(true, scores(true), ("Hcc", "Hbb"))
  assert not [name for name in section.metrics if name.startswith(("rejection", "sculpting"))]
  assert [kind for kind, *_ in section.figures] == ["confusion"]


def test_metrics_against_another_background_are_called_so(true):
  """Published rejections are of QCD: they are not to stand beside them."""
  section = classification_section(true, scores(true), CLASSES, background="Hbb", figures=False)
  found = [name for name in section.metrics if name.startswith(("rejection", "sculpting"))]
  assert found == ["rejection_QCD_against_Hbb", "sculpting_QCD_against_Hbb"]
  assert about(found[0]).label == "rejection of Hbb by QCD"
  for name in found:
    assert "Hbb" in about(name).meaning


def test_weight_of_two_is_two_jets(true, training):
  rng = np.random.default_rng(1)
  number = rng.integers(1, 3, len(true))
  rows = np.repeat(np.arange(len(true)), number)
  weighted, repeated = dataclasses.replace(true, weight=number.astype(float)), true.select(rows)
  p, mass = scores(true), true.targets["mass"] * 1.1
  a = classification_section(weighted, p, CLASSES, figures=False)
  b = classification_section(repeated, p[rows], CLASSES, figures=False)
  for name in ("accuracy", "auc_ovo", "rejection_Hbb", "sculpting_Hbb"):
    assert a.metrics[name].value == pytest.approx(b.metrics[name].value)
  a = regression_section(weighted, {"mass": mass}, {}, figures=False)
  b = regression_section(repeated, {"mass": mass[rows]}, {}, figures=False)
  assert values(a) == pytest.approx(values(b))
  a = super_resolution_section(weighted, weighted, 3, training, figures=False)
  b = super_resolution_section(repeated, repeated, 3, training, figures=False)
  for name in ("chamfer", "chamfer_seed", "pt_emd"):
    assert a.metrics[name].baseline == pytest.approx(b.metrics[name].baseline)


def test_regression_leaves_out_jets_without_the_target(true):
  mass = np.where(np.arange(len(true)) % 3 == 0, np.nan, true.targets["mass"])
  jets = dataclasses.replace(true, targets={"mass": mass, "gen_mass": np.full(len(true), np.nan)})
  predicted = {"mass": true.targets["mass"] + 1, "gen_mass": true.targets["mass"]}
  section = regression_section(jets, predicted, {"mass": (10.0, 5.0)}, bootstrap=3)
  assert section.metrics["mass_mae_gev"].value == pytest.approx(1)
  assert section.metrics["mass_mae"].value == pytest.approx(0.2)
  assert section.metrics["mass_mae_gev"].baseline == 0  # the target is the mass of the particles
  assert section.details["mass"]["jets"] == np.isfinite(mass).sum()
  assert "gen_mass" in section.metrics["gen_mass_r2"].reason
  assert [caption for _, caption, _ in section.figures] == ["mass"]
  lacking = dataclasses.replace(jets, targets={"mass": mass})  # as data of another origin do
  assert regression_section(lacking, predicted, {"mass": (10.0, 5.0)}).metrics.keys() == (
    section.metrics.keys()
  )


def test_a_straight_line_takes_the_detector_out_of_the_baseline(true, training):
  """Whatever was lost in proportion and by a constant, the calibrated mass has back."""
  measured, other = (
    dataclasses.replace(jets, targets={"gen_mass": 1.2 * jets.targets["mass"] + 15})
    for jets in (true, training)
  )
  predicted = {"gen_mass": measured.targets["gen_mass"]}
  found = regression_section(measured, predicted, {}, other, figures=False).metrics
  for name, best in (("gen_mass_r2", 1), ("gen_mass_mae_gev", 0), ("gen_mass_resolution_gev", 0)):
    m = found[name]
    assert m.baseline == pytest.approx(best, abs=1e-9) and "calibrated" in m.baseline_kind
    assert abs(m.others["mass of the particles"] - best) > 0.01
  for jets in (None, other.select(np.zeros(len(other), bool)), training):
    section = regression_section(measured, predicted, {}, jets, figures=False)
    assert {m.baseline_kind for m in section.metrics.values()} == {"mass of the particles"}


def test_a_generator_that_copies_what_it_is_told_is_at_the_floor(true, training):
  section = generation_section(true, true, training)
  for name, m in section.metrics.items():
    if m.value is None:  # FPD and KPD of few jets
      continue
    assert m.reference_kind == "floor"
    if name.endswith("_seed"):  # all against all, as there
      assert m.value == pytest.approx(0, abs=1e-12) and "bounds it" in m.note
    else:
      assert m.value == pytest.approx(m.reference) and m.value > 0
  kl = section.metrics["pt_kl"]
  assert set(kl.others) == {"Gaussian fit"} and kl.baseline_kind == "histogram sampling"
  assert kl.baseline < kl.others["Gaussian fit"]  # it knows the shape
  assert {"mmd_seed", "pt_kl_seed", "histogram_mse_seed"} <= set(section.metrics)
  assert [kind for kind, *_ in section.figures] == ["spectra", "spectra"]


def test_published_metrics_of_generation_are_those_of_multivectors(true, training):
  made = sample(seed=2)
  section = generation_section(true, made, training, figures=False)
  constants = metrics.seed_constants(training.p4, training.mask)
  sides = [
    metrics.seed_multivector(
      metrics.seed_coordinates(*packed_by_pt(x.p4, x.mask, GENERATED_SLOTS), *constants)
    )
    for x in (true, made)
  ]
  for name, value in metrics.generation_seed(*sides).items():
    assert section.metrics[name].value == pytest.approx(value, rel=1e-9)


def test_generation_ratio_is_that_of_the_two_kl(true, training):
  section = generation_section(true, sample(seed=2), training, figures=False)
  kl = section.metrics["pt_kl_equiprobable"]
  ratio = section.metrics["pt_kl_ratio"]
  assert ratio.value == pytest.approx(kl.value / kl.others["Gaussian fit"])
  assert ratio.baseline == 1
  alone = generation_section(true, sample(seed=2), None, figures=False)
  assert "pt_kl_ratio" not in alone.metrics
  assert alone.metrics["pt_kl_equiprobable"].value == kl.value


def test_classes_that_training_lacks_do_not_stop_the_trivial_generators(true, training):
  one = training.select(training.label == 0)
  assert generation_section(true, true, one, figures=False).metrics["pt_kl"].baseline > 0


def test_few_particles_of_huge_momentum_do_not_hide_a_bad_generator(true, training):
  """All others have a third of their momentum: bins over the range of both hold them in one."""
  p4 = 0.3 * true.p4
  rows = np.arange(0, len(true), 30)
  p4[rows, true.mask[rows].argmax(axis=1)] *= 1000
  made = dataclasses.replace(true, p4=p4)
  found = generation_section(true, made, training, figures=False).metrics
  assert found["pt_kl"].value < 0.1 and "bins of pt" in found["pt_kl"].note
  assert "times as wide" in found["histogram_mse"].note
  assert found["pt_kl_equiprobable"].value > 10 * found["pt_kl_equiprobable"].reference
  alike = generation_section(true, true, training, figures=False).metrics
  assert not alike["pt_kl"].note and not alike["histogram_mse"].note


def test_generation_of_nothing_has_no_metrics_and_says_why(true, training):
  nothing = dataclasses.replace(true, mask=np.zeros_like(true.mask))
  one = np.arange(1)
  for jets, made, reason in (
    (true, nothing, "without any particle"),
    (true.select(one), true.select(one), "do not make two halves"),
  ):
    (m,) = generation_section(jets, made, training).metrics.values()
    assert m.value is None and reason in m.reason


def test_super_resolution_of_the_truth_and_of_the_input(true, training):
  perfect = super_resolution_section(true, true, 5, training, CLASSES)
  assert perfect.metrics["chamfer"].value == perfect.metrics["chamfer_ratio"].value == 0
  assert perfect.metrics["multiplicity_error"].value == 0
  assert perfect.metrics["chamfer_seed"].value == 0
  assert [kind for kind, *_ in perfect.figures] == ["jets"]
  p4, mask = packed_by_pt(true.p4, true.mask, 5)
  copied = dataclasses.replace(true, p4=p4, mask=mask)
  section = super_resolution_section(true, copied, 5, training, figures=False)
  assert section.metrics["chamfer_ratio"].value == pytest.approx(1)
  for name, m in section.metrics.items():
    if m.baseline_kind == "copied input":
      assert m.value == pytest.approx(m.baseline), name


def test_published_super_resolution_does_not_depend_on_the_padding(true, training):
  p4, mask = packed_by_pt(true.p4, true.mask, 5)
  few = dataclasses.replace(true, p4=p4, mask=mask)
  p4, mask = packed_by_pt(true.p4, true.mask, 60)
  long = dataclasses.replace(true, p4=p4, mask=mask)
  a, b = (
    super_resolution_section(jets, few, 3, training, figures=False).metrics for jets in (true, long)
  )
  for name in ("chamfer_seed", "pt_emd_seed", "multiplicity_error_seed"):
    assert a[name].value == pytest.approx(b[name].value) and a[name].value > 0


def test_packing_keeps_the_hardest_in_order(true):
  p4, mask = packed_by_pt(true.p4, true.mask, 6)
  pt = np.hypot(p4[..., 1], p4[..., 2])
  assert (np.diff(pt, axis=1) <= 0).all()
  np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(true.mask.sum(axis=1), 6))
  largest = np.sort(np.hypot(true.p4[..., 1], true.p4[..., 2]) * true.mask, axis=1)[:, ::-1][:, :6]
  np.testing.assert_array_equal(pt, largest)
  wide, wide_mask = packed_by_pt(true.p4, true.mask, 40)
  assert wide.shape == (len(true), 40, 4) and (wide_mask.sum() == true.mask.sum())


def mean_square(predicted, true, weight):
  return float(weight @ ((predicted - true) ** 2).sum(axis=1) / weight.sum())


def hidden(seed=0, number=300):
  """Six particles a jet, all of them hidden."""
  rng = np.random.default_rng(seed)
  true = rng.normal(size=(number, 4)) * [1, 1, 0.2, 1] + [2, 0, 3.1, 5]
  event, rank = np.divmod(np.arange(number), 6)
  weight = rng.uniform(0.5, 2, event.max() + 1)[event]
  return Reconstructed(true, true, np.ones(number, bool), rank, event, weight)


def test_gain_is_one_for_the_truth_and_zero_for_the_mean():
  particles = hidden()
  perfect = pretraining_section(particles, mean_square, bootstrap=4)
  assert set(values(perfect).values()) == {1.0}
  mean = np.array([*perfect.details["mean"].values()])
  trivial = np.broadcast_to(mean, particles.true.shape)
  section = pretraining_section(
    dataclasses.replace(particles, predicted=trivial), mean_square, bootstrap=4
  )
  over_the_mean = {k: v for k, v in values(section).items() if "over" not in k}
  assert over_the_mean == pytest.approx(dict.fromkeys(over_the_mean, 0.0), abs=1e-12)
  assert section.details["loss"] == pytest.approx(section.details["loss of the mean"])


def test_what_the_rank_tells_is_not_learned():
  """Jets whose spectra differ by a factor: the rank explains some, visible neighbours the rest."""
  rng = np.random.default_rng(0)
  event, rank = np.divmod(np.arange(4000), 20)
  spectrum, of_jet = -0.2 * rank, 0.3 * rng.normal(size=200)[event]
  true = rng.normal(size=(4000, 4)) * 0.05
  true[:, [0, 3]] += (spectrum + of_jet)[:, None]
  some = rng.random(4000) < 0.3
  known = np.zeros((4000, 4))
  known[:, [0, 3]] = spectrum[:, None]
  particles = Reconstructed(true, known[some], some, rank, event, np.ones(4000))
  knows_rank = pretraining_section(particles, mean_square).metrics
  assert knows_rank["pt_gain"].value > 0.5
  assert knows_rank["gain_over_rank"].value == pytest.approx(0, abs=0.05)
  assert knows_rank["pt_gain_over_rank"].value == pytest.approx(0, abs=0.05)
  assert knows_rank["pt_gain"].baseline == pytest.approx(knows_rank["pt_gain"].value, abs=0.02)
  assert knows_rank["pt_gain_over_interpolation"].value < -10
  known[:, [0, 3]] = true[:, [0, 3]]
  knows_jet = dataclasses.replace(particles, predicted=known[some])
  assert pretraining_section(knows_jet, mean_square).metrics["gain_over_rank"].value > 0.5


def test_one_jet_has_no_mean_at_a_rank():
  one = pretraining_section(hidden(number=6), mean_square).metrics
  assert one["reconstruction_gain"].value == 1 and one["reconstruction_gain"].baseline is None
  assert "too few jets" in one["gain_over_rank"].reason


def test_mean_of_phi_does_not_care_where_the_angle_is_cut():
  particles = hidden()
  section = pretraining_section(particles, mean_square)
  turned = particles.true.copy()
  turned[:, 2] = np.remainder(turned[:, 2] + np.pi, 2 * np.pi) - np.pi
  other = pretraining_section(
    dataclasses.replace(particles, true=turned, predicted=turned), mean_square
  )
  difference = section.details["mean"]["phi"] - other.details["mean"]["phi"]
  assert np.cos(difference) == pytest.approx(1)


def test_gain_knows_weights():
  particles = hidden()
  rng = np.random.default_rng(3)
  predicted = particles.true + rng.normal(size=particles.true.shape)
  number = rng.integers(1, 4, particles.event.max() + 1)[particles.event]
  rows = np.repeat(np.arange(len(number)), number)
  weighted = dataclasses.replace(particles, predicted=predicted, weight=number.astype(float))
  repeated = Reconstructed(
    particles.true[rows],
    predicted[rows],
    particles.hidden[rows],
    particles.rank[rows],
    particles.event[rows],
    np.ones(len(rows)),
  )
  a, b = (pretraining_section(p, mean_square) for p in (weighted, repeated))
  assert values(a) == pytest.approx(values(b))


def test_gain_without_hidden_or_with_equal_particles_is_undefined():
  particles = hidden()
  none = np.zeros(len(particles.true), bool)
  nothing = dataclasses.replace(particles, hidden=none, predicted=np.zeros((0, 4)))
  found = pretraining_section(nothing, mean_square).metrics
  assert "hidden" in found["reconstruction_gain"].reason
  ones, weight = np.ones_like(particles.true), np.ones(len(particles.true))
  equal = pretraining_section(
    dataclasses.replace(particles, true=ones, predicted=ones, weight=weight),
    mean_square,
    bootstrap=3,
  )
  assert all(m.value is None and "equal" in m.reason for m in equal.metrics.values())


def test_embedding_is_probed_and_mapped():
  rng = np.random.default_rng(0)
  label = np.arange(200) % 2
  x = rng.normal(size=(200, 3)) + 4 * label[:, None]
  w = np.ones(100)
  noise = rng.normal(size=(200, 3))
  section = embedding_section(
    x[:100],
    label[:100],
    x[100:],
    label[100:],
    CLASSES,
    w,
    w,
    baseline=(noise[:100], noise[100:]),
    probes=("knn", "mlp1"),
    map_jets=50,
  )
  for m in section.metrics.values():
    assert m.value > 0.9 > m.baseline
  assert [kind for kind, *_ in section.figures] == ["embedding"]
  alone = embedding_section(
    x[:100], np.zeros(100, int), x[100:], label[100:], CLASSES, w, w, probes=("knn",)
  )
  assert "two classes" in alone.metrics["knn"].reason and not alone.figures


def test_everything_a_section_says_is_explained(true, training):
  sections = [
    classification_section(true, scores(true), CLASSES),
    regression_section(true, {"mass": true.targets["mass"]}, {}),
    generation_section(true, true, training),
    super_resolution_section(true, true, 5, training),
    pretraining_section(hidden(), mean_square),
  ]
  for section in sections:
    for name in section.metrics:
      assert about(name).meaning, name
    assert {kind for kind, *_ in section.figures} <= set(FIGURES)


def guesses(categorical=False, **changed):
  rng = np.random.default_rng(0)
  true = rng.integers(0, 3, 60).astype(float) if categorical else rng.normal(2, 1, 60)
  own = {"true": true, "guessed": true, "event": np.arange(60) // 3, "weight": np.ones(60)}
  return Guesses(**(own | {"nll": np.zeros(60), "categorical": categorical} | changed))


@pytest.mark.parametrize("categorical", [False, True])
def test_gain_of_hidden_measurements(categorical):
  """1 of perfect guesses, 0 of the best constant, less than 0 of a worse one."""
  true = guesses(categorical).true
  constant = float(np.bincount(true.astype(int)).argmax()) if categorical else true.mean()
  worse = 7.0
  for guessed, expected in ((true, 1), (np.full(60, constant), 0), (np.full(60, worse), None)):
    section = features_section({"x": guesses(categorical, guessed=guessed)}, figures=False)
    gain = section.metrics["feature_gain_x"].value
    assert section.metrics["feature_gain"].value == gain
    if expected is None:
      assert gain < 0
    else:
      assert gain == pytest.approx(expected, abs=1e-12)


def test_features_that_were_not_hidden_have_no_gain():
  nothing = guesses(**{k: np.zeros(0) for k in ("true", "guessed", "event", "weight", "nll")})
  section = features_section({"x": nothing, "y": guesses()}, bootstrap=3)
  assert section.metrics["feature_gain_x"].value is None
  assert section.metrics["feature_gain"].value == section.metrics["feature_gain_y"].value == 1
  assert {kind for kind, *_ in section.figures} == {"features", "reconstruction"}
  drawn = guesses(True, sampled=guesses(True).true)
  section = features_section({"x": nothing, "y": guesses(), "z": drawn})
  kinds = [kind for kind, *_ in section.figures]
  assert kinds == ["features", "reconstruction", "densities"] and set(kinds) <= set(FIGURES)
  panels = [len(figure.axes) for _, _, figure in section.figures]
  assert panels == [1, 2, 1], "a panel for each feature that was hidden, and sampled"
  only = features_section({"x": nothing})
  assert only.metrics["feature_gain"].value is None and not only.figures


def test_many_classes_have_confusions_in_words(true):
  classes = [f"class {i}" for i in range(30)]
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.ones(30), len(true))
  section = classification_section(true, p, classes)
  assert [kind for kind, *_ in section.figures] == ["confusions", "confusion"]
  assert len(section.details["per_class"]) == 30
  json.dumps(section.details, allow_nan=False)
