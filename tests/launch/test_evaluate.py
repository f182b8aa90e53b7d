"""launch.evaluate as users run it: what it writes, and what it refuses."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest

from jetfm.data import open_dataset
from jetfm.data.ingest import ingest
from jetfm.data.plan import Settings
from jetfm.evals.catalogue import TASKS as SECTIONS
from jetfm.evals.metrics import Measurement
from jetfm.evals.report import results_from_json
from jetfm.evals.report_words import FIGURES
from jetfm.inference import Predictor, find_checkpoint
from jetfm.train import load_model
from launch import cli, evaluate
from launch.evaluation.columns import Column
from launch.evaluation.data import make_sample
from launch.evaluation.inputs import Inputs, Options
from launch.evaluation.runs import find_runs, read_curves
from launch.evaluation.seeds import means_over_seeds
from launch.evaluation.tasks import classification
from tests.inference.toy import SCHEMA, save_checkpoint
from tests.jets import write_files

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "evaluate.py")
LENGTHS = (24,)
OPTIONS = Options(0, "QCD", 0, 0, (), figures=False, map_events=0)
PRETRAINED = ("masked_particles", "masked_directions")
FINE_TUNED = ("classification", "regression", "generation", "super_resolution")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  return write_files(
    tmp_path_factory.mktemp("root") / "all", SCHEMA.classes, jets=140, mean_particles=12
  )


@pytest.fixture(scope="module")
def dataset(files, tmp_path_factory):
  return make_dataset(tmp_path_factory.mktemp("data") / "all", {"": files})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A workdir of two stages with metrics, and one of a single stage."""
  folder = tmp_path_factory.mktemp("runs")
  save_checkpoint(folder / "whole" / "pretrain" / "best", PRETRAINED)
  save_checkpoint(folder / "whole" / "tune" / "last", FINE_TUNED, seed=1)
  save_checkpoint(folder / "tagger" / "classify" / "best", ["classification"], seed=2)
  lines = [{"step": s, "split": "train", "loss": 1 / s} for s in (1, 2, 3)]
  lines.append({"step": 3, "split": "valid", "loss": None})
  text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "spl'
  (folder / "whole" / "pretrain" / "metrics.jsonl").write_text(text)
  (folder / "whole" / "unfinished").mkdir()
  (folder / "whole" / "unfinished" / "metrics.jsonl").write_text("")
  return folder


def make_dataset(folder, sources, **settings):
  common = {"edges": LENGTHS, "block_events": 32, "fractions": (0.4, 0.2, 0.4)}
  settings = common | {"classes": SCHEMA.classes} | settings
  sources = {split: str(path) for split, path in sources.items()}
  ingest(sources, folder, Settings(**settings), say=lambda line: None)
  return folder


def status(runs, data, out, **keys):
  """Exit status of an evaluation in this process."""
  runs = ",".join(map(str, runs)) if isinstance(runs, list) else runs
  keys = {"lengths": LENGTHS[0], "bootstrap": 3, "map_events": 40, "probes": "knn,mlp1"} | keys
  keys |= {"runs": runs, "data": data, "out": out}
  arguments = [f"--config.{key}={value}" for key, value in keys.items()]
  with pytest.raises(SystemExit) as stop:
    cli.run(evaluate.main, CONFIG, argv=["evaluate", *arguments], doc=evaluate.__doc__)
  return stop.value.code


def results(out):
  return results_from_json((out / "results.json").read_text())


@pytest.fixture(scope="module")
def evaluated(runs, dataset, tmp_path_factory):
  """The report of both runs."""
  out = tmp_path_factory.mktemp("report") / "both"
  assert status([runs / "whole", runs / "tagger"], dataset, out) == 0
  return out


@pytest.fixture(scope="module")
def tagger(runs):
  return Predictor(load_model(find_checkpoint(runs / "tagger" / "classify")), LENGTHS)


@pytest.fixture(scope="module")
def batches(dataset):
  loader = open_dataset(dataset, SCHEMA.name, "test").loader(48, shuffle=False, epochs=1)
  return [batch for groups in loader for batch in groups]


@pytest.mark.slow
def test_every_task_of_every_checkpoint_is_there(evaluated):
  whole, alone = results(evaluated)
  assert (whole.name, alone.name) == ("whole", "tagger")
  assert list(whole.tasks) == list(SECTIONS)
  assert list(alone.tasks) == ["classification", "embedding"]
  expected = {
    "pretraining": {"reconstruction_gain", "pt_gain", "eta_gain", "phi_gain", "energy_gain"}
    | {"gain_over_rank", "gain_over_interpolation", "pt_gain_over_rank", "direction_gain"},
    "classification": {"accuracy", "top3", "macro_f1", "auc_ovr", "auc_ovo", "ece"}
    | {f"{what}_{name}" for what in ("rejection", "sculpting") for name in ("Tbqq", "Tbl")},
    "regression": {"mass_r2", "gen_mass_half_width", "gen_mass_mse"},
    "generation": {"mmd", "pt_kl", "pt_kl_ratio", "histogram_mse", "w1_pt", "w1_mass", "fpd", "kpd"}
    | {"mmd_seed", "pt_kl_seed", "histogram_mse_seed"},
    "super_resolution": {
      "chamfer",
      "chamfer_ratio",
      "chamfer_dr_ratio",
      "pt_emd",
      "multiplicity_error",
    }
    | {"chamfer_seed", "pt_emd_seed", "multiplicity_error_seed"},
    "embedding": {"knn", "mlp1"},
  }
  for section, names in expected.items():
    assert names <= set(whole.tasks[section]), section
  assert whole.tasks["regression"]["gen_mass_r2"].baseline is not None
  assert whole.tasks["embedding"]["knn"].baseline is not None
  assert whole.details["classification"]["classes"] == list(SCHEMA.classes)
  assert whole.facts["jets"] == alone.facts["jets"] > 100


@pytest.mark.slow
def test_report_holds_every_figure_and_loads_nothing(evaluated):
  page = (evaluated / "report.html").read_text()
  of_events = {"confusions", "features", "reconstruction", "densities"}
  for kind, (title, _) in FIGURES.items():
    assert (title in page) == (kind not in of_events)
  assert not re.search(r"https?:|<script|<link|url\(", page)
  assert all(
    source.startswith("data:image/png;base64,") for source in re.findall('src="(.*?)"', page)
  )
  assert not list(evaluated.glob(".*"))  # nothing half written is left


@pytest.mark.slow
def test_the_same_again_gives_the_same_results(evaluated, runs, dataset, tmp_path, capsys):
  assert status(runs / "whole", dataset, tmp_path, figures=False) == 0
  printed = capsys.readouterr()
  again = (tmp_path / "results.json").read_text()
  before = json.loads((evaluated / "results.json").read_text())
  assert json.loads(again)["runs"] == before["runs"][:1]
  assert "<img" not in (tmp_path / "report.html").read_text()
  assert str(tmp_path / "report.html") in printed.out and "accuracy" in printed.out
  assert "'unfinished' has no checkpoint yet" in printed.err


def test_accuracy_is_that_of_the_predictions(tagger, batches, runs, dataset, tmp_path):
  assert status(runs / "tagger", dataset, tmp_path, figures=False, probes="") == 0
  (run,) = results(tmp_path)
  assert list(run.tasks) == ["classification"]
  right = tagger.classify(batches).argmax(axis=1) == np.concatenate([b.label for b in batches])
  real = np.concatenate([b.weight for b in batches]) > 0
  assert run.tasks["classification"]["accuracy"].value == pytest.approx(right[real].mean())
  assert run.facts["jets"] == real.sum()


def test_max_events_caps_the_jets(runs, dataset, tmp_path):
  assert status(runs / "tagger", dataset, tmp_path, figures=False, probes="", max_events=37) == 0
  (run,) = results(tmp_path)
  assert run.facts["jets"] == np.sum(run.details["classification"]["confusion"]) == 37


def test_event_weights_count_and_filler_does_not(tagger, batches):
  rng = np.random.default_rng(0)
  drawn = [b.replace(weight=b.weight * rng.integers(0, 4, b.num_events)) for b in batches]
  sample = make_sample(SCHEMA, drawn)
  weight = np.concatenate([b.weight for b in drawn])
  assert len(sample) == (weight > 0).sum()
  found = classification(Inputs(tagger, "classification", sample, None, OPTIONS))
  label = np.concatenate([b.label for b in drawn])
  right = tagger.classify(drawn).argmax(axis=1) == label
  assert found.metrics["accuracy"].value == pytest.approx(np.average(right, weights=weight))
  with pytest.raises(ValueError, match="negative"):
    make_sample(SCHEMA, [batches[0].replace(weight=-batches[0].weight)])


def test_jets_of_a_sample_are_those_of_its_batches(batches):
  sample = make_sample(SCHEMA, batches)
  mass = np.concatenate([b.targets[:, 0] for b in sample.batches])
  assert (mass == 0).any()  # jets without a particle-level one
  found = sample.jets.targets["gen_mass"]
  np.testing.assert_array_equal(np.isnan(found), mass == 0)
  np.testing.assert_array_equal(found[mass > 0], mass[mass > 0])
  pt = sample.jets.spectators["jet_pt"]
  np.testing.assert_allclose(sample.jets.pt, pt, rtol=0.2)
  assert sample.jets.mask.shape[1] == max(b.length for b in batches)


@pytest.mark.parametrize("split", ["train", "test"])
def test_probes_and_fits_never_see_what_is_evaluated(split, tagger, dataset):
  samples = evaluate.Samples(str(dataset), split, 0, 50)
  ids = [
    {int(i) for b in sample.batches for i in b.event_id}
    for sample in (samples.test(tagger), samples.training(tagger))
  ]
  assert ids[0] and ids[1] and not ids[0] & ids[1]


def test_classes_in_another_order_are_the_same_classes(tagger, files, batches, tmp_path):
  order = ("Tbl", "QCD", "Tbqq")
  other = make_dataset(tmp_path / "other", {"": files}, classes=order)
  assert open_dataset(other, SCHEMA.name).manifest.classes == order
  sample = evaluate.Samples(str(other), "test", 0, 0).test(tagger)
  assert sample.schema.classes == SCHEMA.classes
  labels = dict(zip(np.concatenate([b.event_id for b in batches]).tolist(),
                    np.concatenate([b.label for b in batches]).tolist(), strict=True))  # fmt: skip
  ids = np.concatenate([b.event_id for b in sample.batches]).tolist()
  assert [labels[i] for i in ids] == sample.jets.label.tolist()


def test_single_class_is_said_and_never_nan(runs, files, tmp_path):
  only = write_files(tmp_path / "only", ("QCD",), jets=30, mean_particles=12)
  data = make_dataset(tmp_path / "data", {"train": files, "test": only})
  assert status(runs / "tagger", data, tmp_path / "out", figures=False, probes="") == 0
  text = (tmp_path / "out" / "results.json").read_text()
  found = results_from_json(text)[0].tasks["classification"]
  assert "NaN" not in text
  for name in ("auc_ovr", "auc_ovo", "rejection_Tbl", "sculpting_Tbl"):
    assert found[name].value is None and found[name].reason
  assert "all test events are QCD" in found["accuracy"].note


def test_curves_are_read_up_to_the_half_line(runs):
  curves = read_curves(runs / "whole" / "pretrain" / "metrics.jsonl")
  np.testing.assert_array_equal(curves["train"][0], [1, 2, 3])
  np.testing.assert_allclose(curves["train"][1], [1, 1 / 2, 1 / 3])
  assert np.isnan(curves["validation"][1]).all()
  assert read_curves(runs / "nowhere") == {}


def test_runs_are_named_by_what_tells_them_apart(runs):
  (whole,) = find_runs([runs / "whole"])
  assert [(s.name, s.checkpoint.name) for s in whole.stages] == [
    ("pretrain", "best"),
    ("tune", "last"),
  ]
  assert whole.unfinished == ("unfinished",)
  names = [run.name for run in find_runs([runs / "whole", runs / "tagger" / "classify"])]
  assert names == ["whole", "classify"]
  same = [runs / "whole" / "pretrain" / "best", runs / "tagger" / "classify" / "best"]
  assert [run.name for run in find_runs(same)] == ["pretrain/best", "classify/best"]
  step = next(p for p in same[0].iterdir() if p.name.isdigit())
  (alone,) = find_runs([step])
  assert alone.stages[0].metrics == runs / "whole" / "pretrain" / "metrics.jsonl"


@pytest.fixture(scope="module")
def wrong(runs, files, dataset, tmp_path_factory):
  """Inputs that something is wrong with, by name."""
  folder = tmp_path_factory.mktemp("wrong")
  damaged = folder / "damaged" / "classify" / "best"
  save_checkpoint(damaged, ["classification"])
  document = damaged / "7" / "description" / "metadata"
  document.write_text(document.read_text().replace("QCD", "QDC"))
  (folder / "empty").mkdir()
  (folder / "file").write_text("")
  two = write_files(folder / "two", ("QCD", "Tbqq"), jets=30, mean_particles=12)
  return {
    "runs": runs,
    "folder": folder,
    "data": dataset,
    "kin": make_dataset(folder / "kin", {"": files}, inputs="kin"),
    "two classes": make_dataset(folder / "classes", {"": two}, classes=("QCD", "Tbqq")),
    "train only": make_dataset(folder / "train", {"train": files}),
  }


@pytest.mark.parametrize(
  ("keys", "words"),
  [
    ({"runs": "{runs}/whole/unfinished"}, ("no checkpoint", "metrics.jsonl", "{runs}/whole")),
    ({"runs": "{runs}"}, ("no checkpoint", "tagger, whole", "{runs}/tagger")),
    ({"runs": "{runs}/hole"}, ("no run", "'hole'", "{runs}/whole")),
    ({"runs": "{folder}/empty"}, ("no checkpoint", "nothing")),
    ({"runs": "{folder}/file"}, ("it is a file",)),
    ({"runs": "{folder}/damaged"}, ("damaged/classify/best/7", "not what was written")),
    ({"runs": "{runs}/tagger,{runs}/tagger"}, ("twice",)),
    ({"runs": ""}, ("--config.runs",)),
    ({"data": "{kin}"}, ("'full'", "part_charge", "part_dzerr", "'kin'")),
    ({"data": "{two classes}"}, ("classes", "missing", "Tbl")),
    ({"data": "{train only}"}, ("'test' holds no jet", "train 420")),
    ({"data": "{folder}/nowhere"}, ("nowhere", "launch.ingest")),
    ({"data": ""}, ("--config.data",)),
    ({"out": "{folder}/file/out"}, ("cannot write", "{folder}/file/out")),
    ({"out": ""}, ("--config.out",)),
    ({"split": "tests"}, ("'tests'", "'test'")),
    ({"probes": "knn,mpl1"}, ("mpl1", "mlp1")),
    ({"lengths": "8"}, ("lengths", "(8,)", "particles")),
    ({"lengths": "long"}, ("lengths", "long")),
    ({"max_events": -1}, ("max_events", "-1")),
  ],
  ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)  # fmt: skip
def test_mistake_is_one_line_and_status_2(wrong, tmp_path, capsys, keys, words):
  def filled(text):
    return re.sub(r"\{(.*?)\}", lambda m: str(wrong[m[1]]), text) if isinstance(text, str) else text

  keys = {"runs": "{runs}/tagger", "data": "{data}", "out": str(tmp_path / "out")} | keys
  keys = {key: filled(value) for key, value in keys.items()}
  code = status(keys.pop("runs"), keys.pop("data"), keys.pop("out"), **keys)
  error = capsys.readouterr().err
  assert code == cli.EXIT_USAGE, error
  assert error.startswith("error: ") and error.count("\n") == 1
  for word in words:
    assert filled(word) in error
  assert not (tmp_path / "out" / "results.json").exists()


def test_stages_with_the_same_task_get_columns_of_their_own(runs, dataset, tmp_path):
  run = tmp_path / "run"
  for stage in ("first", "second"):
    (run / stage).mkdir(parents=True)
    (run / stage / "best").symlink_to(runs / "tagger" / "classify" / "best")
  assert status(run, dataset, tmp_path / "out", figures=False, probes="", max_events=20) == 0
  first, second = results(tmp_path / "out")
  assert (first.name, second.name) == ("run/first", "run/second")
  assert dict(first.tasks) == dict(second.tasks)
  assert first.facts["stages and steps"] == "first 7"


def test_runs_of_several_seeds_have_a_column_of_means(dataset, tmp_path, capsys):
  folders = []
  for name, seed, rate in (("a", 0, 1), ("b", 1, 1), ("other", 2, 2)):
    settings = {"seed": seed, "stage": {"rate": rate}}
    folders.append(tmp_path / name)
    save_checkpoint(folders[-1] / "tune" / "best", ["classification"], seed=seed, settings=settings)
  out = tmp_path / "out"
  assert status(folders, dataset, out, figures=False, probes="", bootstrap=0) == 0
  *runs, mean = results(out)
  assert [run.name for run in runs] == ["a", "b", "other"]
  assert mean.name == "mean of a, b" and mean.facts["seed"] == "0, 1"
  for metric, m in mean.tasks["classification"].items():
    values = [run.tasks["classification"][metric].value for run in runs[:2]]
    assert m.seeds == 2
    if None not in values:
      assert m.value == pytest.approx(np.mean(values))
      assert m.spread == pytest.approx(np.std(values, ddof=1))
  assert mean.tasks["classification"]["auc_ovo"].spread > 0
  assert "2 seeds, spread" in (out / "report.html").read_text()
  assert "mean of a, b" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("changed", "means"),
  [
    ({}, 1),
    ({"seed": 0}, 0),  # the same training twice has no spread of its own
    ({"rate": 2}, 0),
    ({"metric": "top3"}, 0),
    ({"settings": {}}, 0),  # not known to be alike
  ],
)
def test_only_alike_trainings_of_different_seeds_have_a_mean(changed, means):
  def column(name, seed=1, rate=1, metric="accuracy", settings=None):
    sections = {"classification": {metric: Measurement(0.5)}}
    known = {"seed": seed, "rate": rate} if settings is None else settings
    return Column(name, sections, settings={"tune": known})

  assert len(means_over_seeds([column("a", seed=0), column("b", **changed)])) == means


def test_programs_are_kept_for_the_run_alone_unless_there_is_a_folder():
  def folder():
    return jax.config.jax_compilation_cache_dir

  given = folder()  # that of the suite
  with evaluate._shared_programs():
    assert folder() == given
  jax.config.update("jax_compilation_cache_dir", None)
  try:
    with evaluate._shared_programs():
      own = pathlib.Path(folder())
      assert own.is_dir()
    assert folder() is None and not own.exists()
  finally:
    jax.config.update("jax_compilation_cache_dir", given)
    evaluate.compilation_cache.reset_cache()
