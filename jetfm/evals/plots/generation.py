"""Spectra of generated and of true particles or jets, with their ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jetfm.evals.metrics.generation import Particles
from jetfm.evals.metrics.weighting import weighted_quantile
from jetfm.evals.plots.style import OTHER, PREDICTED, TRUE, new_figure, style

AXES = (r"$p_T$ (GeV)", r"$\eta$", r"$\phi$ (rad)", r"$E$ (GeV)")
LOGARITHMIC = (True, False, False, True)


def spectra_figure(
  true: Particles,
  samples: Mapping[str, Particles],
  labels: Sequence[str] = AXES,
  logarithmic: Sequence[bool] = LOGARITHMIC,
  *,
  bins: int = 40,
  of: str = "particles",
) -> Figure:
  """One panel per feature: true spectrum, up to two samples by name, and sample/true below.

  Shapes: values (M, F) with F labels; `logarithmic` says which features get logarithmic axes, `of`
  what is counted. The grey band is the statistical uncertainty of the true sample.
  """
  columns = min(2, len(labels))
  rows = -(-len(labels) // columns)
  with style():
    figure = new_figure(4.2 * columns, 4.2 * rows)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[3, 1] * rows)
    for f, (label, log) in enumerate(zip(labels, logarithmic, strict=True)):
      row, column = divmod(f, columns)
      upper = figure.add_subplot(grid[2 * row, column])
      lower = figure.add_subplot(grid[2 * row + 1, column], sharex=upper)
      _spectrum(upper, lower, true, samples, f, log, bins)
      lower.set_xlabel(label)
      upper.set_ylabel(f"share of {of}")
      lower.set_ylabel("ratio", loc="center")
      if f == 0:
        handles = upper.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3)
    return figure


def _range(
  true: Particles, samples: Sequence[Particles], feature: int, log: bool
) -> tuple[float, float]:
  """What holds the true values, and the samples' too unless they lie far outside."""

  def quantiles(sample: Particles) -> tuple[float, float] | None:
    x = sample.values[:, feature]
    some = np.isfinite(x) & ((x > 0) | (not log))
    if not some.any():
      return None
    x = np.log(x[some]) if log else x[some]
    low, high = (weighted_quantile(x, q, sample.weight[some]) for q in (0.001, 0.999))
    return low, high

  low, high = quantiles(true) or (0.0, 1.0)
  if low == high:
    low, high = low - 1, high + 1
  width = high - low
  for found in filter(None, map(quantiles, samples)):
    low = min(low, max(found[0], low - width))
    high = max(high, min(found[1], high + width))
  return (float(np.exp(low)), float(np.exp(high))) if log else (low, high)


def _edges(true: np.ndarray, low: float, high: float, log: bool, bins: int) -> np.ndarray:
  """About `bins` bins; of counts they hold equally many whole numbers each."""
  if log:
    return np.geomspace(low, high, bins + 1)
  if (true == np.round(true)).all():
    width = max(1, round((high - low) / bins))
    return np.arange(np.floor(low), high + 1 + width, width) - 0.5
  return np.linspace(low, high, bins + 1)


def _spectrum(
  upper: Axes,
  lower: Axes,
  true: Particles,
  samples: Mapping[str, Particles],
  feature: int,
  log: bool,
  bins: int,
) -> None:
  import mplhep

  low, high = _range(true, list(samples.values()), feature, log)
  edges = _edges(true.values[:, feature], low, high, log, bins)

  def shape(sample: Particles) -> tuple[np.ndarray, np.ndarray]:
    counts = np.histogram(sample.values[:, feature], edges, weights=sample.weight)[0]
    squares = np.histogram(sample.values[:, feature], edges, weights=sample.weight**2)[0]
    total = sample.weight.sum()
    return counts / total, np.sqrt(squares) / total

  expected, error = shape(true)
  tallest = expected.max()
  mplhep.histplot(
    expected, edges, ax=upper, yerr=False, label="true", color=TRUE, flow="none", linewidth=1.5
  )
  band = np.divide(error, expected, where=expected > 0, out=np.zeros_like(error))
  lower.stairs(1 + band, edges, baseline=1 - band, fill=True, color="#cccccc")
  looks: tuple[dict[str, Any], ...] = (
    {"color": PREDICTED, "linestyle": "-"},
    {"color": OTHER, "linestyle": "--"},
  )
  for (name, sample), look in zip(samples.items(), looks, strict=False):
    values, _ = shape(sample)
    tallest = max(tallest, values.max())
    mplhep.histplot(values, edges, ax=upper, yerr=False, label=name, flow="none", **look)
    ratio = np.divide(values, expected, where=expected > 0, out=np.full_like(values, np.nan))
    lower.stairs(ratio, edges, baseline=None, linewidth=1.6, **look)
  lower.axhline(1, color=TRUE, linewidth=0.8, linestyle=":")
  lower.set_ylim(0.4, 1.6)
  lower.set_xlim(edges[0], edges[-1])
  upper.tick_params(labelbottom=False)
  if log:
    upper.set_xscale("log")
    upper.set_yscale("log")
  else:
    upper.set_ylim(0, 1.3 * tallest)
