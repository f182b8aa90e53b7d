"""Blocks: what is written is what is read, or an error."""

import dataclasses

import numpy as np
import pytest

from jetfm.data.errors import DataError
from jetfm.data.events import (
  Events,
  Layout,
  concatenate,
  leading,
  put_rows,
  ragged_index,
  take_rows,
)
from jetfm.data.records import ShardReader, columns_of, decode, encode, write_shard
from jetfm.data.spool import SpoolWriter, cut_runs, key_sizes, mix64, read_shard

LAYOUT = Layout(("a", "flag", "b"), ("target", "spectator"))
COLUMNS = columns_of(LAYOUT, integral=("flag",))


def random_events(n=20, seed=0):
  r = np.random.default_rng(seed)
  counts = r.integers(0, 9, n).astype(np.int32)
  particles = int(counts.sum())
  bits = r.integers(0, 2**31, (particles, 4)).astype(np.uint32)
  features = r.normal(size=(particles, 3)).astype(np.float32)
  features[:, 1] = r.integers(-128, 128, particles)
  return Events(
    counts,
    (bits & np.uint32(0xBF7FFFFF)).view(np.float32),  # any finite numbers, denormal ones too
    features,
    r.normal(size=(n, 2)).astype(np.float32),
    r.integers(0, 3, n).astype(np.int32),
    np.arange(n, dtype=np.int32) + 2**30,
  )


def assert_same(a, b):
  for field in dataclasses.fields(Events):
    x, y = getattr(a, field.name), getattr(b, field.name)
    assert x.dtype == y.dtype and x.shape == y.shape
    assert x.tobytes() == y.tobytes()


def test_a_block_comes_back_bit_by_bit():
  events = random_events()
  assert_same(decode(encode(events, LAYOUT, COLUMNS), LAYOUT, COLUMNS), events)


def test_a_reader_gets_only_the_columns_it_wants():
  events = random_events()
  part = decode(encode(events, LAYOUT, COLUMNS), Layout(("b",), ("spectator",)), COLUMNS)
  np.testing.assert_array_equal(part.features, events.features[:, 2:])
  np.testing.assert_array_equal(part.values, events.values[:, 1:])
  np.testing.assert_array_equal(part.p4, events.p4)


def test_a_cut_block_is_an_error():
  data = encode(random_events(), LAYOUT, COLUMNS)
  for cut in (0, 3, 20, len(data) // 2, len(data) - 1):
    with pytest.raises(DataError):
      decode(data[:cut], LAYOUT, COLUMNS)
  with pytest.raises(DataError, match="not a block"):
    decode(data, LAYOUT, COLUMNS[:-1])


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_in_a_file_is_an_error_or_harmless(tmp_path, seed):
  r = np.random.default_rng(seed)
  blocks = [encode(random_events(seed=i), LAYOUT, COLUMNS) for i in range(3)]
  write_shard(tmp_path / "good", blocks)
  data = bytearray((tmp_path / "good").read_bytes())
  inside = data.index(blocks[1])  # uncompressed: the block is there as it is
  data[inside + int(r.integers(len(blocks[1])))] ^= 1 << int(r.integers(8))
  (tmp_path / "bad").write_bytes(data)
  assert ShardReader(tmp_path).read("good", [0, 1, 2]) == blocks
  with pytest.raises(DataError, match="damaged"):
    ShardReader(tmp_path).read("bad", [1])


def test_a_missing_file_or_record_is_an_error(tmp_path):
  write_shard(tmp_path / "shard", [b"x"])
  for file, record in (("shard", 1), ("other", 0)):
    with pytest.raises(DataError, match="cannot read records"):
      ShardReader(tmp_path).read(file, [record])


def test_few_files_are_open_at_a_time(tmp_path):
  for i in range(10):
    write_shard(tmp_path / str(i), [bytes([i])])
  reader = ShardReader(tmp_path, max_open=3)
  for i in (*range(10), *range(10)):
    assert reader.read(str(i), [0]) == [bytes([i])]
    assert len(reader._open) <= 3


@pytest.mark.parametrize(("jobs", "runs"), [(1, 1), (3, 5), (30, 1), (30, 10)])
def test_shards_hold_every_event_once_ordered_by_its_hash(tmp_path, monkeypatch, jobs, runs):
  """However the events came, and without opening a file for each job and shard."""
  events = random_events(400)
  order = mix64(events.event_id, 5)
  key = (order >> np.uint64(58)).astype(np.int64)  # 64 buckets
  opened = []

  def open_file(path, *arguments):
    opened.append(path)
    return open(path, *arguments)

  monkeypatch.setattr("pathlib.Path.open", open_file)
  spools = []
  parts = np.array_split(np.random.default_rng(1).permutation(len(events)), jobs * runs)
  for job in range(jobs):
    writer = SpoolWriter(tmp_path / f"index-{job}", LAYOUT)
    for part in parts[job * runs : (job + 1) * runs]:
      writer.write(events.select(part), order[part], key[part])
    spools.append(writer.close())
  sizes = key_sizes(spools, 64)
  np.testing.assert_array_equal(sizes[:, 0], np.bincount(key, minlength=64))
  np.testing.assert_array_equal(sizes[:, 1], np.bincount(key, events.counts, minlength=64))
  bounds = [0, 7, 8, 15, 40, 64]
  cut = cut_runs(spools, bounds, tmp_path / "cuts")
  shards = [read_shard(cut, LAYOUT, i) for i in range(len(bounds) - 1)]
  assert_same(concatenate(shards), events.select(np.argsort(order)))
  for first, last, shard in zip(bounds, bounds[1:], shards, strict=False):
    assert set(shard.event_id) == set(events.event_id[(key >= first) & (key < last)])
  assert len([p for p in opened if "spool" in p.name]) == 2 * (jobs + len(shards))


def test_a_spool_that_is_cut_short_is_an_error(tmp_path):
  events = random_events(50)
  writer = SpoolWriter(tmp_path / "index", LAYOUT)
  writer.write(events, mix64(events.event_id, 5), np.zeros(50, np.int64))
  spool = writer.close()
  path = spool.stem.with_suffix(".particles")
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(OSError, match="cut short"):
    read_shard(cut_runs([spool], [0, 1], tmp_path / "cuts"), LAYOUT, 0)


def test_selecting_and_slicing_agree_with_lists():
  events = random_events()
  jets = np.split(events.p4, np.cumsum(events.counts)[:-1])
  chosen = np.array([3, 3, 0, 19, 7])
  picked = events.select(chosen)
  np.testing.assert_array_equal(picked.p4, np.concatenate([jets[i] for i in chosen]))
  np.testing.assert_array_equal(picked.event_id, events.event_id[chosen])
  assert_same(concatenate([events.slice(0, 6), events.slice(6, 6), events.slice(6, 20)]), events)


@pytest.mark.parametrize("width", [0, 1, 2, 3, 4, 10])
def test_rows_move_like_numpy_indexing(width):
  r = np.random.default_rng(width)
  array, rows = r.normal(size=(50, width)).astype(np.float32), r.permutation(50)[:30]
  np.testing.assert_array_equal(take_rows(array, rows), array[rows])
  target, expected = np.zeros_like(array), np.zeros_like(array)
  put_rows(target, rows, array[:30])
  expected[rows] = array[:30]
  np.testing.assert_array_equal(target, expected)


def test_ragged_index_is_the_ranges_in_turn():
  starts, counts = np.array([5, 0, 9, 2]), np.array([3, 0, 1, 2])
  np.testing.assert_array_equal(ragged_index(starts, counts), [5, 6, 7, 9, 2, 3])
  assert len(ragged_index(starts[:0], counts[:0])) == 0


def test_leading_keeps_the_hardest_particles_in_order():
  r = np.random.default_rng(5)
  events = random_events()
  events = dataclasses.replace(events, p4=r.normal(size=events.p4.shape).astype(np.float32))
  kept, lost = leading(events, 4)
  np.testing.assert_array_equal(kept.counts, np.minimum(events.counts, 4))
  np.testing.assert_array_equal(lost, events.counts - kept.counts)
  start = 0
  for i, n in enumerate(events.counts):
    jet, features = events.p4[start : start + n], events.features[start : start + n]
    order = np.argsort(-np.hypot(jet[:, 1], jet[:, 2]), kind="stable")[:4]
    own = kept.slice(i, i + 1)
    np.testing.assert_array_equal(own.p4, jet[order])
    np.testing.assert_array_equal(own.features, features[order])
    start += n
