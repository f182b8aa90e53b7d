"""benchmarks.reproduce: cells are kept, the budget ends the work, rows say what was measured."""

import json
import time

import pytest

from benchmarks import clear_cells, reproduce
from jetfm.evals.published import CLEAR_STRATEGIES
from launch import cli

FOREVER = float("inf")


def bench(out, end=FOREVER):
  return clear_cells.Bench(out, out / "data", "tiny", (), end)


def values(accuracy):
  names = ("accuracy", "accuracy_hadronic", "final_state_accuracy", "macro_f1")
  oracle = {"oracle_accuracy": 0.7, "oracle_accuracy_hadronic": 0.6, "events": 10}
  return dict.fromkeys(names, accuracy) | oracle


def test_cells_are_made_once_and_the_rest_waits_for_the_next_command(tmp_path, capsys):
  made = []

  def make(bench, cell):
    if len(made) == 5:
      raise clear_cells.OutOfTime
    made.append(cell)
    return values(0.5)

  first = clear_cells.work(bench(tmp_path), clear_cells.cells(1), make)
  assert list(first) == made and "budget is spent" in capsys.readouterr().err
  second = clear_cells.work(
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
    assert set(cell.needs) <= ended
    time.sleep(0.01)
    bench.charge(2.0)
    ended.add(cell)
    return {} if cell.row in clear_cells.PREPARATIONS else values(0.5)

  done = clear_cells.work(bench(tmp_path), wanted, make, processes)
  assert list(done) == wanted and {v["cpu_seconds"] for v in done.values()} == {2.0}
  rows = {row["name"]: row for row in reproduce.show(done)}
  assert rows["clear_minutes_of_two_cores"]["value"] == pytest.approx(2 * 32 / 120, abs=0.01)


def test_what_starts_from_a_failure_is_not_begun(tmp_path):
  def make(bench, cell):
    if cell.row == "pretrain":
      raise clear_cells.Failed("status 70")
    return values(0.5)

  done = clear_cells.work(bench(tmp_path), clear_cells.cells(1), make, 2)
  assert {cell.row for cell in done} == {"pretrain_views", "labels"}


def test_time_of_an_attempt_without_result_counts_too(tmp_path):
  def make(bench, cell):
    bench.charge(2.0)
    if not ended:
      ended.append(cell)
      raise clear_cells.OutOfTime
    return values(0.5)

  ended, cell = [], clear_cells.Cell("labels", 0, 1.0, "scratch")
  assert clear_cells.work(bench(tmp_path), [cell], make) == {}
  assert clear_cells.work(bench(tmp_path), [cell], make)[cell]["cpu_seconds"] == 4.0


def test_nothing_is_begun_without_time(tmp_path):
  late = bench(tmp_path, time.monotonic() - 1)
  assert clear_cells.work(late, clear_cells.cells(1), lambda *_: values(0.5)) == {}


def test_a_cell_that_fails_does_not_end_the_others(tmp_path, capsys):
  def make(bench, cell):
    if cell.row == "probe_2":
      raise clear_cells.Failed("status 70")
    return values(0.5)

  done = clear_cells.work(bench(tmp_path), clear_cells.cells(1), make)
  assert set(clear_cells.cells(1)) - set(done) == {clear_cells.Cell("probe_2", 0)}
  assert "probe_2-0: status 70" in capsys.readouterr().err


def test_rows_are_means_over_seeds_and_compare_strategies():
  accuracy = dict.fromkeys(CLEAR_STRATEGIES, 0.3) | {"differential": 0.5, "class_attention": 0.2}
  done = {
    cell: values(accuracy.get(cell.row, 0.4) + 0.1 * cell.seed) for cell in clear_cells.cells(2)
  }
  rows = {row["name"]: row for row in reproduce.show(done)}
  assert rows["clear_differential"]["value"] == pytest.approx(55)
  assert rows["clear_differential"]["detail"]["published"] == CLEAR_STRATEGIES["differential"]
  assert rows["clear_differential_over_best_frozen"]["holds"] is True
  assert rows["clear_class_attention_over_probe_1"]["holds"] is False
  assert rows["clear_pretraining_gain_1_percent"]["holds"] is False
  json.dumps(list(rows.values()), allow_nan=False)
  assert reproduce.show({}) == []


def test_a_command_that_fails_or_takes_too_long(tmp_path):
  with pytest.raises(clear_cells.Failed, match="no option"):
    bench(tmp_path).launch("launch.train", "--nonsense=1")
  with pytest.raises(clear_cells.OutOfTime):
    bench(tmp_path, time.monotonic() + 0.2).launch("launch.train", "--help")


def test_a_folder_belongs_to_one_setting(tmp_path, capsys):
  reproduce.claim(tmp_path, {"events": 1})
  reproduce.claim(tmp_path, {"events": 1})
  with pytest.raises(clear_cells.Failed, match="another --out"):
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
