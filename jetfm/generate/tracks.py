"""Which charged particles become tracks, and how well their impact parameters are known.

Source: the Delphes card of JetClass (github.com/jet-universe/jetclass_generation); efficiencies and
momentum resolutions follow the CMS card of Delphes. `track_impact_resolution.csv`, next to this
file, holds its table of impact-parameter resolutions (CMS, arXiv:1405.6569, figure 15) as rows
of (parameter, |eta| range, pT range in GeV, sigma in mm).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources

import numpy as np

# Rows: hadron, electron, muon. Columns: |eta| <= 1.5 soft, hard; 1.5-2.5 soft, hard. Soft is
# 0.1-1 GeV.
_EFFICIENCY = np.array(
  [[0.70, 0.95, 0.60, 0.85], [0.73, 0.95, 0.50, 0.83], [0.75, 0.99, 0.70, 0.98]]
)
_ELECTRON_ABOVE_100 = np.array([0.99, 0.90])

# (constant, slope per GeV) of the relative pT resolution for |eta| <= 0.5, 0.5-1.5, 1.5-2.5.
_RESOLUTION = np.array(
  [
    [[0.06, 1.3e-3], [0.10, 1.7e-3], [0.25, 3.1e-3]],
    [[0.03, 1.3e-3], [0.05, 1.7e-3], [0.15, 3.1e-3]],
    [[0.01, 1.0e-4], [0.015, 1.5e-4], [0.025, 3.5e-4]],
  ]
)
MAX_ETA = 2.5
MIN_PT = 0.1


def kind_of(pid: np.ndarray) -> np.ndarray:
  """PDG ids (N,) -> row of the tables: 0 charged hadron, 1 electron, 2 muon."""
  size = np.abs(pid)
  return np.where(size == 11, 1, np.where(size == 13, 2, 0))


def efficiency(kind: np.ndarray, pt: np.ndarray, eta: np.ndarray) -> np.ndarray:
  """Probability that a charged particle becomes a track.

  Shapes: all (N,). `eta` is that of the point where the particle meets the calorimeter; pT in GeV.
  """
  forward = (np.abs(eta) > 1.5).astype(int)
  value = _EFFICIENCY[kind, 2 * forward + (pt > 1.0)]
  value = np.where((kind == 1) & (pt > 100), _ELECTRON_ABOVE_100[forward], value)
  value = np.where((kind == 2) & (pt > 1000), value * np.exp(0.5 - pt * 5e-4), value)
  return np.where((pt > MIN_PT) & (np.abs(eta) <= MAX_ETA), value, 0.0)


def smear_pt(
  rng: np.random.Generator, kind: np.ndarray, pt: np.ndarray, eta: np.ndarray
) -> np.ndarray:
  """Log-normal pT with mean pT and relative width sqrt(a^2 + (b pT)^2).

  In the published chain this value only selects the row of the impact-parameter table: a later
  step with zero momentum resolution restores the true momentum.
  Shapes: all (N,); `eta` as for `efficiency`.
  """
  column = np.searchsorted([0.5, 1.5], np.abs(eta))
  constant, slope = np.moveaxis(_RESOLUTION[kind, column], -1, 0)
  return log_normal(rng, pt, pt * np.hypot(constant, slope * pt))


def log_normal(rng: np.random.Generator, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
  """Log-normal numbers of given mean and standard deviation, (N,); zero where the mean is zero."""
  positive = mean > 0
  ratio = np.divide(sigma, mean, out=np.zeros(mean.shape), where=positive)
  width = np.sqrt(np.log1p(ratio**2))
  return mean * np.exp(width * rng.standard_normal(mean.shape) - width**2 / 2)


def impact_resolution(pt: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(N,) pT in GeV and eta of the momentum -> sigma of d0 and of dz in mm.

  Zero below the table's first pT (0.1823 GeV) and beyond |eta| = 2.5.
  """
  eta_edges, pt_edges, table = _impact_table()
  column = np.searchsorted(eta_edges, np.abs(eta)) - 1
  row = np.searchsorted(pt_edges, pt) - 1
  known = (row >= 0) & (column < len(eta_edges) - 1)
  # |eta| = 0 lies on the first edge.
  sigma = table[:, np.clip(column, 0, len(eta_edges) - 2), np.clip(row, 0, None)]
  d0, dz = np.where(known, sigma, 0.0)
  return d0, dz


@functools.cache
def _impact_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """|eta| edges (4,), lower pT edges (34,), and sigma (2 parameters, 3, 34)."""
  text = importlib.resources.files(__package__).joinpath("track_impact_resolution.csv").read_text()
  rows = list(csv.DictReader(text.splitlines()))
  eta_edges = sorted({float(row[key]) for row in rows for key in ("abs_eta_min", "abs_eta_max")})
  pt_edges = sorted({float(row["pt_min_gev"]) for row in rows})
  table = np.zeros((2, len(eta_edges) - 1, len(pt_edges)))
  for row in rows:
    place = eta_edges.index(float(row["abs_eta_min"])), pt_edges.index(float(row["pt_min_gev"]))
    table[("d0", "dz").index(row["parameter"]), *place] = float(row["sigma_mm"])
  return np.array(eta_edges), np.array(pt_edges), table
