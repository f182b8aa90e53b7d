"""Regressed against true values, and reconstructed against true particles."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jetfm.evals.metrics.regression import response_quantiles
from jetfm.evals.metrics.weighting import counted, weighted_quantile
from jetfm.evals.plots.style import MAP, PREDICTED, count_bar, new_figure, say_empty, style

PARTICLE_AXES = (
  (r"$p_T$ (GeV)", "log"),
  (r"$\eta$", "linear"),
  (r"$\phi$ (rad)", "linear"),
  (r"$E$ (GeV)", "log"),
)


def response_figure(
  predicted: np.ndarray,
  true: np.ndarray,
  weight: np.ndarray | None = None,
  *,
  name: str = "jet mass",
  unit: str = "GeV",
) -> Figure:
  """Regressed against true values (left) and their ratio (right), (B,) each in `unit`."""
  weight, predicted, true = counted(weight, predicted, true)
  with style():
    figure = new_figure(8.8, 4.2)
    left, right = figure.subplots(1, 2)
    image = _density(left, true, predicted, weight, "linear")
    left.set_xlabel(f"true {name} ({unit})")
    left.set_ylabel(f"regressed {name} ({unit})")
    if image is not None:
      count_bar(figure, image, left, "jets")
    some = true > 0
    if some.any():
      low, middle, high = response_quantiles(predicted, true, weight)
      half = 5 * max(high - low, 1e-3) / 2
      # Around the median always, which is that of negative predictions where most are.
      edges = np.linspace(max(middle - half, 0) if middle > 0 else middle - half, middle + half, 61)
      counts = np.histogram(predicted[some] / true[some], edges, weights=weight[some])[0]
      right.stairs(counts / counts.sum(), edges, color=PREDICTED, linewidth=2)
      right.axvspan(low, high, color=PREDICTED, alpha=0.2, linewidth=0)
      right.axvline(1, color="black", linewidth=1, linestyle=":")
      right.text(
        0.96,
        0.95,
        f"median {middle:.3f}\nhalf-width {(high - low) / 2:.3f}",
        transform=right.transAxes,
        ha="right",
        va="top",
        fontsize=12,
      )
      right.set_ylim(0, 1.35 * (counts / counts.sum()).max())
      right.set_xlim(edges[0], edges[-1])
    else:
      say_empty(right, "no true value above 0")
    right.set_xlabel(f"regressed / true {name}")
    right.set_ylabel("share of jets")
    return figure


def true_predicted_figure(
  true: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None
) -> Figure:
  """2-d histograms of masked particles: predicted against true pT, eta, phi and E.

  Shapes: (M, 4) each, in GeV and rad. Logarithmic for pT and E. Each panel gives the correlation
  coefficient (of the logarithms where the axis is one).
  """
  weight, true, predicted = counted(weight, true, predicted)
  with style():
    figure = new_figure(7.8, 6.8)
    axes = figure.subplots(2, 2)
    for i, (ax, (label, scale)) in enumerate(zip(axes.flat, PARTICLE_AXES, strict=True)):
      x, y = true[:, i], predicted[:, i]
      image = _density(ax, x, y, weight, scale)
      ax.set_xlabel(f"true {label}")
      ax.set_ylabel(f"predicted {label}")
      if image is not None:
        count_bar(figure, image, ax, "particles")
    return figure


def _density(ax: Axes, x: np.ndarray, y: np.ndarray, weight: np.ndarray, scale: str):
  """2-d histogram with the diagonal; both axes cover the same range."""
  some = np.isfinite(x) & np.isfinite(y)
  if scale == "log":
    some &= (x > 0) & (y > 0)
  if not some.any():
    say_empty(ax, "no finite values")
    return None
  x, y, weight = x[some], y[some], weight[some]
  low = min(weighted_quantile(a, 0.002, weight) for a in (x, y))
  high = max(weighted_quantile(a, 0.998, weight) for a in (x, y))
  if low == high:
    low, high = (low / 2, high * 2) if scale == "log" else (low - 1, high + 1)
  edges = np.geomspace(low, high, 61) if scale == "log" else np.linspace(low, high, 61)
  counts = np.histogram2d(x, y, (edges, edges), weights=weight)[0]
  image = ax.pcolormesh(
    edges,
    edges,
    np.where(counts > 0, counts, np.nan).T,
    cmap=MAP,
    norm=LogNorm(max(counts[counts > 0].min(), counts.max() * 1e-4), counts.max()),
    rasterized=True,
  )
  ax.plot([low, high], [low, high], color="#e42536", linewidth=1, linestyle="--")
  ax.set(xscale=scale, yscale=scale, xlim=(low, high), ylim=(low, high))
  u, v = (np.log(x), np.log(y)) if scale == "log" else (x, y)
  if u.std() > 0 and v.std() > 0:
    covariance = np.cov(u, v, aweights=weight)
    r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    ax.text(0.04, 0.95, f"correlation {r:.2f}", transform=ax.transAxes, va="top", fontsize=12)
  return image
