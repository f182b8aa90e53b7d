"""Displays of single jets, before and after super-resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jetfm.evals.plots.style import COLOURS, new_figure, style

LARGEST = 320.0
"""Area of the marker of the hardest particle of a row, in points squared."""


def jet_display_figure(
  views: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str] = (), *, radius: float = 0.8
) -> Figure:
  """Particles in (eta, phi), area proportional to pT: a row per jet, a column per view.

  `views` holds, by name (input, predicted, true), one array (N, 3) per jet: pT (GeV), deta, dphi
  relative to the jet's axis, without padding. The circle is the jet radius.
  """
  names = list(views)
  num_jets = len(views[names[0]])
  with style():
    figure = new_figure(3.3 * len(names), 3.1 * num_jets + 0.4)
    axes = figure.subplots(num_jets, len(names), sharex=True, sharey=True, squeeze=False)
    angle = np.linspace(0, 2 * np.pi, 200)
    for j in range(num_jets):
      hardest = max((views[n][j][:, 0].max(initial=0) for n in names), default=1) or 1
      for i, name in enumerate(names):
        ax = axes[j, i]
        pt, deta, dphi = views[name][j].T
        order = np.argsort(-pt)
        ax.scatter(
          deta[order],
          dphi[order],
          s=LARGEST * pt[order] / hardest + 3,
          color=COLOURS[i % len(COLOURS)],
          alpha=0.55,
          edgecolor="black",
          linewidth=0.5,
        )
        ax.plot(radius * np.cos(angle), radius * np.sin(angle), ":", color="grey", linewidth=1)
        ax.text(0.05, 0.95, f"{len(pt)} particles", transform=ax.transAxes, va="top", fontsize=11)
        ax.set(xlim=(-1.0, 1.0), ylim=(-1.0, 1.0), aspect="equal")
        ax.set_xticks([-0.5, 0, 0.5])
        ax.set_yticks([-0.5, 0, 0.5])
        if j == 0:
          ax.set_title(name)
        if j == num_jets - 1:
          ax.set_xlabel(r"$\Delta\eta$", loc="center")
        if i == 0:
          title = f"{titles[j]}\n" if j < len(titles) else ""
          ax.set_ylabel(rf"{title}$\Delta\phi$", loc="center")
    return figure
