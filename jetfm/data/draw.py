"""Pictures of a data set: histograms of features per class, and jets in the (deta, dphi) plane."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from jetfm.data.summary import Sample

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_BINS = 60
_FEW = 6  # edges: flags and charges
_MANY = 20  # classes: all in one histogram
_PEAK = 0.4  # of all values in one bin: the count axis becomes logarithmic


def draw_all(sample: Sample, directory: str | os.PathLike[str]) -> list[pathlib.Path]:
  """Writes features.png, targets.png and, of jets, jets.png; returns their paths."""
  import matplotlib

  matplotlib.use("Agg")
  out = pathlib.Path(directory)
  out.mkdir(parents=True, exist_ok=True)
  schema = sample.schema
  features = [(f.name, f.unit, sample.values[:, i]) for i, f in enumerate(schema.features)]
  events = [(f"particles per {sample.what.removesuffix('s')}", "", sample.counts.astype(float))]
  events += [(t.name, t.unit, sample.targets[:, i]) for i, t in enumerate(schema.targets)]
  drawn = [
    _histograms(out / "features.png", features, sample.particle_label, schema.classes, "particles"),
    _histograms(out / "targets.png", events, sample.label, schema.classes, sample.what),
  ]
  return [*drawn, _jets(out / "jets.png", sample)] if sample.what == "jets" else drawn


def _histograms(
  path: pathlib.Path,
  columns: list[tuple[str, str, np.ndarray]],
  label: np.ndarray,
  classes: tuple[str, ...],
  what: str,
) -> pathlib.Path:
  import matplotlib.pyplot as plt

  across = 4
  down = -(-len(columns) // across)
  figure, axes = plt.subplots(
    down, across, figsize=(4 * across, 2.8 * down + 0.6), squeeze=False, layout="constrained"
  )
  for axis in axes.flat[len(columns) :]:
    axis.set_axis_off()
  for axis, (name, unit, x) in zip(axes.flat, columns, strict=False):
    _one_histogram(axis, x, label, classes)
    axis.set_xlabel(f"{name} [{unit}]" if unit else name)
    axis.set_yticks([])
  handles, names = axes.flat[0].get_legend_handles_labels()
  if len(classes) <= _MANY:
    figure.legend(handles, names, loc="outside upper center", ncols=10, frameon=False)
  figure.supylabel(f"{what}, each class normalised" if len(classes) <= _MANY else what)
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def _one_histogram(axis: Axes, x: np.ndarray, label: np.ndarray, classes: tuple[str, ...]) -> None:
  label, x = label[~np.isnan(x)], x[~np.isnan(x)]
  if not len(x):
    return
  if len(classes) > _MANY:
    label, classes = np.zeros_like(label), ("all classes",)
  bins = _bins(x)
  counts, _ = np.histogram(x, bins)
  if len(bins) > _FEW and counts.max() > _PEAK * counts.sum():
    axis.set_yscale("log")
  if len(bins) <= _FEW:
    axis.set_xticks(bins[:-1] + 0.5)
  colours = _colours(len(classes))
  for c, name in enumerate(classes):
    own = x[label == c]
    if len(own):
      axis.hist(own, bins=list(bins), density=True, histtype="step", color=colours[c], label=name)


def _bins(x: np.ndarray) -> np.ndarray:
  """Edges that hold 99.8 % of the values; whole numbers fall in the middle of a bin."""
  low, high = np.quantile(x, (0.001, 0.999))
  if np.all(x == np.rint(x)):
    width = max(1, round((high - low) / _BINS))
    return np.arange(np.floor(low) - 0.5, high + width, width)
  return np.linspace(low, high if high > low else low + 1, _BINS)


def _jets(path: pathlib.Path, sample: Sample) -> pathlib.Path:
  """Two jets of each class: area of a disc in proportion to pT, colour for its logarithm."""
  import matplotlib.pyplot as plt

  present = [c for c in range(len(sample.schema.classes)) if np.any(sample.label == c)]
  figure, axes = plt.subplots(
    2, len(present), figsize=(2.3 * len(present) + 1, 5), squeeze=False, layout="constrained"
  )
  for column, c in enumerate(present):
    # The jets in the middle of the class: neither the shortest nor the longest.
    own = sorted((x for label, x in sample.jets if label == c), key=len)
    middle = own[len(own) // 2 :][:2]
    for row, axis in enumerate(axes[:, column]):
      axis.set(xlim=(-0.9, 0.9), ylim=(-0.9, 0.9), aspect="equal", xticks=[-0.8, 0, 0.8])
      axis.set_yticks([-0.8, 0, 0.8] if column == 0 else [])
      axis.add_patch(plt.Circle((0, 0), 0.8, fill=False, color="0.8"))
      axis.set_title(sample.schema.classes[c] if row == 0 else "", fontsize=10)
      if row < len(middle):
        pt, deta, dphi = middle[row].T
        axis.scatter(
          deta, dphi, s=400 * pt / pt.sum() + 2, c=np.log10(pt), cmap="viridis", alpha=0.7
        )
  figure.supxlabel(r"$\Delta\eta$")
  figure.supylabel(r"$\Delta\phi$ [rad]")
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def _colours(n: int) -> list:
  import matplotlib.pyplot as plt

  return [plt.get_cmap("tab10")(i % 10) for i in range(n)]
