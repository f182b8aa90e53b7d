"""Batches: a pure function of (seed, step), whoever asks for them."""

import itertools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.stats

from jetfm.data.errors import DataError
from jetfm.data.pipeline import open_dataset
from jetfm.data.windows import permutation
from tests.data.conftest import CLASSES, ids_of, quiet_ingest, read_all
from tests.jets import write_files

LENGTHS = (32, 48, 64, 96, 128)


def loader(directory, inputs="kin4", **arguments):
  dataset = open_dataset(directory, inputs)
  return dataset.loader(**{"batch_size": 64, "lengths": LENGTHS, "window": 3, **arguments})


def assert_same_batches(a, b):
  for x, y in zip(a, b, strict=True):
    for name in x.__dataclass_fields__:
      np.testing.assert_array_equal(getattr(x, name), getattr(y, name), err_msg=name)


def first_steps(iterator, n):
  return list(itertools.islice(iterator, n))


@pytest.mark.parametrize("threads", [1, 4])
def test_reading_ahead_changes_nothing(directory, threads):
  one = loader(directory)
  for step, groups in enumerate(first_steps(loader(directory).iterate(threads=threads), 20)):
    assert_same_batches(groups, one[step])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_order_does_not_depend_on_workers(directory, workers):
  one = loader(directory, "full")
  run = loader(directory, "full").iterate(start_step=5, workers=workers)
  for step, groups in enumerate(first_steps(run, 18), start=5):
    assert_same_batches(groups, one[step])


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_global_batch_does_not_depend_on_processes(directory, processes):
  whole = loader(directory)
  shares = [loader(directory, process_index=p, process_count=processes) for p in range(processes)]
  for step in (0, 3, whole.steps_per_epoch + 1):
    parts = [share[step] for share in shares]
    for g, batch in enumerate(whole[step]):
      joined = np.concatenate([part[g].event_id for part in parts])
      np.testing.assert_array_equal(joined, batch.event_id)
      np.testing.assert_array_equal(np.concatenate([part[g].p4 for part in parts]), batch.p4)


def test_another_process_gets_the_same_batches(directory):
  program = (
    "import json, sys; from jetfm.data import open_dataset\n"
    "l = open_dataset(sys.argv[1], 'kin4').loader(64, (32, 48, 64, 96, 128), window=3, "
    "process_index=1, process_count=2)\n"
    "print(json.dumps([[b.event_id.tolist() for b in l[s]] for s in (0, 7)]))"
  )
  out = subprocess.run(
    [sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True
  )
  here = loader(directory, process_index=1, process_count=2)
  assert json.loads(out.stdout) == [[b.event_id.tolist() for b in here[s]] for s in (0, 7)]


@pytest.mark.parametrize("start", [1, 7, 24, 60])
def test_a_run_restarts_at_any_step(directory, start):
  whole = first_steps(loader(directory).iterate(), start + 3)
  rest = first_steps(loader(directory).iterate(start_step=start), 3)
  for a, b in zip(whole[start:], rest, strict=True):
    assert_same_batches(a, b)


def test_steps_can_be_asked_for_in_any_order(directory):
  forward, scattered = loader(directory), loader(directory)
  order = np.random.default_rng(0).permutation(2 * forward.steps_per_epoch)
  seen = {int(s): ids_of(scattered[s]) for s in order}
  for step in range(len(order)):
    np.testing.assert_array_equal(seen[step], ids_of(forward[step]))


@pytest.mark.parametrize("batch_size", [4, 64, 4096])
@pytest.mark.parametrize("lengths", [None, LENGTHS, (128,)])
@pytest.mark.parametrize(
  ("lanes", "window", "shuffle"), [(1, 16, True), (4, 2, True), (2, 1, False)]
)
def test_every_event_comes_once_per_epoch(directory, batch_size, lengths, lanes, window, shuffle):
  dataset = open_dataset(directory, "kin4")
  run = dataset.loader(batch_size, lengths, 1, shuffle, epochs=2, lanes=lanes, window=window)
  shapes, expected = set(), np.sort(list(read_all(dataset)))
  for epoch in range(2):
    ids = []
    for step in range(run.steps_per_epoch):
      groups = run[epoch * run.steps_per_epoch + step]
      ids.append(ids_of(groups))
      shapes.add(tuple(batch.mask.shape for batch in groups))
      for batch in groups:
        np.testing.assert_array_equal(batch.weight > 0, batch.event_id >= 0)
        np.testing.assert_array_equal(batch.mask.any(axis=1), batch.event_id >= 0)
    ids = np.concatenate(ids)
    np.testing.assert_array_equal(np.sort(ids[ids >= 0]), expected)
  assert len(shapes) == 1  # one compiled step
  assert len(run) == 2 * run.steps_per_epoch


@pytest.mark.parametrize("split", ["train", "valid"])
def test_tiny_data_sets_are_read_whole(tmp_path, split):
  write_files(tmp_path / "files", ("Hbb",), jets=3)
  quiet_ingest({split: tmp_path / "files"}, tmp_path / "out", classes=("Hbb",), check_names=True)
  run = open_dataset(tmp_path / "out", "kin4", split).loader(8, epochs=1)
  ids = np.concatenate([ids_of(run[s]) for s in range(len(run))])
  assert sorted(ids[ids >= 0]) == [0, 1, 2]


def test_epochs_and_seeds_give_other_orders(directory):
  def epoch(seed, number):
    run = loader(directory, seed=seed)
    steps = range(number * run.steps_per_epoch, (number + 1) * run.steps_per_epoch)
    return np.concatenate([ids_of(run[s]) for s in steps])

  orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0)]
  for a, b in itertools.combinations(orders, 2):
    assert np.mean(a == b) < 0.2  # filler slots agree, and chance
  np.testing.assert_array_equal(epoch(0, 1), orders[1])


def test_class_mix_of_every_batch_is_the_data_sets(directory):
  """Pearson's chi-square over all batches; sorting by length, the classic mistake, fails it."""
  run = loader(directory, epochs=1)
  dataset = run.dataset
  share = np.array(
    [n / dataset.num_events for n in dataset.manifest.splits["train"].class_counts(10)]
  )
  present = share > 0
  label = {i: event[2] for i, event in read_all(dataset).items()}
  length = {i: len(event[0]) for i, event in read_all(dataset).items()}

  def chi_square(batches):
    total = 0.0
    for ids in batches:
      counts = np.bincount([label[i] for i in ids], minlength=10)[present]
      expected = share[present] * len(ids)
      total += float(((counts - expected) ** 2 / expected).sum())
    return total

  batches = [[i for i in ids_of(run[s]) if i >= 0] for s in range(len(run))]
  limit = scipy.stats.chi2.ppf(1 - 1e-4, len(batches) * (present.sum() - 1))
  assert chi_square(batches) < limit
  by_length = sorted(label, key=length.__getitem__)
  cuts = np.cumsum([len(b) for b in batches])[:-1]
  assert chi_square([part.tolist() for part in np.split(np.array(by_length), cuts)]) > limit


def test_padded_slots_and_filler_are_zero(directory):
  run = loader(directory, "full", batch_size=128)
  for batch in run[0]:
    assert not batch.p4[~batch.mask].any() and not batch.features[~batch.mask].any()
    assert np.all(batch.p4[batch.mask][:, 0] > 0)
    assert np.all(np.diff(batch.mask.astype(int), axis=1) <= 0)  # particles first
    filler = batch.weight == 0
    assert np.all(batch.label[filler] == -1) and not batch.targets[filler].any()


def test_what_padded_slots_hold_has_no_meaning(directory):
  run = loader(directory, "full", batch_size=128, lengths=(128,))
  schema, (batch,) = run.dataset.schema, run[0]
  values = jax.jit(schema.values)
  garbage = np.where(batch.mask[..., None], batch.p4, np.nan)
  np.testing.assert_array_equal(
    values(garbage, batch.features, batch.mask), values(batch.p4, batch.features, batch.mask)
  )


def test_particles_are_sorted_by_pt(directory):
  for batch in loader(directory)[0]:
    pt2 = batch.p4[..., 1] ** 2 + batch.p4[..., 2] ** 2
    assert np.all(np.diff(pt2, axis=1) <= 0)


def test_dtypes_and_shapes_are_those_of_batch(directory):
  run = loader(directory, "full")
  schema = run.dataset.schema
  for batch, n in zip(run[0], run.lengths, strict=True):
    b = batch.num_events
    assert batch.p4.shape == (b, n, 4) and batch.p4.dtype == np.float32
    assert batch.features.shape == (b, n, len(schema.stored))
    assert batch.features.dtype == batch.weight.dtype == batch.targets.dtype == np.float32
    assert batch.present.shape == (b, n, len(schema.groups)) and batch.present.dtype == bool
    assert np.all(batch.present == batch.mask[..., None])
    assert batch.label.dtype == batch.event_id.dtype == np.int32
    assert batch.targets.shape == (b, len(schema.stored_targets))
    assert batch.spectators.shape == (b, len(schema.spectators))
  assert sum(b.num_events for b in run[0]) == run.batch_size


@pytest.mark.parametrize("inputs", ["kin4", "kin", "kinpid"])
def test_input_sets_see_the_same_events(directory, inputs):
  small, full = loader(directory, inputs), loader(directory, "full")
  names = small.dataset.schema.stored
  columns = [full.dataset.schema.stored.index(n) for n in names]
  for step in (0, 5):
    for a, b in zip(small[step], full[step], strict=True):
      np.testing.assert_array_equal(a.event_id, b.event_id)
      np.testing.assert_array_equal(a.p4, b.p4)
      np.testing.assert_array_equal(a.features, b.features[..., columns])


def test_classes_can_be_chosen(directory):
  whole = read_all(open_dataset(directory, "kinpid"))
  chosen = open_dataset(directory, "kinpid", classes=("Tbl", "QCD"))
  assert chosen.schema.classes == ("Tbl", "QCD")
  names = open_dataset(directory, "kinpid").schema.classes
  expected = {i: e for i, e in whole.items() if names[e[2]] in ("Tbl", "QCD")}
  found = read_all(chosen)
  assert list(found) == list(expected) and chosen.num_events == len(expected)
  for i, event in found.items():
    assert chosen.schema.classes[event[2]] == names[expected[i][2]]
    np.testing.assert_array_equal(event[0], expected[i][0])


@pytest.mark.parametrize("n", [1, 37, 500, 10**6])
def test_max_events_keeps_a_fixed_part(directory, n):
  dataset = open_dataset(directory, "kin4")
  part = open_dataset(directory, "kin4", max_events=n)
  assert part.num_events == min(n, dataset.num_events)
  ids = read_all(part).keys()
  assert len(ids) == part.num_events and ids <= read_all(dataset).keys()
  for a, b in zip(part.length_counts, dataset.length_counts, strict=True):
    assert abs(a - b * part.num_events / dataset.num_events) <= 1


def test_successive_subsets_have_hardly_an_event_in_common(directory):
  parts = [open_dataset(directory, "kin4", max_events=60, subset=i) for i in (0, 1, 7)]
  assert [p.num_events for p in parts] == [60] * 3
  assert len({tuple(p.length_counts) for p in parts}) == 1
  first, second, _ = (set(read_all(p)) for p in parts)
  assert len(first & second) < 60 / 4
  again = open_dataset(directory, "kin4", max_events=60, subset=1)
  assert set(read_all(again)) == second


def test_permutations_depend_on_every_part_of_the_key():
  orders = [tuple(permutation(50, *key)) for key in itertools.product((0, 1), repeat=4)]
  assert len(set(orders)) == 16
  assert all(sorted(o) == list(range(50)) for o in orders)
  assert permutation(8, 1, 2).tolist() == permutation(8, 1, 2).tolist()


def test_decoded_windows_stay_few(directory):
  run = loader(directory, window=1, lanes=2)
  for step in range(3 * run.steps_per_epoch):
    run[step]
  assert len(run._cache._windows) <= 2 * 2 * len(run.dataset.blocks)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"inputs": "kinn"}, "no input set 'kinn'.*nearest is 'kin'"),
    ({"split": "trian"}, "no split 'trian', the nearest is 'train'"),
    ({"classes": ("Tbqqq",)}, "no class 'Tbqqq'; the nearest is 'Tbqq'"),
    ({"classes": ("Hbb", "Hbb")}, "different names"),
    ({"max_events": 0}, "must be positive"),
  ],
)
def test_what_does_not_exist_cannot_be_opened(directory, arguments, message):
  with pytest.raises(DataError, match=message):
    open_dataset(directory, **arguments)


def test_processes_must_divide_the_lanes(directory):
  with pytest.raises(DataError, match="cannot share 4 lanes"):
    loader(directory, process_index=0, process_count=3)


def test_classes_without_events_have_none(directory):
  empty = open_dataset(directory, classes=("Hcc",))
  assert empty.num_events == 0 and "Hcc" not in CLASSES
  with pytest.raises(DataError, match="the split is empty"):
    empty.loader(4)
