"""Figure of hidden measurements: how well each kind of them is reconstructed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jetfm.evals.plots.style import COLOURS, new_figure, style


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
