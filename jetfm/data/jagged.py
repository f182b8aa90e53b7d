"""Branches as awkward arrays, which ROOT and Parquet files share, and the JetClass layout."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import awkward as ak
import numpy as np

from jetfm.data.branches import EVENT_NUMBER, LABEL, in_layout, momentum_branches
from jetfm.data.errors import DataError
from jetfm.data.events import Events, Layout
from jetfm.data.jet_schema import BRANCHES, JETCLASS
from jetfm.data.momenta import four_momenta, impossible
from jetfm.data.sources import Chunk, Fault


class JaggedBranches:
  """Branches of one file by the names of its layout, read as flat arrays.

  Attributes:
    names: of all branches, in the layout's terms.
    own: those names -> the file's.
  """

  def __init__(self, path: pathlib.Path, where: str, own: Mapping[str, str]):
    self._described = f"{path.name}, {where}"
    self.own = dict(own)
    self.names = tuple(own)

  def particle_columns(
    self, arrays: ak.Array, names: Iterable[str]
  ) -> tuple[np.ndarray, dict[str, np.ndarray], list[Fault]]:
    """Branches with one value for each particle.

    Returns: (n,) particles of each event, which the first branch tells; name -> (P,) float32; and
      the branches that have another number of values.
    """
    columns: dict[str, np.ndarray] = {}
    faults: list[Fault] = []
    counts, total, first = np.zeros(0, np.int32), 0, ""
    for branch in names:
      own, flat = self._flat(arrays, branch)
      if not columns:
        counts, total, first = own, len(flat), self.own[branch]
      elif (wrong := own != counts).any():
        faults.append(Fault(f"as many values as {first} expected", branch, wrong))
        flat = np.resize(flat, total) if len(flat) else np.zeros(total, np.float32)
      columns[branch] = flat
    return counts, columns, faults

  def per_event(self, arrays: ak.Array, branch: str) -> np.ndarray:
    """A branch with one number for each event, in its own type."""
    return self._numbers(arrays[self.own[branch]], branch)

  def _flat(self, arrays: ak.Array, branch: str) -> tuple[np.ndarray, np.ndarray]:
    array = arrays[self.own[branch]]
    if array.ndim != 2:
      raise DataError(
        f"{self._described}: branch '{self.own[branch]}' has {array.ndim} axes, expected 2: one "
        "entry per jet or event, with a list of its particles"
      )
    counts = ak.to_numpy(ak.num(array)).astype(np.int32)
    return counts, self._numbers(ak.flatten(array), branch, np.float32)

  def _numbers(self, array: ak.Array, branch: str, dtype=None) -> np.ndarray:
    about = f"{self._described}: branch '{self.own[branch]}'"
    try:
      values = ak.to_numpy(array, allow_missing=False)
    except (ValueError, TypeError) as error:
      reason = str(error).strip().splitlines()[0]
      raise DataError(f"{about} is not plain numbers ({reason})") from None
    if values.dtype.kind not in "biuf" or values.ndim != 1:
      raise DataError(f"{about} holds {values.dtype}, expected numbers")
    with np.errstate(over="ignore"):
      return values if dtype is None else values.astype(dtype)


class JaggedFile(JaggedBranches):
  """What the branches of one file are in the layout; the file itself is its reader's.

  Attributes:
    p4_names: branches that the four-momenta are made of.
    names: of all branches, in the layout's terms.
    provides: stored columns, by their names in a `Layout`.
    classes: those of the label branches, in the order of JetClass when they are its ten; () without
      any.

  Raises: DataError when momenta or a branch that the user names are missing.
  """

  def __init__(
    self, path: pathlib.Path, where: str, found: Sequence[str], branches: Mapping[str, str]
  ):
    super().__init__(path, where, in_layout(path, where, found, branches))
    self.p4_names = momentum_branches(path, where, self.names)
    by_branch = {branch: column for column, branch in BRANCHES.items()}
    self.provides = frozenset(by_branch.get(n, n) for n in self.names)
    labels = tuple(n.removeprefix(LABEL) for n in self.names if n.startswith(LABEL))
    self.classes: tuple[str, ...] = JETCLASS if set(labels) == set(JETCLASS) else labels

  def to_read(self, layout: Layout, classes: Sequence[str]) -> list[str]:
    """What to read of the file for these columns, by the file's names."""
    stored = [BRANCHES.get(n, n) for n in (*layout.particle, *layout.event)]
    number = [EVENT_NUMBER] if EVENT_NUMBER in self.names else []
    wanted = [*self.p4_names, *stored, *(f"{LABEL}{c}" for c in classes), *number]
    return list(dict.fromkeys(self.own[name] for name in wanted))

  def to_chunk(self, arrays: ak.Array, layout: Layout, classes: Sequence[str], start: int) -> Chunk:
    """Awkward records with those branches -> a chunk whose first entry is number `start`.

    Without `classes` no label is read, and all are -1. Branch types may be bool, integer or float.
    Raises: DataError for a branch that is not numbers.
    """
    of_layout = [BRANCHES.get(name, name) for name in layout.particle]
    counts, particles, faults = self.particle_columns(
      arrays, dict.fromkeys((*self.p4_names, *of_layout))
    )

    def per_event(branch: str) -> np.ndarray:
      return self.per_event(arrays, branch)

    momenta = [particles[branch] for branch in self.p4_names]
    for branch, values in zip(self.p4_names, momenta, strict=True):
      for reason, bad in impossible(branch, values).items():
        owners = np.repeat(np.arange(len(counts)), counts)[bad]
        faults.append(Fault(reason, branch, np.isin(np.arange(len(counts)), owners)))
    features = np.empty((len(momenta[0]), len(layout.particle)), np.float32)
    for i, branch in enumerate(of_layout):
      features[:, i] = particles[branch]
    values = np.empty((len(counts), len(layout.event)), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
      for i, name in enumerate(layout.event):
        values[:, i] = per_event(BRANCHES.get(name, name))
    label = np.full(len(counts), -1, np.int32)
    if classes:
      flags = np.stack([per_event(f"{LABEL}{c}") for c in classes], axis=1).astype(np.float64)
      known = ((flags == 0) | (flags == 1)).all(axis=1) & (flags.sum(axis=1) == 1)
      label = np.where(known, flags.argmax(axis=1), -1).astype(np.int32)
    entry = np.arange(start, start + len(counts), dtype=np.int32)
    number = None
    if EVENT_NUMBER in self.names:
      number = per_event(EVENT_NUMBER).astype(np.int64)
    return Chunk(
      Events(
        counts,
        four_momenta(self.p4_names, momenta),
        features,
        values,
        label,
        entry,
      ),
      number,
      tuple(faults),
    )
