"""One look for all figures: mplhep's ROOT style at print size, in colour-blind safe colours.

Figures are made without pyplot, so that nothing global is kept and nothing needs closing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib
import mplhep
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogFormatter

COLOURS = (
  "#3f90da",
  "#ffa90e",
  "#bd1f01",
  "#94a4a2",
  "#832db6",
  "#a96b59",
  "#e76300",
  "#b9ac70",
  "#717581",
  "#92dadd",
)
"""Ten colours of M. Petroff, arXiv:2107.02270."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Line styles, so that curves stay distinct without colour."""

MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")

TRUE, PREDICTED, OTHER = "#1a1a1a", "#3f90da", "#e76300"
"""True, model, and a trivial baseline."""

MAP = "cividis"
"""For densities: even in brightness, readable in grey."""

_SIZES: dict[str, Any] = {
  "font.size": 15,
  "axes.labelsize": 15,
  "axes.titlesize": 14,
  "legend.fontsize": 12,
  "xtick.labelsize": 13,
  "ytick.labelsize": 13,
  "axes.linewidth": 1.2,
  "lines.linewidth": 1.8,
  "lines.markersize": 6,
  "xtick.major.size": 7,
  "xtick.minor.size": 3.5,
  "ytick.major.size": 7,
  "ytick.minor.size": 3.5,
  "xtick.major.width": 1.0,
  "ytick.major.width": 1.0,
  "legend.frameon": False,
  "figure.facecolor": "white",
  "savefig.facecolor": "white",
  "savefig.bbox": None,
  "axes.grid": False,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
  """The look, inside a with block; matplotlib's settings are as before after it."""
  base: dict[str, Any] = {k: v for k, v in mplhep.style.ROOT.items() if k in matplotlib.rcParams}
  settings: Any = base | _SIZES
  with matplotlib.rc_context(settings):
    yield


def new_figure(width: float = 6.4, height: float = 5.0) -> Figure:
  """An empty figure of this size in inches, laid out so that labels never overlap."""
  return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))


def line_of(i: int) -> dict[str, Any]:
  """Colour and line style of curve i: twenty combinations differ in at least one."""
  return {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}


def count_bar(figure: Figure, image: Any, ax: Axes, label: str) -> None:
  """A colour bar of counts on a logarithmic scale, with plain numbers."""
  bar = figure.colorbar(image, ax=ax, label=label)
  plain = LogFormatter(minor_thresholds=(1.2, 0.5))
  bar.ax.yaxis.set_major_formatter(plain)
  bar.ax.yaxis.set_minor_formatter(plain)


def say_empty(ax: Axes, why: str) -> None:
  """Writes into a panel why it shows nothing: no figure is silently empty."""
  ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", wrap=True, fontsize=12)


def png(figure: Figure, dpi: int = 130) -> bytes:
  """The figure as a PNG picture, the same bytes for the same figure."""
  buffer = io.BytesIO()
  with style():
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
  return buffer.getvalue()
