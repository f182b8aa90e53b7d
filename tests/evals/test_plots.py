"""Figures: each is drawn, says where it is empty, and leaves matplotlib's settings alone."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jetfm.evals import metrics, plots
from jetfm.evals.metrics.generation import Particles

CLASSES = ("QCD", "Hbb", "Hqql", "Tbl")


def draw_roc():
  rng = np.random.default_rng(0)
  signal = rng.random(800) < 0.5
  curve = metrics.roc_curve(rng.normal(size=800) + 2 * signal, signal)
  return plots.roc_figure({"Hbb": curve[:2], "Hcc": None})


def draw_pt_dependence():
  rng = np.random.default_rng(0)
  signal, score = rng.random(800) < 0.5, rng.normal(size=800)
  pt = rng.uniform(500, 1000, 800)
  edges = [0, 500, 700, 1000]  # the first bin is empty
  return plots.pt_dependence_figure(
    {"Hbb": metrics.binned_efficiency(score, signal, 0.5, pt, edges), "Hcc": None}
  )


def draw_sculpting():
  rng = np.random.default_rng(0)
  signal, score = rng.random(800) < 0.5, rng.normal(size=800)
  some = metrics.mass_sculpting(score, signal, 0.5, rng.gamma(3, 30, 800), np.linspace(0, 300, 20))
  return plots.sculpting_figure({"Hcc": None, "Hbb": some})


def particles(seed):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(500, 4))
  return Particles(np.c_[np.exp(x[:, 0]), x[:, 1:3], np.exp(x[:, 3])], rng.uniform(0, 2, 500))


def draw_jets():
  rng = np.random.default_rng(0)
  jet = np.c_[rng.exponential(size=9), rng.normal(0, 0.2, (9, 2))]
  return plots.jet_display_figure({"input": [jet[:3], jet[:0]], "true": [jet, jet]}, ["Hbb", "QCD"])


def draw_directions():
  rng = np.random.default_rng(0)
  jet = np.c_[rng.exponential(size=9), rng.normal(0, 0.2, (9, 2))]
  density, edges = rng.random((2, 5, 5)), np.linspace(-1, 1, 6)
  return plots.directions_figure(density, edges, [jet, jet[:0]], [jet[:0], jet], ["Hbb", "QCD"])


def draw_embedding():
  x = np.random.default_rng(0).normal(size=(40, 5))
  return plots.embedding_figure(plots.embedding_map(x), np.arange(40) % 4, CLASSES)


def draw_training():
  step = np.arange(10)
  loss = np.where(step == 4, np.nan, np.exp(-step / 3.0))
  return plots.training_figure({"a": {"train": (step, loss), "validation": ([9], [0.1])}})


FIGURES = {
  "roc": draw_roc,
  "confusion": lambda: plots.confusion_figure(np.diag([5.0, 2, 0, 1]), CLASSES),
  "pt_dependence": draw_pt_dependence,
  "sculpting": draw_sculpting,
  "response": lambda: plots.response_figure(np.linspace(50, 150, 90), np.linspace(60, 140, 90)),
  "response of one jet": lambda: plots.response_figure(np.array([50.0]), np.array([60.0])),
  "response of negative predictions": lambda: plots.response_figure(
    -np.linspace(5, 90, 90), np.linspace(60, 140, 90)
  ),
  "response without positive truth": lambda: plots.response_figure(-np.ones(3), -np.arange(3.0)),
  "true_predicted": lambda: plots.true_predicted_figure(particles(0).values, particles(1).values),
  "true_predicted of a constant": lambda: plots.true_predicted_figure(
    particles(0).values, np.ones((500, 4))
  ),
  "true_predicted without finite values": lambda: plots.true_predicted_figure(
    particles(0).values, np.full((500, 4), np.nan)
  ),
  "spectra": lambda: plots.spectra_figure(
    particles(0), {"generated": particles(1), "baseline": particles(2)}
  ),
  "jets": draw_jets,
  "directions": draw_directions,
  "embedding": draw_embedding,
  "training": draw_training,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_without_a_warning(name):
  settings = dict(matplotlib.rcParams)
  figure = FIGURES[name]()
  assert isinstance(figure, Figure)
  with Image.open(io.BytesIO(plots.png(figure, dpi=50))) as image:
    grey = np.asarray(image.convert("L"))
  assert (grey == 255).mean() < 0.995 and grey.min() < 100  # something is on the page
  border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
  assert (border == 255).all()  # nothing is cut off
  assert dict(matplotlib.rcParams) == settings
  for ax in figure.axes:
    assert ax.has_data() or ax.texts, f"an empty panel: {ax}"


@pytest.mark.parametrize("most", [1, 7, 95])
def test_a_flat_spectrum_of_counts_is_flat(most):
  """Bins with one whole number more than others would show peaks."""
  counts = np.tile(np.arange(most + 1.0), 50)
  width = 1 + (most == 95)  # whole numbers of a bin: both divide their number
  figure = plots.spectra_figure(
    Particles(counts[:, None], np.ones(len(counts))), {}, ("particles",), (False,), of="jets"
  )
  (shown,) = (x.get_data().values for x in figure.axes[0].patches)
  np.testing.assert_allclose(shown[shown > 0], width / (most + 1))
  assert shown.sum() == pytest.approx(1)


def test_equal_figures_are_equal_bytes():
  assert plots.png(draw_training()) == plots.png(draw_training())


def test_embedding_map_is_seeded_and_refuses_what_it_cannot_map():
  x = np.random.default_rng(0).normal(size=(30, 5))
  np.testing.assert_array_equal(plots.embedding_map(x, seed=3), plots.embedding_map(x, seed=3))
  with pytest.raises(ValueError, match="four or more"):
    plots.embedding_map(x[:2])
