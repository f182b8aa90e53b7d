"""e+e- events as awkward arrays: objects with measurements that can be missing, and their chain.

The four-momentum of a track is that of its momentum with the mass of a pion; that of a shower
without a track is massless, along the direction of the shower seen from the origin.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import awkward as ak
import numpy as np

from jetfm.data.branches import CHAIN, EVENT_NUMBER, in_layout
from jetfm.data.event_schema import EVENT_INPUT_SETS
from jetfm.data.events import Events, Layout, flag_of
from jetfm.data.jagged import JaggedBranches
from jetfm.data.sources import Chunk, Fault, missing

MOMENTUM = ("mdc_p3_px", "mdc_p3_py", "mdc_p3_pz")
SHOWER = ("emc_energy", "emc_x", "emc_y", "emc_z")
PION_MASS = 0.13957  # GeV
_TRACK, _SHOWER = flag_of("MDC"), flag_of("EMC")
_GROUPS = {f.name: flag_of(f.group) for f in EVENT_INPUT_SETS["bes"]}
_NOT_A_FLAG = "flag that is neither 0 nor 1"


class EventFile(JaggedBranches):
  """What the branches of one file of events are; the file itself is its reader's.

  Attributes: those of `JaggedFile`.

  Args:
    chains: names of the decay chains, in the order of their numbers in the branch 'chain'; None
      when the file does not tell them.
    labels: whether chains will be asked for.

  Raises: DataError when the branches of four-momenta, or of the chain, are missing.
  """

  def __init__(
    self,
    path: pathlib.Path,
    where: str,
    found: Sequence[str],
    branches: Mapping[str, str],
    chains: tuple[str, ...] | None,
    labels: bool = True,
  ):
    super().__init__(path, where, in_layout(path, where, found, branches))
    needed = "every input set of e+e- events"
    hint = "Jets have other input sets: --config.inputs=full."
    for name in (*MOMENTUM, *SHOWER, _TRACK, _SHOWER, *([CHAIN] if labels else [])):
      if name not in self.names:
        raise missing(path, where, name, self.names, needed, hint)
    self.p4_names = (SHOWER[0], *MOMENTUM)
    self.provides = frozenset(self.names)
    self.classes: tuple[str, ...] | None = chains

  def to_read(self, layout: Layout, classes: Sequence[str]) -> list[str]:
    """What to read of the file for these columns, by the file's names."""
    number = [EVENT_NUMBER] if EVENT_NUMBER in self.names else []
    momenta = (*MOMENTUM, *SHOWER, _TRACK, _SHOWER)
    label = [CHAIN] if classes else []
    wanted = [*momenta, *layout.particle, *layout.event, *label, *number]
    return list(dict.fromkeys(self.own[name] for name in wanted))

  def to_chunk(self, arrays: ak.Array, layout: Layout, classes: Sequence[str], start: int) -> Chunk:
    """Awkward records with those branches -> a chunk whose first entry is number `start`.

    Missing measurements become 0. Without `classes` no chain is read, and labels are -1.
    Raises: DataError for a branch that is not numbers.
    """
    counts, particles, faults = self.particle_columns(
      arrays, dict.fromkeys((*MOMENTUM, *SHOWER, _TRACK, _SHOWER, *layout.particle))
    )

    def fault(reason: str, branch: str, bad: np.ndarray) -> None:
      if bad.any():
        owner = np.repeat(np.arange(len(counts)), counts)
        faults.append(Fault(reason, branch, np.isin(np.arange(len(counts)), owner[bad])))

    for name, values in particles.items():
      if name in _GROUPS.values():
        fault(_NOT_A_FLAG, name, (values != 0) & (values != 1))
    for name, values in particles.items():
      flag = _GROUPS.get(name)
      if flag in particles:
        particles[name] = np.where(particles[flag] > 0, values, np.float32(0))
    for name in (*MOMENTUM, *SHOWER):  # four-momenta would hide which of them it is
      fault("NaN or infinite value", name, ~np.isfinite(particles[name]))
    has_track, has_shower = particles[_TRACK] > 0, particles[_SHOWER] > 0
    fault("object that neither the MDC nor the EMC measured", _TRACK, ~(has_track | has_shower))
    features = np.empty((len(has_track), len(layout.particle)), np.float32)
    for i, name in enumerate(layout.particle):
      features[:, i] = particles[name]
    values = np.empty((len(counts), len(layout.event)), np.float32)
    for i, name in enumerate(layout.event):
      values[:, i] = self.per_event(arrays, name)
    label = np.full(len(counts), -1, np.int32)
    if classes:
      label = self._labels(self.per_event(arrays, CHAIN), classes)
      faults.append(Fault("decay chain that is no class of the data set", CHAIN, label < 0))
    entry = np.arange(start, start + len(counts), dtype=np.int32)
    number = None
    if EVENT_NUMBER in self.names:
      number = self.per_event(arrays, EVENT_NUMBER).astype(np.int64)
    p4 = four_momenta(particles)
    events = Events(counts, p4, features, values, label, entry)
    return Chunk(events, number, tuple(faults))

  def _labels(self, number: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n,) numbers of chains in the file -> (n,) class numbers, -1 for what is no class."""
    names = tuple(classes) if self.classes is None else self.classes
    place = {name: i for i, name in enumerate(classes)}
    # The last entry is for numbers that the file has no name for.
    of_number = np.array([*(place.get(name, -1) for name in names), -1], np.int32)
    known = (number >= 0) & (number < len(names)) & (number == np.rint(number))
    return of_number[np.where(known, number, len(names)).astype(np.int64)]


def four_momenta(columns: Mapping[str, np.ndarray]) -> np.ndarray:
  """Columns (P,) of MOMENTUM, SHOWER and their flags -> (P, 4) float32 (E, px, py, pz) in GeV."""
  with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found later
    momentum = np.stack([columns[name] for name in MOMENTUM], axis=1).astype(np.float64)
    energy, *point = (columns[name].astype(np.float64) for name in SHOWER)
    position = np.stack(point, axis=1)
    distance = np.sqrt((position**2).sum(axis=1, keepdims=True))
    direction = np.divide(position, distance, out=np.zeros_like(position), where=distance > 0)
    is_track = (columns[_TRACK] > 0)[:, None]
    momentum = np.where(is_track, momentum, energy[:, None] * direction)
    of_track = np.sqrt(PION_MASS**2 + (momentum**2).sum(axis=1, keepdims=True))
    energy = np.where(is_track, of_track, energy[:, None])
    return np.concatenate([energy, momentum], axis=1).astype(np.float32)
