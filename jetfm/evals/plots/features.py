"""Figures of hidden measurements: how well each kind of them is reconstructed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jetfm.evals.plots.style import COLOURS, MAP, PREDICTED, TRUE, new_figure, style

if TYPE_CHECKING:
  from jetfm.evals.sections.features import Guesses

COLUMNS, BINS = 4, 40
INSIDE = 0.995
"""Share of the true values that a panel shows: the others are far away."""


def features_figure(gains: Mapping[str, float | None]) -> Figure:
  """A bar for each feature: what its reconstruction gains over a constant guess, 1 is perfect."""
  known = {name: gain for name, gain in gains.items() if gain is not None}
  with style():
    figure = new_figure(7.2, 1.2 + 0.34 * max(len(known), 3))
    ax = figure.subplots()
    place = np.arange(len(known))
    ax.barh(place, list(known.values()), color=COLOURS[0], height=0.7)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(place, list(known))
    ax.invert_yaxis()
    ax.tick_params(axis="y", which="both", length=0)
    ax.minorticks_off()
    ax.set_xlim(min(0.0, *known.values(), 0.0), 1)
    ax.set_xlabel("gain over a constant guess")
    return figure


def reconstruction_figure(features: Mapping[str, Guesses]) -> Figure:
  """A panel for each feature: the best guess against the truth.

  Of numbers the counts, with the diagonal of perfect guesses, on the scale of the network's inputs;
  of categories the share of each true one, in a column, that is taken for each.
  """
  with style():
    figure = _grid(len(features))
    for ax, (name, g) in _panels(figure, features):
      if g.categorical:
        count = int(max(g.true.max(), g.guessed.max())) + 1
        share = np.zeros((count, count))
        np.add.at(share, (g.guessed.astype(int), g.true.astype(int)), 1)
        share /= np.maximum(share.sum(axis=0), 1)
        ax.imshow(share, origin="lower", cmap=MAP, vmin=0, vmax=1, aspect="auto")
        ax.set(xticks=range(count), yticks=range(count))
        ax.minorticks_off()
      else:
        edges = _edges(g.true)
        x, y = (np.clip(values, edges[0], edges[-1]) for values in (g.true, g.guessed))
        ax.hist2d(x, y, bins=[edges, edges], cmap=MAP, norm=LogNorm(), rasterized=True)
        ax.plot(edges[[0, -1]], edges[[0, -1]], color=COLOURS[2], linewidth=1)
      ax.set_title(name, fontsize=12)
    figure.supxlabel("true")
    figure.supylabel("best guess")
    return figure


def densities_figure(features: Mapping[str, Guesses]) -> Figure:
  """A panel for each feature: draws from the predicted densities, beside the data.

  On the scale of the network's inputs; of categories their shares.
  """
  with style():
    figure = _grid(len(features))
    for ax, (name, g) in _panels(figure, features):
      assert g.sampled is not None, "asked for features with samples"
      if g.categorical:
        edges = np.arange(max(g.true.max(), g.sampled.max()) + 2) - 0.5
      else:
        edges = _edges(g.true)
      data: dict[str, Any] = {"histtype": "stepfilled", "color": TRUE, "alpha": 0.25}
      model: dict[str, Any] = {"histtype": "step", "color": PREDICTED, "linewidth": 1.5}
      for x, label, look in ((g.true, "data", data), (g.sampled, "sampled", model)):
        inside = np.clip(x, edges[0], edges[-1])
        ax.hist(inside, bins=list(edges), weights=np.full(len(x), 1 / len(x)), label=label, **look)
      ax.set_title(name, fontsize=12)
      ax.set_ylim(bottom=0)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.supylabel("share of the measurements")
    return figure


def _grid(panels: int) -> Figure:
  return new_figure(3.0 * COLUMNS, 0.9 + 2.6 * -(-panels // COLUMNS))


def _panels(figure: Figure, features: Mapping[str, Guesses]) -> Iterator[tuple[Axes, tuple]]:
  rows = -(-len(features) // COLUMNS)
  axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
  for ax in axes[len(features) :]:
    ax.remove()
  for ax in axes[: len(features)]:
    ax.tick_params(labelsize=10)
  return zip(axes, features.items(), strict=False)


def _edges(true: np.ndarray) -> np.ndarray:
  """Bins between the quantiles of the data; what lies beyond is in the first and the last."""
  low, high = np.quantile(true, [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
  if low == high:
    low, high = low - 0.5, high + 0.5
  return np.linspace(low, high, BINS + 1)
