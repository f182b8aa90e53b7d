"""Pictures of the physics benchmark: distributions against real jets, mass spectra, jet images."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

# Okabe and Ito's colours, which all readers can tell apart (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"

_DISTRIBUTIONS = (
  ("mass", "jet mass [GeV]", np.linspace(40, 220, 19), False),
  ("multiplicity", "number of constituents", np.linspace(0, 110, 23), False),
  ("pt_fraction", r"constituent $p_T$ / jet $p_T$", np.geomspace(5e-4, 1, 31), True),
  ("dr", r"$\Delta R$(constituent, jet axis)", np.linspace(0, 0.9, 31), False),
)


def draw_comparison(generated: Any, real: Any, path: pathlib.Path) -> None:
  """Four distributions of generated (line) and real (points with errors) jets, with ratios."""
  plt = _pyplot()
  figure, axes = plt.subplots(
    2, 4, figsize=(17, 5.6), height_ratios=(3, 1), sharex="col", layout="constrained"
  )
  for (name, label, bins, logarithmic), upper, lower in zip(_DISTRIBUTIONS, *axes, strict=True):
    ours, theirs = getattr(generated, name), getattr(real, name)
    width, centre = np.diff(bins), (bins[1:] + bins[:-1]) / 2
    if logarithmic:
      width, centre = np.diff(np.log10(bins)), np.sqrt(bins[1:] * bins[:-1])
    counts, real_counts = np.histogram(ours, bins)[0], np.histogram(theirs, bins)[0]
    density, error = counts / width / len(ours), np.sqrt(counts) / width / len(ours)
    real_density = real_counts / width / len(theirs)
    real_error = np.sqrt(real_counts) / width / len(theirs)

    upper.stairs(density, bins, color=BLUE, lw=1.8, label=f"generated ({len(generated.mass):,})")
    points = {"fmt": "o", "ms": 4, "color": ORANGE, "lw": 1.2}
    upper.errorbar(
      centre, real_density, real_error, label=f"JetClass ({len(real.mass):,})", **points
    )
    lower.axhline(1, color=GREY, lw=1)
    seen = (counts > 0) & (real_counts > 0)
    ratio = density[seen] / real_density[seen]
    relative = np.hypot(error[seen] / density[seen], real_error[seen] / real_density[seen])
    lower.errorbar(centre[seen], ratio, ratio * relative, fmt="o", ms=3.5, color=BLUE, lw=1.2)
    lower.set(ylim=(0.5, 1.5), xlabel=label, xlim=(bins[0], bins[-1]))
    upper.set_ylim(0, 1.3 * max(density.max(), real_density.max()))
    if logarithmic:
      upper.set_xscale("log")
    upper.legend(loc="upper right", frameon=False)
  axes[0, 0].set_ylabel("share of jets or constituents\nper unit (per decade in $p_T$)")
  axes[1, 0].set_ylabel("generated / real")
  figure.suptitle(r"H $\to$ bb jets, 500 < $p_T$ < 1000 GeV, generated against published")
  _save(figure, path)


def draw_masses(samples: Mapping[str, Any], lines: Mapping[str, float], path: pathlib.Path) -> None:
  """Mass spectra of the classes, groomed and not, with the mass of the resonance marked."""
  plt = _pyplot()
  figure, axes = plt.subplots(
    2, 5, figsize=(17, 6.2), sharex=True, sharey=True, layout="constrained", squeeze=False
  )
  bins = np.linspace(0, 250, 51)
  for axis, (name, sample) in zip(axes.flat, samples.items(), strict=False):
    for mass, style in (
      (sample.soft_drop_mass, {"color": BLUE, "fill": True, "alpha": 0.4, "label": "soft drop"}),
      (sample.mass, {"color": ORANGE, "lw": 1.8, "label": "all constituents"}),
    ):
      axis.stairs(np.histogram(mass, bins)[0] / len(mass), bins, **style)
    if name in lines:
      axis.axvline(lines[name], color=GREY, ls="--", lw=1.2)
      place = {"xy": (lines[name], 0.96), "xycoords": ("data", "axes fraction")}
      axis.annotate(f" {lines[name]:g} GeV", **place, va="top", color=GREY, fontsize=11)
    axis.set_title(name, fontsize=13)
    axis.set_xlim(bins[0], bins[-1])
  axes.flat[0].set_ylim(bottom=0)
  for axis in axes.flat[len(samples) :]:
    axis.set_visible(False)
  handles, labels = axes.flat[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
  figure.supxlabel("jet mass [GeV] (dashed: mass of the resonance)", fontsize=13)
  figure.supylabel("share of jets per 5 GeV", fontsize=13)
  _save(figure, path)


def draw_images(samples: Mapping[str, Any], path: pathlib.Path) -> None:
  """Average jet images: mean share of the jet's pT per cell around the jet axis."""
  from matplotlib.colors import LogNorm

  plt = _pyplot()
  figure, axes = plt.subplots(
    2, 5, figsize=(16, 6.8), sharex=True, sharey=True, layout="constrained", squeeze=False
  )
  edges = np.linspace(-0.9, 0.9, 46)
  norm, image = LogNorm(1e-5, 3e-2), None
  for axis, (name, sample) in zip(axes.flat, samples.items(), strict=False):
    weights = sample.pt_fraction / len(sample.mass)
    histogram = np.histogram2d(sample.d_eta, sample.d_phi, (edges, edges), weights=weights)[0]
    cells = np.maximum(histogram.T, norm.vmin)
    image = axis.pcolormesh(edges, edges, cells, norm=norm, cmap="cividis", rasterized=True)
    axis.set_title(name, fontsize=13)
    axis.set_aspect("equal")
  for axis in axes.flat[len(samples) :]:
    axis.set_visible(False)
  figure.supxlabel(r"$\Delta\eta$")
  figure.supylabel(r"$\Delta\phi$")
  figure.colorbar(image, ax=axes, label="mean share of jet $p_T$ per cell", shrink=0.85)
  _save(figure, path)


def _pyplot() -> Any:
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt
  import mplhep

  plt.style.use(mplhep.style.CMS)
  plt.rcParams.update({"font.size": 12, "axes.labelsize": 12, "legend.fontsize": 10})
  plt.rcParams.update({"xtick.labelsize": 11, "ytick.labelsize": 11, "figure.titlesize": 14})
  return plt


def _save(figure: Any, path: pathlib.Path) -> None:
  figure.savefig(path, dpi=110)
  _pyplot().close(figure)
