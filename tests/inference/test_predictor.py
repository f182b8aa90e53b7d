"""The laws of prediction: what is said about an event depends on that event alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jetfm
from jetfm import inference
from jetfm.inference import Reconstruction
from jetfm.inference.groups import canonical_groups
from jetfm.lorentz import azimuth, constituent_mass, pseudorapidity, to_pt_eta_phi_e
from jetfm.models import physical_momenta
from jetfm.train import CheckpointError
from tests.inference.toy import SCHEMA, TASKS, make_events, save_checkpoint

METHODS = ("embed", "classify", "regress", "generate", "super_resolve", "reconstruct")
COUNTS = (3, 1, 14, 16, 17, 9, 20, 5, 12, 2)


def call(predictor, method, batches, length=24):
  """Results by name, one row per event, particle axes cut or filled to `length`."""
  made = getattr(predictor, method)(batches)
  if isinstance(made, Reconstruction):
    made = vars(made)
    for name in ("hidden", "true", "predicted"):
      x = made[name]
      missing = [(0, 0), (0, max(0, length - x.shape[1]))] + [(0, 0)] * (x.ndim - 2)
      assert not x[:, length:].any()
      made[name] = np.pad(x[:, :length], missing)
    return made
  if isinstance(made, tuple):
    return dict(zip(("p4", "mask"), made, strict=True))
  return made if isinstance(made, dict) else {method: made}


def select(batch, rows):
  return jax.tree.map(lambda x: x[rows], batch)


def pad(batch, length, junk=0.0):
  """The same events padded to another length, with something else in the padding."""

  def of(x):
    x = x[:, :length]
    missing = [(0, 0), (0, length - x.shape[1])] + [(0, 0)] * (x.ndim - 2)
    return np.pad(x, missing)

  particles = {name: of(getattr(batch, name)) for name in ("p4", "features", "present", "mask")}
  for name in ("p4", "features"):
    particles[name] = np.where(particles["mask"][..., None], particles[name], np.float32(junk))
  return dataclasses.replace(batch, **particles)


@pytest.fixture(scope="module")
def events():
  return make_events(COUNTS, 24)


@pytest.fixture(scope="module")
def expected(predictor, events):
  return {method: call(predictor, method, events) for method in METHODS}


def assert_same_bits(got, want):
  assert got.keys() == want.keys()
  for name in want:
    np.testing.assert_array_equal(got[name], want[name], strict=True, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
class TestEventsAreIndependent:
  def test_order(self, predictor, events, expected, method):
    order = np.random.default_rng(0).permutation(len(COUNTS))
    got = call(predictor, method, select(events, order))
    assert_same_bits(got, {name: x[order] for name, x in expected[method].items()})

  def test_split_into_batches(self, predictor, events, expected, method):
    parts = [select(events, slice(0, 3)), select(events, slice(3, 4)), select(events, slice(4, 10))]
    assert_same_bits(call(predictor, method, iter(parts)), expected[method])

  def test_each_alone(self, predictor, events, expected, method):
    for row in (1, 4):
      got = call(predictor, method, select(events, slice(row, row + 1)))
      assert_same_bits(got, {n: x[row : row + 1] for n, x in expected[method].items()})

  @pytest.mark.parametrize("length", [20, 31])
  def test_padding(self, predictor, events, expected, method, length):
    got = call(predictor, method, pad(events, length, junk=np.nan))
    assert_same_bits(got, expected[method])

  def test_among_many_others(self, predictor, events, expected, method):
    others = make_events(np.full(150, 11), 11, seed=5)
    got = call(predictor, method, (others, events))
    assert_same_bits({n: x[150:] for n, x in got.items()}, expected[method])

  def test_targets_and_spectators_are_not_read(self, predictor, events, expected, method):
    bare = dataclasses.replace(
      events,
      targets=np.full((len(COUNTS), 0), np.nan, np.float32),
      spectators=np.zeros((len(COUNTS), 0), np.float32),
      weight=np.zeros(len(COUNTS), np.float32),
    )
    assert_same_bits(call(predictor, method, bare), expected[method])

  def test_no_events(self, predictor, events, expected, method):
    for nothing in (select(events, slice(0, 0)), ()):
      got = call(predictor, method, nothing)
      for name, want in expected[method].items():
        assert got[name].shape == (0, *want.shape[1:]) and got[name].dtype == want.dtype


def test_functions_of_arrays_in_memory_give_the_same_and_have_gradients(predictor, events):
  stored = dict(zip(SCHEMA.stored, np.moveaxis(events.features, -1, 0), strict=True))
  names = ("regression", "embed", "classification")
  made = predictor.predict(events, names)
  made["regression"] = np.stack([*made["regression"].values()], axis=1)
  batch = jetfm.batch_of(SCHEMA, events.p4, stored, mask=events.mask)
  for name in names:
    np.testing.assert_allclose(predictor.function(name)(batch), made[name], rtol=1e-4, atol=1e-4)

  def score(p4):
    batch = jetfm.batch_of(SCHEMA, p4, stored, mask=events.mask)
    return jnp.log(predictor.function("classification")(batch)[:, 1]).sum()

  slope = np.asarray(jax.jit(jax.grad(score))(events.p4))
  assert np.isfinite(slope).all() and (slope[~events.mask] == 0).all()
  assert (np.abs(slope[events.mask]).max(axis=-1) > 0).all()
  with pytest.raises(ValueError, match="nothing to predict is named 'classify'"):
    predictor.function("classify")


def test_one_pass_of_the_encoder_gives_the_same(predictor, events, expected):
  made = predictor.predict(events, ("regression", "embed", "classification"))
  assert_same_bits(made["regression"], expected["regress"])
  assert_same_bits({"classify": made["classification"]}, expected["classify"])
  assert_same_bits({"embed": made["embed"]}, expected["embed"])
  alone = predictor.predict(events, "classification")
  assert_same_bits({"classify": alone["classification"]}, expected["classify"])
  with pytest.raises(ValueError, match="named 'generation', expected some of"):
    predictor.predict(events, ["generation"])
  with pytest.raises(TypeError, match=r"got ndarray, expected Batch: jetfm\.batch_of"):
    predictor.classify(events.p4)


def test_random_draws_follow_seed_and_event(predictor, events):
  p4, _ = predictor.generate(events, seed=3)
  np.testing.assert_array_equal(predictor.generate(events, seed=3)[0], p4)
  assert (predictor.generate(events, seed=4)[0] != p4).any(axis=(1, 2)).all()
  renamed = dataclasses.replace(events, event_id=events.event_id + 1)
  assert (predictor.generate(renamed, seed=3)[0] != p4).any(axis=(1, 2)).all()


def test_results_are_those_of_the_model(predictor, events):
  """Against the model applied directly, in the shape in which the events came."""
  trained = predictor.trained

  @jax.jit
  def direct(variables):
    encoded = trained.model.encode(variables, events, deterministic=True)
    seen, views, key = {"plain": encoded}, {"plain": events}, jax.random.key(0)
    return encoded, {
      name: trained.model.head(name, variables, seen, views, deterministic=True, key=key).output
      for name in ("classification", "regression")
    }

  encoded, outputs = direct(trained.variables)
  mask = np.asarray(encoded.mask)[..., None]
  mean = np.where(mask, encoded.tokens, 0).sum(axis=1) / mask.sum(axis=1)
  np.testing.assert_allclose(predictor.embed(events), mean, rtol=1e-3, atol=1e-4)
  scores = np.asarray(jax.nn.softmax(outputs["classification"]))
  np.testing.assert_allclose(predictor.classify(events), scores, rtol=1e-3, atol=1e-4)
  masses = predictor.regress(events)
  assert list(masses) == TASKS["regression"]["targets"]
  for i, name in enumerate(masses):
    want = np.asarray(outputs["regression"].physical[:, i])
    np.testing.assert_allclose(masses[name], want, rtol=1e-3, atol=1e-2)


def test_a_chosen_jet_is_that_of_an_event_with_its_kinematics(predictor, events):
  real = events.mask.any(axis=1)
  events = select(events, np.flatnonzero(real))
  events = dataclasses.replace(events, event_id=np.arange(len(events.label), dtype=np.int32))
  jets = events.p4.sum(axis=1)
  pt, eta, phi, _ = np.asarray(to_pt_eta_phi_e(jets)).T
  count = events.mask.sum(axis=1)
  chosen = {
    "label": [predictor.schema.classes[i] for i in events.label],
    "mass": np.asarray(constituent_mass(events.p4, events.mask)),
    "multiplicity": count,
  }
  p4, mask = predictor.generate_chosen(pt=pt, eta=eta, phi=phi, **chosen, seed=3)
  expected, where = predictor.generate(events, seed=3)
  np.testing.assert_array_equal(mask, where)
  np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(count, mask.shape[1]))
  np.testing.assert_allclose(p4, expected, rtol=1e-3, atol=1e-3)


def test_impossible_choices_are_refused(predictor):
  good = {"label": "QCD", "pt": 600.0, "eta": 0.2, "mass": 80.0, "multiplicity": 30}
  for wrong in (
    {"label": "Higgs"},
    {"label": 3},
    {"pt": 0.0},
    {"eta": np.nan},
    {"mass": -1.0},
    {"multiplicity": 0},
    {"multiplicity": 2.5},
  ):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
      predictor.generate_chosen(**{**good, **wrong})


def test_jets_from_embeddings_too(tmp_path, events):
  """The published condition: the embedding of the event."""
  options = {name: x for name, x in TASKS["generation"].items() if name != "condition"}
  save_checkpoint(tmp_path / "best", {"generation": options | {"condition": "embedding"}})
  predictor = inference.load(tmp_path)
  p4, mask = predictor.generate(events)
  backwards = predictor.generate(select(events, slice(None, None, -1)))
  np.testing.assert_array_equal(backwards[0][::-1], p4)
  np.testing.assert_array_equal(backwards[1][::-1], mask)
  others = dataclasses.replace(events, p4=events.p4 * np.float32(2))
  assert (predictor.generate(others)[0] != p4).any(axis=(1, 2)).all()
  with pytest.raises(ValueError, match="condition='embedding', which only an event has"):
    predictor.generate_chosen("QCD", 600.0, 0.2, 80.0, 30)


def test_generated_jets_are_in_the_laboratory(predictor, events):
  """A jet's direction is the event's, whose frame the decoder works in."""
  for p4, mask in (predictor.generate(events), predictor.super_resolve(events)):
    assert mask.any(axis=1).all() and not p4[~mask].any()
    masses = np.asarray(constituent_mass(p4, mask))
    assert np.isfinite(masses).all()
  turned = dataclasses.replace(events, p4=events.p4 * np.array([1, -1, -1, 1], np.float32))
  back = predictor.super_resolve(turned)[0] * np.array([1, -1, -1, 1], np.float32)
  np.testing.assert_allclose(back, predictor.super_resolve(events)[0], rtol=1e-3, atol=1e-3)


def test_reconstruction_is_in_the_frame_it_names(predictor, events):
  made = predictor.reconstruct(events)
  count = np.asarray(COUNTS)
  assert (made.hidden.sum(axis=1)[count > 1] > 0).all()
  assert not (made.hidden & ~events.mask).any()
  inverse = np.linalg.inv(made.frame)
  lab = np.einsum("bij,bnj->bni", inverse, np.asarray(physical_momenta(made.true)))
  np.testing.assert_allclose(lab[events.mask], events.p4[events.mask], rtol=1e-2, atol=5e-3)
  assert made.predicted[made.hidden].any() and not made.predicted[~made.hidden].any()


def test_what_is_located_is_what_is_reconstructed(predictor, events):
  """The same hidden particles, their true directions, and densities that nobody else has."""
  made, found = predictor.reconstruct(events), predictor.locate(events)
  np.testing.assert_array_equal(found.hidden, made.hidden)
  momenta = np.asarray(physical_momenta(made.true))
  eta, phi = np.asarray(pseudorapidity(momenta)), np.asarray(azimuth(momenta))
  np.testing.assert_allclose(found.direction[events.mask, 0], eta[events.mask], atol=1e-4)
  np.testing.assert_allclose(found.direction[events.mask, 1], phi[events.mask], atol=1e-4)
  assert not found.direction[~events.mask].any() and not found.log_density[~found.hidden].any()
  assert np.isfinite(found.log_density).all() and found.log_density[found.hidden].any()
  other = predictor.locate(events, seed=1)
  assert (other.hidden != found.hidden).any()


def test_maps_of_directions_count_the_hidden_particles(predictor, events):
  """And hold, of a jet that hides one particle, what is located there."""
  found = predictor.locate(events)
  hidden = found.hidden.sum(axis=1)
  cells = np.linspace(-1.5, 1.5, 61)
  grid = np.stack(np.meshgrid(cells, cells, indexing="ij"), axis=-1).reshape(-1, 2)
  inside = predictor.map_directions(events, grid).sum(axis=1) * (cells[1] - cells[0]) ** 2
  assert (inside[hidden > 0] > 0).all() and not inside[hidden == 0].any()
  assert (inside < 1.2 * hidden + 1e-6).all()  # cells are wider than the narrowest kernel
  one, many = np.flatnonzero(hidden == 1)[0], np.argmax(hidden)
  points = [found.direction[i][found.hidden[i]] for i in (one, many)]
  there = predictor.map_directions(events, np.concatenate(points))
  own = [found.log_density[i][found.hidden[i]] for i in (one, many)]
  np.testing.assert_allclose(np.log(there[one, :1]), own[0], rtol=1e-4)
  assert (np.log(there[many, 1:]) > own[1]).all()  # the others are expected there too


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (7, 0, 13), (40,)])
def test_groups_hold_every_event_once(sizes):
  rng = np.random.default_rng(0)
  batches = [make_events(rng.integers(0, 9, n), 9, seed=i) for i, n in enumerate(sizes)]
  groups = list(canonical_groups(batches, SCHEMA, (4, 8, 12), rows=5))
  places = np.concatenate([g.places for g in groups] or [np.zeros(0)])
  assert sorted(places) == list(range(sum(sizes)))
  ids = np.concatenate([b.event_id for b in batches] or [np.zeros(0)])
  counts = np.concatenate([b.mask.sum(axis=1) for b in batches] or [np.zeros(0)])
  for group in groups:
    used = len(group.places)
    assert group.batch.num_events == 5 and group.batch.length in (4, 8, 12)
    assert (group.batch.weight > 0).sum() == used
    np.testing.assert_array_equal(group.batch.event_id[:used], ids[group.places])
    np.testing.assert_array_equal(group.batch.mask.sum(axis=1)[:used], counts[group.places])


def test_what_does_not_fit_is_refused(predictor, events):
  narrow = dataclasses.replace(events, features=events.features[..., :4])
  with pytest.raises(ValueError, match=r"batch has 4 stored features.*has 10.*part_charge"):
    predictor.classify(narrow)
  hidden = dataclasses.replace(events, hidden_rank=np.zeros((len(COUNTS), 24), np.int32))
  with pytest.raises(ValueError, match="hidden_rank"):
    predictor.classify(hidden)
  with pytest.raises(ValueError, match="513 particles, expected at most 512"):
    predictor.embed(make_events([513], 520))


def test_schemas_are_compared_by_name(predictor):
  stored = [f for f in SCHEMA.features if not f.derived]
  without = dataclasses.replace(SCHEMA, name="other", features=(*SCHEMA.features[:-1],))
  swapped = dataclasses.replace(
    SCHEMA, features=(*SCHEMA.features[:-2], SCHEMA.features[-1], SCHEMA.features[-2])
  )
  predictor.check_schema(SCHEMA)
  with pytest.raises(ValueError, match=rf"'other'.*missing \['{stored[-1].name}'\]"):
    predictor.check_schema(without)
  with pytest.raises(ValueError, match="order"):
    predictor.check_schema(swapped)
  classes = dataclasses.replace(SCHEMA, classes=("QCD", "top"))
  predictor.check_schema(classes, labels=False)
  with pytest.raises(ValueError, match=r"missing \['Tbqq', 'Tbl'\], not expected \['top'\]"):
    predictor.check_schema(classes)


def test_missing_task_names_those_there_are(tmp_path, events):
  folder = save_checkpoint(tmp_path / "classify" / "last", ["classification"])
  predictor = inference.load(tmp_path / "classify")  # a stage without a best
  assert predictor.tasks == ("classification",) and predictor.step == 7
  assert predictor.trained.checkpoint.folder.parent == folder
  for method, task in (
    ("regress", "regression"),
    ("generate", "generation"),
    ("super_resolve", "super_resolution"),
    ("reconstruct", "masked_particles"),
  ):
    with pytest.raises(ValueError, match=rf"no task '{task}', only \['classification'\]"):
      getattr(predictor, method)(events)


def test_several_tasks_of_one_kind(tmp_path, events):
  head = TASKS["regression"]["head_options"]
  tasks = {
    name: {"kind": "regression", "targets": [target], "head_options": head}
    for name, target in (("visible", "mass"), ("true", "gen_mass"))
  }
  save_checkpoint(tmp_path / "best", tasks)
  predictor = inference.load(tmp_path)
  assert predictor.of_kind("regression") == predictor.tasks == ("visible", "true")
  both = predictor.predict(events, ["true", "visible"])
  for name, target in (("visible", "mass"), ("true", "gen_mass")):
    alone = predictor.regress(events, task=name)
    assert list(alone) == [target]
    assert_same_bits(both[name], alone)
  with pytest.raises(ValueError, match=r"has the tasks \['visible', 'true'\]: choose one"):
    predictor.regress(events)
  with pytest.raises(ValueError, match="no task 'mass' of the kind 'regression'"):
    predictor.regress(events, task="mass")


def test_paths_that_name_a_checkpoint(stage):
  found = inference.find_checkpoint(stage / "best")
  assert inference.find_checkpoint(stage) == found
  assert inference.find_checkpoint(stage / "best" / "7") == found / "7"
  assert inference.load(stage / "best" / "7").step == 7


def test_no_checkpoint_says_what_is_there(stage, tmp_path):
  with pytest.raises(CheckpointError, match="all/best"):
    inference.load(stage.parent)
  with pytest.raises(CheckpointError, match=r"does not exist.*has best"):
    inference.load(stage / "bset")
  with pytest.raises(CheckpointError, match="nothing in it"):
    inference.load(tmp_path)
  (tmp_path / "file").write_text("")
  with pytest.raises(CheckpointError, match="is a file"):
    inference.load(tmp_path / "file")
