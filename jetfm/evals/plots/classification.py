"""Figures of taggers: ROC, confusion, dependence on jet pT, sculpting of the mass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jetfm.evals.metrics.working_points import (
  BACKGROUND,
  BinnedEfficiency,
  MassSculpting,
  working_point_of,
)
from jetfm.evals.plots.style import COLOURS, MAP, MARKERS, line_of, new_figure, say_empty, style

FEWEST = 20
"""Background jets below which the shape of their mass is not drawn."""


def roc_figure(
  curves: Mapping[str, tuple[np.ndarray, np.ndarray] | None], background: str = BACKGROUND
) -> Figure:
  """Background rejection against signal efficiency, one curve per class.

  `curves` holds, by class name, background efficiency (P,) and signal efficiency (P,), as
  `roc_curve` gives them; markers show the working points, the dotted line chance. A class with None
  keeps its colour for the other figures and is not drawn.
  """
  with style():
    figure = new_figure(7.2, 5.6)
    ax = figure.subplots()
    top = 10.0
    for i, (name, curve) in enumerate(curves.items()):
      if curve is None:
        continue
      some = np.flatnonzero(curve[0])
      x, y = curve[1][some], 1 / curve[0][some]
      if not len(x):
        continue
      top = max(top, y.max())
      ax.plot(x, y, label=name, **line_of(i))
      point = working_point_of(name)
      at = min(int(np.searchsorted(x, point)), len(x) - 1)
      if abs(x[at] - point) < 0.05:
        ax.plot(x[at], y[at], MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)])
    grid = np.linspace(0.01, 1, 100)
    ax.plot(grid, 1 / grid, ":", color="black", linewidth=1, label="chance")
    ax.set(xlim=(0, 1), ylim=(1, 3 * top), yscale="log")
    ax.set_xlabel("signal efficiency")
    ax.set_ylabel(rf"{background} rejection $1/\varepsilon_B$")
    figure.legend(loc="outside right upper")
    return figure


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], written: bool = True) -> Figure:
  """Confusion matrix (C, C), rows of true classes normalised to 1.

  written: names of the classes and shares are written in; else classes are numbered in their order.
  """
  total = matrix.sum(axis=1, keepdims=True)
  share = np.divide(matrix, total, where=total > 0, out=np.zeros(matrix.shape))
  with style():
    figure = new_figure(7.6, 6.6)
    ax = figure.subplots()
    image = ax.imshow(share, cmap=MAP, vmin=0, vmax=1)
    ax.tick_params(which="both", length=0)
    ax.minorticks_off()
    if written:
      _write_shares(ax, share, total, classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    figure.colorbar(image, ax=ax, label="share of the true class (%)", format=_percent)
    return figure


def _write_shares(ax: Axes, share: np.ndarray, total: np.ndarray, classes: Sequence[str]) -> None:
  ticks = range(len(classes))
  ax.set_xticks(ticks, classes, rotation=60, ha="right", rotation_mode="anchor")
  ax.set_yticks(ticks, classes)
  for i in ticks:
    for j in ticks:
      text = f"{100 * share[i, j]:.0f}" if total[i] else "–"
      colour = "black" if share[i, j] > 0.55 else "white"
      ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=11)


def confusions_figure(confusions: Sequence[Mapping[str, Any]]) -> Figure:
  """Bars of `worst_confusions`, the largest above, with both classes written beside each."""
  with style():
    figure = new_figure(9.2, 1.2 + 0.72 * max(len(confusions), 1))
    ax = figure.subplots()
    place = np.arange(len(confusions))
    ax.barh(place, [100 * row["share"] for row in confusions], color=COLOURS[0], height=0.6)
    names = [f"{row['true']}\ncalled {row['called']}" for row in confusions]
    ax.set_yticks(place, names, fontsize=9)
    ax.invert_yaxis()
    ax.tick_params(axis="y", which="both", length=0)
    ax.minorticks_off()
    if not confusions:
      say_empty(ax, "no two classes are confused")
    ax.set_xlabel("share of the true class (%)")
    ax.set_xlim(left=0)
    return figure


def _percent(x: float, _position: int) -> str:
  return f"{100 * x:.0f}"


def pt_dependence_figure(binned: Mapping[str, BinnedEfficiency | None]) -> Figure:
  """Signal efficiency (above) and background rejection (below) in bins of jet pT, by class.

  A class with None is not drawn.
  """
  with style():
    figure = new_figure(7.2, 7.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for i, (name, b) in enumerate(binned.items()):
      if b is None:
        continue
      centre, half = (b.edges[1:] + b.edges[:-1]) / 2, np.diff(b.edges) / 2
      look: dict[str, Any] = {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
      }
      look |= {"linestyle": "none", "xerr": half}
      upper.errorbar(centre, b.signal, yerr=b.signal_error, label=name, **look)
      some = b.background > 0
      rejection, error = b.rejection[some], b.rejection_error[some]
      look["xerr"] = half[some]
      # On a logarithmic axis a bar that reaches zero would end at the frame.
      down = np.minimum(error, 0.9 * rejection)
      lower.errorbar(centre[some], rejection, yerr=[down, error], **look)
    upper.set_ylabel("signal efficiency")
    upper.set_ylim(0, 1.1)
    lower.set_ylabel(r"rejection $1/\varepsilon_B$")
    if any(b is not None and (b.background > 0).any() for b in binned.values()):
      lower.set_yscale("log")
    else:
      say_empty(lower, "no background event passes in any bin")
    lower.set_xlabel(r"jet $p_T$ (GeV)")
    figure.legend(loc="outside right upper")
    return figure


def sculpting_figure(
  sculpting: Mapping[str, MassSculpting | None], background: str = BACKGROUND
) -> Figure:
  """Shape of the background's mass before and after a cut at the working point of each class.

  The legend gives the Jensen-Shannon distance and its floor. Shapes of fewer than `FEWEST` jets are
  not drawn; the legend says so. None stands for a class of which no background jet passes.
  """
  import mplhep

  with style():
    figure = new_figure(8.2, 5.4)
    ax = figure.subplots()
    first = next((s for s in sculpting.values() if s is not None), None)
    if first is not None:
      shape = first.before / np.diff(first.edges)
      ax.stairs(shape, first.edges, fill=True, color="#dddddd", label=f"all {background}")
    else:
      say_empty(ax, f"no {background} passes any working point")
    for i, (name, s) in enumerate(sculpting.items()):
      if s is None or s.passed < FEWEST:
        count = "no" if s is None else f"only {s.passed:.0f}"
        ax.plot([], [], " ", label=f"{name}: {count} {background} passes")
        continue
      width = np.diff(s.edges)
      label = f"{name}: {s.distance:.2f} ({s.floor:.2f})"
      mplhep.histplot(
        s.after / width, s.edges, ax=ax, yerr=False, label=label, flow="none", **line_of(i)
      )
    ax.set_xlabel("jet mass (GeV)")
    ax.set_ylabel("share of jets per GeV")
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    figure.legend(loc="outside right upper", title="tagged as: distance (floor)")
    return figure
