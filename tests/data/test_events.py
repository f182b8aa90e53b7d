"""e+e- events: from ROOT files with missing measurements to batches."""

import json

import awkward as ak
import jax
import numpy as np
import pytest
import uproot

from jetfm.data.errors import DataError
from jetfm.data.event_schema import EVENT_INPUT_SETS, event_schema
from jetfm.data.events import flag_of
from jetfm.data.manifest import SPLITS, Manifest
from jetfm.data.pipeline import open_dataset
from jetfm.nn.standardise import StandardiseInputs
from tests.data.conftest import quiet_ingest, read_all
from tests.jets import random_jets, write_root

SCHEMA = event_schema()
FLAGS = tuple(map(flag_of, SCHEMA.groups))
GROUP_OF = {f.name: flag_of(f.group) for f in SCHEMA.features}
CHAINS = ("J/psi -> e+ e-", "J/psi -> mu+ mu-", "J/psi -> pi+ pi- pi0")
N, BAD = 60, 7


def random_events(n=N, seed=0):
  """Branches of n events: dict of numpy and jagged arrays. No simulation."""
  r = np.random.default_rng(seed)
  counts = r.integers(2, 12, n)
  total = counts.sum()
  track = r.random(total) < 0.5
  shower = ~track | (r.random(total) < 0.7)
  has = {
    "has_MDC": track,
    "has_PID": track,
    "has_EMC": shower,
    "has_EMC_shape": shower & (r.random(total) < 0.8),
    "has_EMC_track": track & shower,
    "has_MUC": track & (r.random(total) < 0.2),
  }
  columns = {}
  for f in SCHEMA.features:
    spread = 100 if f.name in ("emc_x", "emc_y", "emc_z") else 1
    values = spread * (
      r.normal(size=total) if f.transforms[0].kind == "zscore" else r.random(total)
    )
    if f.name == "q":
      values = r.choice([-1.0, 1.0], total)
    if f.name == "pid_prob_type":
      values = r.integers(0, 5, total)
    columns[f.name] = np.where(has[GROUP_OF[f.name]], values + (f.name == "emc_energy"), 0)
  events = {k: ak.unflatten(np.float32(v), counts) for k, v in columns.items()}
  events |= {k: ak.unflatten(v.astype(np.uint8), counts) for k, v in has.items()}
  return events | {
    "chain": r.integers(0, len(CHAINS), n).astype(np.int32),
    "event_number": np.sort(r.choice(3 * n, n, replace=False)),
  }


def write(path, events, chains=CHAINS):
  path.parent.mkdir(exist_ok=True, parents=True)
  # `write_root` counts by this branch.
  jagged = next(name for name, x in events.items() if isinstance(x, ak.Array))
  write_root(path, {"part_px": events[jagged]} | events)
  if chains is not None:
    with uproot.update(path) as file:
      file["jetfm"] = json.dumps({"chains": list(chains)})
  return path


def ingest(source, out, **settings):
  return quiet_ingest(source, out, **{"inputs": "bes", "edges": (8, 16), **settings})


def everything(directory):
  found = {}
  for split in SPLITS:
    found |= read_all(open_dataset(directory, "bes", split))
  return found


def batches(directory):
  for split in SPLITS:
    dataset = open_dataset(directory, "bes", split)
    if dataset.num_events:
      loader = dataset.loader(16, epochs=1, lanes=1)
      for step in range(len(loader)):
        yield from loader[step]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp("events")
  events = random_events()
  write(folder / "in" / "jpsi_000.root", events)
  return events, folder / "out", ingest(folder / "in", folder / "out")


def test_batches_hold_what_the_files_say(made):
  events, out, _ = made
  found = everything(out)
  assert len(found) == N
  labels = {int(i): event[2] for i, event in found.items()}
  assert labels == dict(enumerate(events["chain"].tolist()))
  name = SCHEMA.stored.index("emc_time")
  for i, event in found.items():
    np.testing.assert_array_equal(np.sort(event[1][:, name]), np.sort(events["emc_time"][i]))


def test_present_is_what_the_flags_say(made):
  events, out, _ = made
  seen = 0
  for batch in batches(out):
    assert batch.features.shape[-1] == len(SCHEMA.stored)
    assert batch.present.shape == (*batch.mask.shape, len(SCHEMA.groups))
    assert batch.present.dtype == bool and not batch.present[~batch.mask].any()
    for b in np.flatnonzero(batch.weight):
      flags = [ak.to_numpy(events[flag][int(batch.event_id[b])]) for flag in FLAGS]
      own = batch.present[b][batch.mask[b]]
      assert sorted(own.tolist()) == sorted((np.stack(flags, axis=1) > 0).tolist())
      seen += 1
    for i, feature in enumerate(SCHEMA.features):
      missing = ~batch.present[..., SCHEMA.groups.index(feature.group)]
      assert np.all(batch.features[..., i][missing] == 0)
  assert seen == N


def test_the_four_counts_follow_from_present(made):
  events, out, _ = made
  group = SCHEMA.groups.index
  for batch in batches(out):
    track, shower, shape = (batch.present[..., group(g)] for g in ("MDC", "EMC", "EMC_shape"))
    for b in np.flatnonzero(batch.weight):
      of = {flag: ak.to_numpy(events[flag][int(batch.event_id[b])]) > 0 for flag in FLAGS}
      neutral = batch.mask[b] & ~track[b]
      assert track[b].sum() == of["has_MDC"].sum()
      assert neutral.sum() == (~of["has_MDC"]).sum()
      assert (track[b] & ~shower[b]).sum() == (of["has_MDC"] & ~of["has_EMC"]).sum()
      assert (neutral & ~shape[b]).sum() == (~of["has_MDC"] & ~of["has_EMC_shape"]).sum()


def test_four_momenta(made):
  """Tracks have the mass of a pion, showers none; both have their own direction."""
  _, out, _ = made
  column = SCHEMA.stored.index
  for batch in batches(out):
    track = batch.present[..., SCHEMA.groups.index("MDC")]
    energy, momentum = batch.p4[..., 0].astype(float), batch.p4[..., 1:].astype(float)
    mass2 = energy**2 - (momentum**2).sum(axis=-1)
    np.testing.assert_allclose(mass2[track], 0.13957**2, atol=1e-5)
    measured = batch.features[..., [column(f"mdc_p3_p{x}") for x in "xyz"]]
    np.testing.assert_allclose(momentum[track], measured[track], rtol=1e-6)
    neutral = batch.mask & ~track
    np.testing.assert_allclose(mass2[neutral], 0, atol=1e-5)
    np.testing.assert_allclose(energy[neutral], batch.features[..., column("emc_energy")][neutral])
    point = batch.features[..., [column(f"emc_{x}") for x in "xyz"]][neutral].astype(float)
    away = np.cross(point / np.linalg.norm(point, axis=-1, keepdims=True), momentum[neutral])
    np.testing.assert_allclose(away, 0, atol=1e-5)


def test_constants_are_of_what_was_measured(made):
  """Zeros that stand for missing measurements would spoil means."""
  _, out, manifest = made
  fitted = {f.name: f for f in manifest.schema("bes").features}
  columns = {name: [] for name in ("mdc_p3_px", "emc_energy")}
  dataset = open_dataset(out, "bes", "train")
  loader = dataset.loader(16, epochs=1, lanes=1)
  for step in range(len(loader)):
    for batch in loader[step]:
      for name, values in columns.items():
        group = SCHEMA.groups.index(fitted[name].group)
        values.append(batch.features[..., SCHEMA.stored.index(name)][batch.present[..., group]])
  momentum, energy = (np.concatenate(values) for values in columns.values())
  assert fitted["mdc_p3_px"].mean == pytest.approx(momentum.mean(), abs=1e-5)
  assert fitted["mdc_p3_px"].std == pytest.approx(momentum.std(), rel=1e-4)
  assert fitted["emc_energy"].mean == pytest.approx(np.log(energy).mean(), rel=1e-4)


def test_what_nothing_measured_is_zero_for_the_model(tmp_path):
  """A sample without hits in the muon counter and without shapes of showers."""
  events = random_events()
  for flag in ("has_MUC", "has_EMC_shape"):
    events[flag] = 0 * events[flag]
  write(tmp_path / "in" / "jpsi_000.root", events)
  ingest(tmp_path / "in", tmp_path / "out")
  schema = open_dataset(tmp_path / "out", "bes").schema
  missing = [i for i, f in enumerate(schema.features) if f.group in ("MUC", "EMC_shape")]
  assert all((schema.features[i].mean, schema.features[i].std) == (0, 1) for i in missing)
  first = np.cumsum([0, *(f.width for f in schema.features)])
  module = StandardiseInputs(schema)
  for batch in batches(tmp_path / "out"):
    arguments = (batch.p4, batch.features, batch.present, batch.mask)
    columns = np.asarray(module.apply(module.init(jax.random.key(0), *arguments), *arguments))
    assert np.isfinite(columns).all() and columns.any()
    assert not columns[..., first[missing]].any()


def test_names_of_chains_are_the_contract_not_their_numbers(made, tmp_path):
  events, _, _ = made
  order = [2, 0, 1]
  renumbered = events | {"chain": np.argsort(order)[events["chain"]].astype(np.int32)}
  write(tmp_path / "in" / "jpsi_000.root", renumbered, [CHAINS[i] for i in order])
  manifest = ingest(tmp_path / "in", tmp_path / "out", classes=CHAINS)
  assert manifest.classes == CHAINS
  labels = {i: event[2] for i, event in everything(tmp_path / "out").items()}
  assert labels == dict(enumerate(events["chain"].tolist()))


def test_events_of_other_chains_are_an_error_or_counted(made, tmp_path):
  events, _, _ = made
  write(tmp_path / "in" / "jpsi_000.root", events)
  settings = {"classes": CHAINS[:2]}
  with pytest.raises(DataError, match=r"branch 'chain': decay chain that is no class of the data"):
    ingest(tmp_path / "in", tmp_path / "out", **settings)
  manifest = ingest(tmp_path / "in", tmp_path / "out", on_bad="drop", **settings)
  (source,) = manifest.sources
  other = int((events["chain"] == 2).sum())
  assert source["drops"] == {"decay chain that is no class of the data set (chain)": other}
  assert source["kept"] == N - other > 0


def test_a_chain_that_no_file_has_is_named_with_the_nearest(made, tmp_path):
  write(tmp_path / "in" / "jpsi_000.root", made[0])
  with pytest.raises(DataError, match=r"is 'J/psi -> e\+ mu-' of --config.classes; the nearest"):
    ingest(tmp_path / "in", tmp_path / "out", classes=("J/psi -> e+ mu-",))


def test_files_without_names_need_a_list_of_classes(made, tmp_path):
  events = made[0]
  write(tmp_path / "in" / "jpsi_000.root", events, chains=None)
  with pytest.raises(DataError, match=r"bare numbers.*--config.classes"):
    ingest(tmp_path / "in", tmp_path / "out")
  ingest(tmp_path / "in", tmp_path / "out", classes=CHAINS)
  labels = {i: event[2] for i, event in everything(tmp_path / "out").items()}
  assert labels == dict(enumerate(events["chain"].tolist()))


def test_branches_may_have_other_names(made, tmp_path):
  events, out, _ = made
  names = {"emc_energy": "shower_e", "chain": "class_number", "has_MDC": "is_track"}
  other = {names.get(name, name): values for name, values in events.items()}
  write(tmp_path / "in" / "jpsi_000.root", other)
  ingest(tmp_path / "in", tmp_path / "out", branches=names)
  expected, found = everything(out), everything(tmp_path / "out")
  assert expected.keys() == found.keys()
  for i, event in expected.items():
    np.testing.assert_array_equal(event[1], found[i][1])
  with pytest.raises(
    DataError, match=r"names no branch of the layout; the nearest is 'emc_energy'"
  ):
    ingest(tmp_path / "in", tmp_path / "out", branches={"emc_enrgy": "e"})


@pytest.mark.parametrize("branch", ["mdc_p3_px", "has_EMC", "chain", "emc_latmom", "has_MUC"])
def test_a_missing_branch_is_named(tmp_path, branch):
  events = random_events()
  del events[branch]
  write(tmp_path / "in" / "jpsi_000.root", events)
  with pytest.raises(
    DataError, match=rf"no branch '{branch}' \(needed by .*nearest name"
  ) as caught:
    ingest(tmp_path / "in", tmp_path / "out")
  assert "\n" not in str(caught.value)


def spoil(events, branch, value, flag=None):
  """Sets one value of event BAD, of the first object with `flag`."""
  lists = ak.to_list(events[branch])
  place = 0 if flag is None else ak.to_list(events[flag])[BAD].index(1)
  lists[BAD][place] = value
  events[branch] = ak.values_astype(ak.Array(lists), np.float32)


@pytest.mark.parametrize(
  ("branch", "value", "flag", "reason"),
  [
    ("mdc_p3_py", np.nan, "has_MDC", "NaN or infinite value"),
    ("emc_latmom", np.inf, "has_EMC_shape", "NaN or infinite value"),
    ("has_PID", 2.0, None, "flag that is neither 0 nor 1"),
  ],
)
def test_bad_values_are_errors_with_entry_and_branch(tmp_path, branch, value, flag, reason):
  events = random_events()
  spoil(events, branch, value, flag)
  write(tmp_path / "in" / "jpsi_000.root", events)
  with pytest.raises(DataError, match=rf"jpsi_000.root, entry {BAD}, branch '{branch}': {reason}"):
    ingest(tmp_path / "in", tmp_path / "out")
  (source,) = ingest(tmp_path / "in", tmp_path / "out", on_bad="drop").sources
  assert source["kept"] == N - 1


def test_what_a_missing_measurement_holds_has_no_meaning(tmp_path):
  events = random_events()
  plain = write(tmp_path / "a" / "jpsi_000.root", events)
  for flag, branch in (("has_MDC", "vz0"), ("has_EMC", "emc_x"), ("has_MUC", "muc_dpt")):
    measured = events[flag] > 0
    events[branch] = ak.values_astype(ak.where(measured, events[branch], np.nan), np.float32)
  write(tmp_path / "b" / plain.name, events)
  for name in "ab":
    ingest(tmp_path / name, tmp_path / f"out_{name}")
  one, two = (everything(tmp_path / f"out_{name}") for name in "ab")
  for i, event in one.items():
    np.testing.assert_array_equal(event[1], two[i][1])


def test_an_object_that_nothing_measured_is_bad(tmp_path):
  events = random_events()
  for flag in ("has_MDC", "has_EMC"):
    spoil(events, flag, 0)
  write(tmp_path / "in" / "jpsi_000.root", events)
  with pytest.raises(DataError, match=rf"entry {BAD}, .*neither the MDC nor the EMC measured"):
    ingest(tmp_path / "in", tmp_path / "out")


def test_jets_and_events_are_not_mixed_up(tmp_path):
  (tmp_path / "jets").mkdir()
  write_root(tmp_path / "jets" / "HToBB_0.root", random_jets(10, "Hbb"))
  with pytest.raises(DataError, match=r"no branch 'mdc_p3_px'.*--config.inputs=full"):
    ingest(tmp_path / "jets", tmp_path / "out")
  events = random_events()
  path = tmp_path / "events" / "jpsi_000.root"
  path.parent.mkdir()
  write_root(path, {"part_px": events["q"]} | events)
  with pytest.raises(DataError, match=r"--config.inputs=bes"):
    quiet_ingest(tmp_path / "events", tmp_path / "out", inputs="full")
  np.savez(tmp_path / "events.npz", p4=np.ones((3, 2, 4)), label=np.zeros(3))
  with pytest.raises(DataError, match=r"read from .root files only"):
    ingest(tmp_path / "events.npz", tmp_path / "out")


def test_manifest_brings_schema_and_counts_back(made):
  _, out, manifest = made
  loaded = Manifest.load(out)
  assert loaded.schemas == manifest.schemas and list(loaded.schemas) == ["bes"]
  assert loaded.layout.particle == (*SCHEMA.stored, *FLAGS)
  schema = loaded.schema("bes")
  assert schema.classes == CHAINS and not any(f.needs_fit for f in schema.features)
  small = {c.name for c in loaded.columns if c.dtype == "|i1"}
  assert small >= {*FLAGS, "q", "pid_prob_type"}


def test_generated_files_go_through(tmp_path):
  pytest.importorskip("pythia8mc")
  pytest.importorskip("decaylanguage")
  from jetfm.generate import OBJECT_BRANCHES, make_files, plan_event_files

  make_files(plan_event_files(tmp_path / "in", CHAINS, 40, 40, seed=1))
  manifest = ingest(tmp_path / "in", tmp_path / "out", edges=(8, 16, 32))
  assert manifest.classes == CHAINS
  assert sum(split.num_events for split in manifest.splits.values()) == 40
  assert set(manifest.layout.particle) <= set(OBJECT_BRANCHES)


def test_every_feature_has_a_likelihood_that_fits_its_transforms():
  for features in EVENT_INPUT_SETS.values():
    for f in features:
      assert (f.likelihood == "categorical") == (f.width > 1)
      # Of what the network sees, whatever its unit, nothing is far from 1.
      spike = f.likelihood == "zero_inflated_lognormal"
      assert spike or f.transforms[-1].kind in ("zscore", "categorical")
