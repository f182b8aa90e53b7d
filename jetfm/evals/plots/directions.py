"""Displays of single jets: where hidden particles are expected, and where they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jetfm.evals.plots.jets import LARGEST
from jetfm.evals.plots.style import new_figure, style

CONTRAST = 1e3
"""Of the darkest and the lightest shade."""


def directions_figure(
  density: np.ndarray,
  edges: np.ndarray,
  visible: Sequence[np.ndarray],
  hidden: Sequence[np.ndarray],
  titles: Sequence[str] = (),
) -> Figure:
  """A panel for each of J jets: a density, and the particles on it.

  Shapes: density (J, G, G) of hidden particles in cells of eta and phi, edges (G + 1,) of the
  cells, the same for both; visible and hidden hold (N, 3) per jet: pT (GeV), deta, dphi. Circles
  are visible particles, area proportional to pT; crosses the hidden ones.
  """
  with style():
    figure = new_figure(3.6 * len(density), 4.3)
    axes = figure.subplots(1, len(density), sharey=True, squeeze=False)[0]
    for i, ax in enumerate(axes):
      # Cores and halos of jets differ by orders of magnitude.
      most = max(float(density[i].max()), 1e-9)
      norm = LogNorm(most / CONTRAST, most)
      ax.pcolormesh(edges, edges, density[i].T.clip(most / CONTRAST), norm=norm, cmap="Blues")
      pt, deta, dphi = visible[i].T
      area = LARGEST * pt / max(pt.max(initial=0), 1e-9) + 3
      ax.scatter(deta, dphi, s=area, facecolor="none", edgecolor="black", linewidth=0.8)
      _, deta, dphi = hidden[i].T
      ax.scatter(deta, dphi, s=36, marker="x", color="red", linewidth=1.2)
      ax.set(xlim=edges[[0, -1]], ylim=edges[[0, -1]], aspect="equal")
      ax.set_xlabel(r"$\Delta\eta$", loc="center")
      if i < len(titles):
        ax.set_title(titles[i])
    axes[0].set_ylabel(r"$\Delta\phi$", loc="center")
    return figure
