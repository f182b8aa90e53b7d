"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jetfm.evals.plots.style import LINES, line_of, new_figure, style


def training_figure(
  curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
  *,
  ylabel: str = "loss",
  logarithmic: bool = False,
) -> Figure:
  """Curves against the training step: `curves[run]['train' or 'validation'] = (step, value)`.

  One colour per run; validation dashed when the run has both. Values that are not finite leave a
  gap and are marked by a cross on the lower axis.
  """
  with style():
    figure = new_figure(7.2, 4.8)
    ax = figure.subplots()
    for i, (run, parts) in enumerate(curves.items()):
      for k, (part, (step, value)) in enumerate(parts.items()):
        step, value = np.asarray(step), np.asarray(value, np.float64)
        look = line_of(i) | {"linestyle": LINES[k % len(LINES)]}
        marker = "o" if len(step) == 1 else None
        label = f"{run}, {part}" if run else part
        ax.plot(
          step, np.where(np.isfinite(value), value, np.nan), label=label, marker=marker, **look
        )
        lost = ~np.isfinite(value)
        if lost.any():
          where = ax.get_xaxis_transform()
          ax.plot(step[lost], np.full(lost.sum(), 0.02), "x", color=look["color"], transform=where)
    if logarithmic:
      ax.set_yscale("log")
    ax.set_xlabel("training step")
    ax.set_ylabel(ylabel)
    ax.margins(x=0.02)
    figure.legend(loc="outside upper left", ncols=2)
    return figure
