"""Decays of J/psi made in e+e- collisions: Pythia's event records as flat arrays.

The beams cross at an angle of 22 mrad, so that the J/psi moves along x. Many of them are decayed in
one call of Pythia, as if they were one event: nothing but the recoil of a rare light string makes
them know of each other, and decays that do not keep their four-momentum are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jetfm.generate.jpsi_table import MOTHER
from jetfm.generate.pythia import EventRecords, Generator, flat_records

TOTAL_ENERGY, TOTAL_PX = 3.097, 0.034
"""Four-momentum of the collision in GeV; py = pz = 0."""
MASS = float(np.sqrt(TOTAL_ENERGY**2 - TOTAL_PX**2))
DECAYS_PER_CALL = 1_000
"""Part of what a seed means: another number gives other events."""

SETTINGS = ("Print:quiet = on", "ProcessLevel:all = off")
_MAX_TRIES = 20
BALANCE = 1e-4  # GeV; rounding is a thousand times smaller


@dataclass(frozen=True)
class Decays:
  """Decays one after another.

  Attributes:
    records: entries of all decays in one list; `mother1` of what comes out of a string is a parton.
    mother: (n,) places of the J/psi, rising.
    decay: (N,) number of the decay that an entry belongs to; -1 for none.
  """

  records: EventRecords
  mother: np.ndarray
  decay: np.ndarray

  def __len__(self) -> int:
    return len(self.mother)

  @property
  def stable(self) -> np.ndarray:
    """Places of the stable products of all decays, rising."""
    return np.flatnonzero((self.records.status > 0) & (self.decay >= 0))

  def select(self, good: np.ndarray) -> Decays:
    """The decays with (n,) bool `good`, in their order; entries of the others belong to none."""
    number = np.append(np.where(good, np.cumsum(good) - 1, -1), -1)
    return Decays(self.records, self.mother[good], number[self.decay])


class JpsiPythia:
  """A running Pythia that decays J/psi and nothing else.

  Args:
    settings: lines that give it the channels.
    seed: 1 to 900,000,000.
  """

  def __init__(self, settings: Sequence[str], seed: int):
    self._generator = Generator((*SETTINGS, *settings), seed)

  def next_decays(self) -> Decays:
    """DECAYS_PER_CALL decays, without those that are not balanced."""
    pythia = self._generator.pythia
    for _ in range(_MAX_TRIES):
      pythia.event.reset()
      for _ in range(DECAYS_PER_CALL):
        pythia.event.append(MOTHER, 1, 0, 0, TOTAL_PX, 0.0, 0.0, TOTAL_ENERGY, MASS)
      batch = pythia.nextBatch(1)
      # Now and then Pythia gives up on one of them, and with it on all.
      if len(batch):
        decays = find_decays(flat_records(batch))
        return decays.select(is_balanced(decays))
    raise RuntimeError(f"Pythia failed {_MAX_TRIES} times to decay {DECAYS_PER_CALL} J/psi")


def find_decays(records: EventRecords) -> Decays:
  """Which entry belongs to which J/psi."""
  entries = np.arange(len(records.pid))
  is_mother = records.pid == MOTHER
  origin = np.where(is_mother | (records.mother1 < 0), entries, records.mother1)
  while not np.array_equal(further := origin[origin], origin):
    origin = further
  number = np.where(is_mother, np.cumsum(is_mother) - 1, -1)
  return Decays(records, np.flatnonzero(is_mother), number[origin])


def is_balanced(decays: Decays) -> np.ndarray:
  """(n,) bool: the stable products have the four-momentum of the collision."""
  stable, records = decays.stable, decays.records
  good = np.ones(len(decays), bool)
  expected = {"energy": TOTAL_ENERGY, "px": TOTAL_PX, "py": 0.0, "pz": 0.0}
  for name, total in expected.items():
    sums = np.bincount(decays.decay[stable], getattr(records, name)[stable], len(decays))
    good &= np.abs(sums - total) < BALANCE
  return good
