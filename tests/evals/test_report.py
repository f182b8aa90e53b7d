"""The report: self-contained, escaped, complete, and honest about what is undefined."""

import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest

from jetfm.evals import catalogue, metrics
from jetfm.evals.metrics import Measurement
from jetfm.evals.published import PUBLISHED
from jetfm.evals.report import (
  ReportFigure,
  RunResults,
  number,
  report_html,
  results_from_json,
  results_json,
)
from jetfm.evals.report_text import results_text

PNG = b"\x89PNG picture"
HOSTILE = "<script>alert(1)</script>\"' onload=x <img src=http://evil.example/a.png> & ￿"


def make_run(name="base", accuracy=0.6):
  return RunResults(
    name,
    {
      "classification": {
        "accuracy": Measurement(accuracy, 0.012, reference=0.1, reference_kind="chance"),
        "auc_ovr": Measurement(None, reason="the test set holds only class 1"),
        "rejection_Tbl": Measurement(100.0),
      },
      "super_resolution": {"chamfer_seed": Measurement(0.2, seeds=3, spread=0.01)},
    },
    {"jets": 10_000},
  )


class Page(html.parser.HTMLParser):
  """Tags with attributes, and visible text."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.open, self.text = [], [], []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ("meta", "img"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag, f"</{tag}> closes something else"

  def handle_data(self, data):
    if "style" not in self.open:
      self.text.append(data)


def test_nothing_is_loaded_from_elsewhere():
  page = report_html([make_run()], [ReportFigure("classification", "roc", PNG, "base")])
  assert not re.search(r"https?:|//|url\(|@import", page.split("</style>")[1])
  assert not re.search(r"https?:|url\(|@import", page)
  parsed = Page(page)
  assert not parsed.open
  for tag, attributes in parsed.tags:
    assert tag not in ("script", "link", "iframe", "object", "form")
    for name, value in attributes.items():
      assert not name.startswith("on")
      if name in ("src", "href"):
        assert value.startswith(("data:image/png;base64,", "#"))


def test_hostile_names_are_text():
  run = make_run(HOSTILE)
  tasks = {"classification": {HOSTILE: Measurement(1.0, note=HOSTILE, baseline=1.0)}}
  tasks["classification"]["auc_ovr"] = Measurement(None, reason=HOSTILE)
  run = dataclasses.replace(run, tasks=tasks, facts={HOSTILE: HOSTILE})
  figures = [ReportFigure("classification", "roc", PNG, HOSTILE)]
  page = report_html([run], figures, title=HOSTILE, introduction=HOSTILE)
  parsed = Page(page)
  assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "link"})
  assert all(a["src"].startswith("data:") for tag, a in parsed.tags if tag == "img")
  assert not any(name.startswith("on") for _, a in parsed.tags for name in a)
  assert HOSTILE in "".join(parsed.text)


def test_every_number_published_or_ours_is_on_the_page():
  text = " ".join(Page(report_html([make_run(), make_run("other", 0.7)])).text)
  for part in ("base", "other", "0.600", "0.700", "0.012", "0.4905", "0.861", "chance"):
    assert part in text
  assert "0.2169 (0.197)" in text and "3 seeds" in text
  assert "undefined" in text and "holds only class 1" in text
  assert "99.5" in text and "10000" in text


def test_runs_that_compare_to_different_numbers_have_their_own():
  def run(name, floor, trivial):
    m = Measurement(
      0.5,
      reference=floor,
      reference_kind="floor",
      baseline=trivial,
      baseline_kind="Gaussian fit",
      others={"another": 2 * trivial},
    )
    return RunResults(name, {"generation": {"pt_kl": m}})

  runs = [run("a", 0.011, 0.71), run("b", 0.012, 0.71)]
  text = " ".join(Page(report_html(runs)).text)
  assert "floor: 0.011" in text and "floor: 0.012" in text
  assert text.count("0.71") == 1 and "another: 1.42" in text
  assert "0.011 to 0.012 floor, 0.71 Gaussian fit" in results_text(runs).replace("\u00a0", " ")


def test_best_run_is_marked_by_the_direction_of_the_metric():
  def marked(values, metric):
    runs = [
      RunResults(name, {"classification": {metric: Measurement(v)}})
      for name, v in zip("ab", values, strict=True)
    ]
    tags = Page(report_html(runs)).tags
    return [a["data-label"] for _, a in tags if "best" in a.get("class", "").split()]

  assert marked((0.1, 0.2), "accuracy") == ["b"]
  assert marked((0.1, 0.2), "ece") == ["a"]
  assert marked((0.1, 0.1), "ece") == []


def test_figures_stand_in_their_task_with_words():
  figures = [
    ReportFigure("generation", "spectra", PNG),
    ReportFigure("embedding", "embedding", PNG),
  ]
  parsed = Page(report_html([make_run()], figures))
  assert [a["id"] for tag, a in parsed.tags if tag == "h2" and "id" in a] == [
    "classification",
    "generation",
    "super_resolution",
    "embedding",
  ]
  assert "The grey band is what statistics allows" in " ".join(parsed.text)
  assert all(a["alt"] for tag, a in parsed.tags if tag == "img")


def test_wrong_inputs_are_errors():
  with pytest.raises(ValueError, match="same name"):
    report_html([make_run(), make_run()])
  with pytest.raises(ValueError, match="unknown task 'tagging'"):
    report_html([RunResults("a", {"tagging": {}})])
  with pytest.raises(ValueError, match="unknown kind of figure 'pie'"):
    report_html([make_run()], [ReportFigure("classification", "pie", PNG)])


def test_results_survive_json():
  runs = [make_run(), make_run("other")]
  text = results_json(runs)
  assert results_from_json(text) == runs
  assert json.loads(text)["runs"][0]["tasks"]["classification"]["auc_ovr"]["value"] is None
  with pytest.raises(ValueError, match="not a results"):
    results_from_json("{}")
  with pytest.raises(ValueError, match="not a results"):
    results_from_json("no json")
  with pytest.raises(ValueError):
    results_json([RunResults("a", {}, {"loss": float("nan")})])


@pytest.mark.parametrize(
  ("value", "error", "text"),
  [
    (0.67135, 0.0033, "0.6714 ± 0.0033"),
    (2057.0, 2056.5, "2057 ± 2056"),
    (12.3456, None, "12.35"),
    (0.0, None, "0"),
    (0.5, 0.0, "0.5"),
    (1.0, None, "1"),
    (-9.15e-5, 9.7e-5, "-9.15e-05 ± 9.7e-05"),
  ],
)
def test_numbers_have_the_digits_that_mean_something(value, error, text):
  shown = number(value, error)
  assert " " not in shown and "-" not in shown  # where a line could break
  assert shown.replace("\u00a0", " ").replace("\u2212", "-") == text


def test_every_metric_of_the_summaries_is_explained(jets, other_jets):
  p4, mask, label = jets
  p = np.eye(2)[label] * 0.6 + 0.2
  mass = metrics.jet_mass(p4, mask)
  mean, std = metrics.seed_constants(p4, mask)
  seen = metrics.seed_coordinates(p4[:9], mask[:9], mean, std)
  names = {
    *metrics.classification_summary(p, label, ("QCD", "Hbb")),
    *metrics.regression_summary("gen_mass", mass, mass, 0.0, 1.0),
    *metrics.generation_summary(*((p4[i::3], mask[i::3], None) for i in range(3))),
    *metrics.super_resolution_summary(p4, mask, p4, mask, p4, mask, label),
    *metrics.generation_seed(seen, seen),
    *metrics.super_resolution_seed(seen, seen),
    *(name for source in PUBLISHED for name in (*source.numbers, *source.other)),
  }
  for name in names:
    entry = catalogue.about(name)
    assert entry.meaning and entry.better in ("higher", "lower"), name
  assert "99 % of Hqql" in catalogue.about("rejection_Hqql").meaning


def test_a_report_of_events_speaks_of_events():
  classes = [f"J/psi -> {n} pi+" for n in range(30)]
  p = np.random.default_rng(0).dirichlet(np.ones(30), 60)
  label = np.arange(60) % 30
  details = {"classification": {"per_class": metrics.class_table(p, label, classes)}}
  tasks = {"classification": {"accuracy": Measurement(0.5)}, "embedding": {"knn": Measurement(0.4)}}
  kinds = {"classification": "confusions", "embedding": "embedding", "pretraining": "features"}
  figures = [ReportFigure(task, kind, PNG) for task, kind in kinds.items()]
  run = RunResults("run", tasks, {"events": 60}, details)
  text = " ".join(Page(report_html([run], figures, of="events", title="report")).text)
  assert not re.search(r"\bjets?\b", text, re.IGNORECASE)
  assert "0.5433" in text and "ParT" not in text
  assert "precision" in text and "J/psi -> 3 pi+" in text
