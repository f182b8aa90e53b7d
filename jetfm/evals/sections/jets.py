"""What a section of a report is made from, and what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jetfm.evals.metrics.measurement import Measurement

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Jets:
  """True jets of a sample.

  Attributes:
    p4: (B, N, 4) four-momenta (E, px, py, pz) in GeV, in the laboratory; padded slots are 0.
    mask: (B, N) bool.
    label: (B,) class number, -1 where there is none.
    weight: (B,) event weights, all positive.
    targets: name -> (B,) true values; NaN for a jet that does not have the target.
    spectators: name -> (B,).
  """

  p4: np.ndarray
  mask: np.ndarray
  label: np.ndarray
  weight: np.ndarray
  targets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  spectators: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.label)

  def select(self, rows: np.ndarray) -> Jets:
    """The jets of these rows, indices or (B,) bool."""
    return Jets(
      self.p4[rows],
      self.mask[rows],
      self.label[rows],
      self.weight[rows],
      {name: values[rows] for name, values in self.targets.items()},
      {name: values[rows] for name, values in self.spectators.items()},
    )

  @property
  def pt(self) -> np.ndarray:
    """(B,) pT in GeV of the sum of the particles."""
    total = self._total
    return np.hypot(total[:, 1], total[:, 2])

  @property
  def axis(self) -> tuple[np.ndarray, np.ndarray]:
    """eta (B,) and phi (B,) of the sum of the particles."""
    total = self._total
    pt = np.maximum(np.hypot(total[:, 1], total[:, 2]), 1e-12)
    return np.arcsinh(total[:, 3] / pt), np.arctan2(total[:, 2], total[:, 1])

  @property
  def _total(self) -> np.ndarray:
    return np.where(self.mask[..., None], self.p4, 0).sum(axis=1, dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class Section:
  """Numbers and figures of one task.

  Attributes:
    metrics: rows of the table, by key of `jetfm.evals.catalogue`.
    details: JSON values behind the figures.
    figures: (kind, caption, figure), kinds of `jetfm.evals.report_words.FIGURES`.
  """

  metrics: dict[str, Measurement]
  details: dict[str, Any] = dataclasses.field(default_factory=dict)
  figures: list[tuple[str, str, Figure]] = dataclasses.field(default_factory=list)


def json_numbers(values: np.ndarray) -> list[float | None]:
  """(K,) -> a list in which what is not finite is None."""
  return [float(v) if np.isfinite(v) else None for v in values]


def packed_by_pt(p4: np.ndarray, mask: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
  """Particles by falling pT, padding last: (B, N, 4), (B, N) -> (B, slots, 4), (B, slots).

  Jets of more than `slots` particles lose their softest.
  """
  pt = np.where(mask, np.hypot(p4[..., 1], p4[..., 2]), -1.0)
  order = np.argsort(-pt, axis=1, kind="stable")[:, :slots]
  mask = np.take_along_axis(mask, order, axis=1)
  p4 = np.where(mask[..., None], np.take_along_axis(p4, order[..., None], axis=1), 0)
  more = ((0, 0), (0, max(slots - order.shape[1], 0)))
  return np.pad(p4, (*more, (0, 0))), np.pad(mask, more)


def of_different_classes(label: np.ndarray, order: np.ndarray, number: int) -> list[int]:
  """The first jets of an order that are of different classes; then the first of the others.

  label (B,), order (B,) numbers of jets.
  """
  firsts = np.sort(np.unique(label[order], return_index=True)[1])
  chosen = np.concatenate([order[firsts], order])
  return list(dict.fromkeys(chosen.tolist()))[:number]
