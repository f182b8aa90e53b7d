"""Calorimeter cells, resolutions, and the measured energy of a cell.

Source: the Delphes card of JetClass (github.com/jet-universe/jetclass_generation), which takes the
ECAL of CMS from arXiv:1306.2016 and arXiv:1502.02701.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jetfm.generate.tracks import log_normal

_FORWARD = [3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0]


class CellGrid:
  """Rings of constant eta, each cut into equal cells in phi.

  Args:
    upper_edges: rising |eta| edges of the rings of one side; the first ring starts at 0.
    cells: number of cells in phi of each ring.
  """

  def __init__(self, upper_edges: np.ndarray, cells: np.ndarray):
    edges = np.asarray(upper_edges, float)
    self.eta_edges = np.concatenate([-edges[::-1], [0.0], edges])
    self.cells = np.concatenate([cells[::-1], cells]).astype(np.int64)
    self.first = np.concatenate([[0], np.cumsum(self.cells)])
    self.size = int(self.first[-1])
    self._ring_of_cell = np.repeat(np.arange(len(self.cells)), self.cells)

  def index(self, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Cell number of each direction (N,); -1 beyond the last ring."""
    ring = np.searchsorted(self.eta_edges, eta) - 1
    covered = (ring >= 0) & (ring < len(self.cells))
    ring = np.where(covered, ring, 0)
    cells = self.cells[ring]
    place = np.floor((phi + np.pi) / (2 * np.pi) * cells).astype(np.int64) % cells
    return np.where(covered, self.first[ring] + place, -1)

  def eta_centre(self, cell: np.ndarray) -> np.ndarray:
    """Cell numbers (N,) -> eta of their centres."""
    ring = self._ring_of_cell[cell]
    return (self.eta_edges[ring] + self.eta_edges[ring + 1]) / 2

  def draw_inside(
    self, rng: np.random.Generator, cell: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Cell numbers (N,) -> eta and phi, uniform inside each cell."""
    ring = self._ring_of_cell[cell]
    u, v = rng.random((2, len(cell)))
    low, high = self.eta_edges[ring], self.eta_edges[ring + 1]
    width = 2 * np.pi / self.cells[ring]
    return low + u * (high - low), -np.pi + (cell - self.first[ring] + v) * width


@dataclass(frozen=True)
class Calorimeter:
  """Cells, resolution and thresholds.

  Attributes:
    grid: the cells.
    sigma: (energy in GeV (N,), eta of the cell's centre (N,)) -> absolute resolution in GeV.
    energy_min: a cell below this energy (GeV) measures nothing.
    significance_min: a cell below this multiple of its resolution measures nothing.
  """

  grid: CellGrid
  sigma: Callable[[np.ndarray, np.ndarray], np.ndarray]
  energy_min: float
  significance_min: float

  def measure(
    self, rng: np.random.Generator, deposit: np.ndarray, eta: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Deposited energies (T,) GeV -> measured energies, zero if insignificant, and their sigma.

    A measured energy is log-normal with mean the deposit m and standard deviation sigma(m).
    """
    energy = log_normal(rng, deposit, self.sigma(deposit, eta))
    sigma = self.sigma(energy, eta)
    seen = (energy >= self.energy_min) & (energy >= self.significance_min * sigma)
    return np.where(seen, energy, 0.0), sigma


def ecal_sigma(energy: np.ndarray, eta: np.ndarray) -> np.ndarray:
  """Absolute resolution of the ECAL in GeV, (N,)."""
  eta = np.abs(eta)
  inner = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
  shape = np.where(eta <= 1.5, 1 + 0.64 * eta**2, 2.16 + 5.6 * (eta - 2) ** 2)
  outer = np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
  return np.where(eta <= 2.5, shape * inner, outer)


def hcal_sigma(energy: np.ndarray, eta: np.ndarray) -> np.ndarray:
  """Absolute resolution of the HCAL in GeV, (N,)."""
  central = np.abs(eta) <= 3.0
  constant, stochastic = np.where(central, 0.05, 0.13), np.where(central, 1.5, 2.7)
  return np.sqrt((constant * energy) ** 2 + stochastic**2 * energy)


@functools.cache
def ecal() -> Calorimeter:
  """0.0174 x pi/180 up to |eta| = 2.958, then the coarse cells of the forward calorimeter."""
  fine = 0.0174 * np.arange(1, 171)
  edges = np.concatenate([fine, _FORWARD])
  cells = np.concatenate([np.full(170, 360), np.full(len(_FORWARD), 36)])
  return Calorimeter(CellGrid(edges, cells), ecal_sigma, energy_min=0.5, significance_min=2.0)


@functools.cache
def hcal() -> Calorimeter:
  """0.087 x pi/36 up to |eta| = 1.653, pi/18 up to 4.525, pi/9 up to 5."""
  fine = 0.087 * np.arange(1, 20)
  coarse = [1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95, *_FORWARD]
  edges = np.concatenate([fine, coarse])
  cells = np.concatenate([np.full(19, 72), np.full(len(coarse) - 2, 36), np.full(2, 18)])
  return Calorimeter(CellGrid(edges, cells), hcal_sigma, energy_min=1.0, significance_min=1.0)


def fractions(pid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """PDG ids (N,) -> share of the energy left in the ECAL and in the HCAL."""
  size = np.abs(pid)
  electromagnetic = np.isin(size, (11, 22, 111))
  invisible = np.isin(size, (12, 13, 14, 16))
  strange = np.isin(size, (310, 3122))
  in_ecal = np.where(electromagnetic, 1.0, np.where(strange, 0.3, 0.0))
  in_hcal = np.where(electromagnetic | invisible, 0.0, np.where(strange, 0.7, 1.0))
  return in_ecal, in_hcal
