"""benchmarks.reproduce: cells are kept, the budget ends the work, rows say what was measured."""

import json
import time
import types

import pytest

from benchmarks import bench as running
from benchmarks import clear_cells, clear_table, jet_cells, jet_table, reproduce
from benchmarks.bench import Bench, Failed, OutOfTime
from benchmarks.cells import Cell, work
from benchmarks.weaver_cell import MORE_BLOCKS
from jetfm.evals.published import CLEAR_STRATEGIES
from launch import cli

FOREVER = float("inf")


def bench(out, end=FOREVER):
  return Bench(out, out / "data", "configs/clear.py:tiny", (), end)


def work_clear(bench, wanted, make, processes=1):
  return work(bench, wanted, clear_cells.needs, make, processes)


def values(accuracy):
  names = ("accuracy", "accuracy_hadronic", "final_state_accuracy", "macro_f1")
  oracle = {"oracle_accuracy": 0.7, "oracle_accuracy_hadronic": 0.6, "events": 10}
  return dict.fromkeys(names, accuracy) | oracle


def test_cells_are_made_once_and_the_rest_waits_for_the_next_command(tmp_path, capsys):
  made = []

  def make(bench, cell):
    if len(made) == 5:
      raise OutOfTime
    made.append(cell)
    return values(0.5)

  first = work_clear(bench(tmp_path), clear_cells.cells(1), make)
  assert list(first) == made and "budget is spent" in capsys.readouterr().err
  second = work_clear(
    bench(tmp_path), clear_cells.cells(1), lambda bench, cell: made.append(cell) or values(0.4)
  )
  assert made == clear_cells.cells(1) == list(second)
  assert [second[cell]["accuracy"] for cell in made] == [0.5] * 5 + [0.4] * (len(made) - 5)


def test_rows_can_be_chosen():
  some = clear_cells.cells(2, ("labels", "knn"))
  assert {cell.row for cell in some} == {"pretrain", "pretrain_views", "labels", "knn"}
  assert set(some) < set(clear_cells.cells(2)) and len(set(clear_cells.cells(2))) == 2 * (10 + 6)
  assert [c.row for c in clear_cells.cells(1, ["two_stage"])] == [
    "pretrain",
    "class_attention",
    "two_stage",
  ]


@pytest.mark.parametrize("processes", (1, 5))
def test_a_cell_begins_when_those_that_it_starts_from_are_there(tmp_path, processes):
  wanted, ended = clear_cells.cells(2), set()

  def make(bench, cell):
    assert set(clear_cells.needs(cell)) <= ended
    time.sleep(0.01)
    bench.charge(2.0)
    ended.add(cell)
    return {} if cell.row in clear_cells.PREPARATIONS else values(0.5)

  done = work_clear(bench(tmp_path), wanted, make, processes)
  assert list(done) == wanted and {v["cpu_seconds"] for v in done.values()} == {2.0}
  rows = {row["name"]: row for row in clear_table.show(done)}
  assert rows["clear_minutes_of_two_cores"]["value"] == pytest.approx(2 * 32 / 120, abs=0.01)


def test_what_starts_from_a_failure_is_not_begun(tmp_path):
  def make(bench, cell):
    if cell.row == "pretrain":
      raise Failed("status 70")
    return values(0.5)

  done = work_clear(bench(tmp_path), clear_cells.cells(1), make, 2)
  assert {cell.row for cell in done} == {"pretrain_views", "labels"}


def test_time_of_an_attempt_without_result_counts_too(tmp_path):
  def make(bench, cell):
    bench.charge(2.0)
    if not ended:
      ended.append(cell)
      raise OutOfTime
    return values(0.5)

  ended, cell = [], Cell("labels", 0, 1.0, "scratch")
  assert work_clear(bench(tmp_path), [cell], make) == {}
  assert work_clear(bench(tmp_path), [cell], make)[cell]["cpu_seconds"] == 4.0


def test_nothing_is_begun_without_time(tmp_path):
  late = bench(tmp_path, time.monotonic() - 1)
  assert work_clear(late, clear_cells.cells(1), lambda *_: values(0.5)) == {}


def test_a_cell_that_fails_does_not_end_the_others(tmp_path, capsys):
  def make(bench, cell):
    if cell.row == "probe_2":
      raise Failed("status 70")
    return values(0.5)

  done = work_clear(bench(tmp_path), clear_cells.cells(1), make)
  assert set(clear_cells.cells(1)) - set(done) == {Cell("probe_2", 0)}
  assert "probe_2-0: status 70" in capsys.readouterr().err


def test_rows_are_means_over_seeds_and_compare_strategies():
  accuracy = dict.fromkeys(CLEAR_STRATEGIES, 0.3) | {"differential": 0.5, "class_attention": 0.2}
  done = {
    cell: values(accuracy.get(cell.row, 0.4) + 0.1 * cell.seed) for cell in clear_cells.cells(2)
  }
  rows = {row["name"]: row for row in clear_table.show(done)}
  assert rows["clear_differential"]["value"] == pytest.approx(55)
  assert rows["clear_differential"]["detail"]["published"] == CLEAR_STRATEGIES["differential"]
  assert rows["clear_differential_over_best_frozen"]["holds"] is True
  assert rows["clear_class_attention_over_probe_1"]["holds"] is False
  assert rows["clear_pretraining_gain_1_percent"]["holds"] is False
  json.dumps(list(rows.values()), allow_nan=False)
  assert clear_table.show({}) == []


def test_a_command_that_fails_or_takes_too_long(tmp_path):
  with pytest.raises(Failed, match="no option"):
    bench(tmp_path).launch("launch.train", "--nonsense=1")
  with pytest.raises(OutOfTime):
    bench(tmp_path, time.monotonic() + 0.2).launch("launch.train", "--help")


def test_a_folder_belongs_to_one_setting(tmp_path, capsys):
  reproduce.claim(tmp_path, {"events": 1})
  reproduce.claim(tmp_path, {"events": 1})
  with pytest.raises(Failed, match="another --out"):
    reproduce.claim(tmp_path, {"events": 2})


def test_a_wrong_data_set_ends_it_before_anything_is_made(tmp_path, capsys):
  arguments = ("--table=clear", f"--data={tmp_path / 'nowhere'}", f"--out={tmp_path / 'out'}")
  assert reproduce.main(arguments) == 2
  assert capsys.readouterr().err.count("no manifest.json") == 1
  assert not (tmp_path / "out").exists()


def test_every_stage_of_the_table_is_one_of_the_config():
  config = cli.load_file(f"{clear_cells.CONFIG}:tiny")
  assert {"pretrain", *clear_cells.STAGES} <= set(config.stage)
  assert set(CLEAR_STRATEGIES) == {"knn", *clear_cells.STAGES}


@pytest.mark.parametrize("table", reproduce.TABLES)
def test_cells_come_after_those_that_they_start_from(table):
  found = reproduce.TABLES[table]
  for rows in (found.rows, *([row] for row in found.rows)):
    wanted = found.cells(2, rows)
    assert len(set(wanted)) == len(wanted) and {cell.row for cell in wanted} >= set(rows)
    for i, cell in enumerate(wanted):
      assert set(found.needs(cell)) <= set(wanted[:i])


def test_stages_of_the_table_of_jets_are_those_of_the_config():
  for variant in reproduce.VARIANTS:
    config = cli.load_file(f"configs/lorentz_part.py:{variant}")
    assert set(config.stage) == {"pretrain", *jet_cells.STAGES}
    part = cli.load_file(f"configs/lorentz_part.py:{jet_cells.part_variant(variant)}")
    assert (config.encoder.kind, part.encoder.kind) == ("lorentz_part", "part")
    assert config.stage == part.stage and config.data == part.data


def test_published_numbers_hold_on_the_better_side_only():
  published = {
    metric: jet_table.strictest(metric) for names in jet_table.ASKED.values() for metric in names
  }
  assert published["chamfer_seed"] == 0.197 and published["accuracy"] == 0.4905

  def done(factor):
    columns = dict.fromkeys(jet_table.COLUMNS, 0.5) | {m: factor * x for m, x in published.items()}
    return {Cell(row, seed): columns for row in jet_table.ASKED for seed in range(2)}

  for factor in (0.5, 2.0):
    rows = {row["name"]: row for row in jet_table.show(done(factor))}
    for metric in published:
      higher = metric in (*jet_table.ASKED["classify"], "seed_mass_r2")
      assert rows[f"jets_{metric}"]["holds"] is (higher == (factor > 1)), metric
  json.dumps(list(rows.values()), allow_nan=False)
  assert jet_table.show({}) == []


def test_rows_of_jets_compare_ways_of_training():
  rows = ("labels", "weaver", "weaver_deeper")
  scratch, peer, deeper = (Cell(row, 0, 1.0, "scratch") for row in rows)
  accuracy = {Cell("classify", 0): 0.6, scratch: 0.5, peer: 0.7, deeper: 0.55}
  done = {cell: dict.fromkeys(jet_table.COLUMNS, value) for cell, value in accuracy.items()}
  rows = {row["name"]: row for row in jet_table.show(done)}
  assert rows["jets_pretraining_gain_100_percent"]["value"] == pytest.approx(10)
  assert rows["jets_pretrained_over_weaver"]["value"] == pytest.approx(-10)
  assert rows["jets_scratch_over_weaver"]["value"] == pytest.approx(-20)
  assert rows["jets_scratch_over_weaver"]["holds"] is False
  assert rows["jets_pretrained_over_deeper"]["value"] == pytest.approx(5)


def test_few_labels_are_not_learned_for_longer_than_many(tmp_path):
  few = bench(tmp_path).few_labels("differential", 256)
  assert few["stage__differential__steps"] == running.MOST_EPOCHS
  assert bench(tmp_path).few_labels("differential", 10**9) == {}


def test_keys_that_make_the_table_are_not_the_users(tmp_path, capsys):
  for argument in ("--config.data.inputs=full", "--config.seed=3"):
    with pytest.raises(SystemExit):
      reproduce.main(("--table=jets", f"--out={tmp_path}", argument))
    assert "the table sets" in capsys.readouterr().err
  assert reproduce.main(("--table=jets", f"--out={tmp_path / 'out'}", "--config.nonsense=1")) == 2
  assert "nonsense" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_cells_of_jets_train_what_they_say(tmp_path, monkeypatch):
  """Each key exists, and none trains where another does."""
  (tmp_path / "data").mkdir()
  trained = {}

  def launch(self, module, *arguments, **_):
    if module == "launch.train":
      config = cli.load_config(["", *arguments], "")
      folder = f"{config.workdir}/{config.stages}"
      assert trained.setdefault(folder, config) is config, folder
      assert config.data.inputs == jet_cells.INPUTS and len(config.stage.regress.tasks) == 1
    else:
      raise OutOfTime

  monkeypatch.setattr(Bench, "launch", launch)
  split = types.SimpleNamespace(num_events=1000)
  manifest = types.SimpleNamespace(splits={"train": split})
  monkeypatch.setattr(jet_cells.Manifest, "load", lambda folder: manifest)
  made = Bench(tmp_path, tmp_path / "data", "configs/lorentz_part.py:cpu", (), FOREVER)
  for cell in jet_cells.cells(1):
    if cell.row == "part_pretrain":
      assert jet_cells.run_cell(made, cell) == {}
    elif cell.row not in MORE_BLOCKS:
      with pytest.raises(OutOfTime):
        jet_cells.run_cell(made, cell)
  assert len(trained) == len(jet_cells.cells(1)) - len(MORE_BLOCKS)
  kinds = [config.encoder.kind for config in trained.values()]
  assert kinds.count("part") == 2
  fresh = [
    c for c in trained.values() if c.stages == ("classify",) and not c.stage.classify.init_from
  ]
  assert len(fresh) == len(jet_cells.FRACTIONS)
  assert all(config.stage.classify.strategy == "full" for config in fresh)
