"""Measured quantities and the densities that are proposed for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jetfm.evals.likelihoods import fit_density, propose_likelihood
from jetfm.evals.plots.style import OTHER, TRUE, new_figure, say_empty, style

COLUMNS = 4


def likelihood_figure(
  values: Mapping[str, np.ndarray], chosen: Mapping[str, str] | None = None
) -> Figure:
  """A panel for each quantity: its histogram, the proposed likelihood and the fitted density.

  Args:
    values: by name, what was measured, (n,) each.
    chosen: likelihoods by name to be drawn instead of the proposed ones, such as a schema's.
  """
  rows = -(-max(len(values), 1) // COLUMNS)
  with style():
    figure = new_figure(4.2 * COLUMNS, 3.4 * rows)
    axes = np.atleast_1d(figure.subplots(rows, COLUMNS, squeeze=False)).ravel()
    for ax, (name, x) in zip(axes, values.items(), strict=False):
      _panel(ax, name, np.asarray(x, float), (chosen or {}).get(name))
    for ax in axes[len(values) :]:
      ax.set_axis_off()
  return figure


def _panel(ax: Axes, name: str, x: np.ndarray, likelihood: str | None) -> None:
  ax.set_xlabel(name)
  x = x[np.isfinite(x)]
  if len(x) < 100:
    say_empty(ax, f"{len(x)} values are too few")
    return
  proposal = propose_likelihood(x)
  likelihood = proposal.likelihood if likelihood is None else likelihood
  density = fit_density(x, likelihood)
  ax.set_title(f"{likelihood}\n{proposal.why}", fontsize=11)
  if likelihood == "categorical":
    known, counts = np.unique(x, return_counts=True)
    ax.bar(known, counts / len(x), 0.8 * np.diff(known).min(initial=1.0), color=TRUE, alpha=0.4)
    ax.plot(known, density(known), "o", color=OTHER)
    return
  if likelihood == "zero_inflated_lognormal":
    x = x[x > 0]
    low, high = np.quantile(x, [0.001, 0.999]) if len(x) else (0.1, 1.0)
    edges = np.geomspace(low, max(high, 1.01 * low), 61)
    ax.set_xscale("log")
  else:
    low, high = np.quantile(x, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-9), 61)
  share = len(x) * (1 / (1 - proposal.zeros) if likelihood.startswith("zero") else 1)
  ax.stairs(np.histogram(x, edges)[0] / np.diff(edges) / max(share, 1), edges, color=TRUE)
  grid = (
    np.geomspace(edges[0], edges[-1], 400)
    if ax.get_xscale() == "log"
    else np.linspace(edges[0], edges[-1], 400)
  )
  ax.plot(grid, density(grid), color=OTHER)
