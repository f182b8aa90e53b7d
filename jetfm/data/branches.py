"""Branches of the layouts of jets and of e+e- events, and files that call them otherwise."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from jetfm.data.errors import DataError
from jetfm.data.jet_schema import BRANCHES, INPUT_SETS, SPECTATORS, TARGETS
from jetfm.data.kinds import EVENTS, JETS, Kind
from jetfm.data.sources import missing
from jetfm.names import nearest

CARTESIAN = ("part_px", "part_py", "part_pz")
POLAR = ("part_pt", "part_eta", "part_phi")
ENERGY = ("part_energy", "part_mass")
EVENT_NUMBER = "event_number"
TREE = "tree"
"""Tree of a ROOT file: among the branches, it says which one where it has another name."""
LABEL = "label_"
CHAIN = "chain"
"""Class number of an event: a place in the names of decay chains that its file keeps."""

_COLUMNS = [f.name for f in (*INPUT_SETS["full"], *TARGETS) if not f.derived]
LAYOUT = (
  *CARTESIAN,
  *POLAR,
  *ENERGY,
  *(BRANCHES.get(name, name) for name in (*_COLUMNS, *SPECTATORS)),
  EVENT_NUMBER,
)
"""Every branch of jets that ingest knows, beside label_<class>."""

EVENT_LAYOUT = (
  *(name for inputs in EVENTS.input_sets for name in EVENTS.stored(inputs)),
  CHAIN,
  EVENT_NUMBER,
)
"""Every branch of e+e- events that ingest knows."""


def check_branches(branches: Mapping[str, str], kind: Kind = JETS) -> None:
  """Raises DataError for a name that is neither of the layout's nor `TREE`."""
  layout, more = (LAYOUT, f" and {LABEL}CLASS") if kind is JETS else (EVENT_LAYOUT, "")
  known = (*layout, TREE)
  for name in branches:
    if name not in known and not (kind is JETS and name.startswith(LABEL)):
      raise DataError(
        f"branches: '{name}={branches[name]}' names no branch of the layout; the nearest is "
        f"'{nearest(name, known)}' of {list(known)}{more}"
      )


def in_layout(
  path: pathlib.Path, where: str, found: Sequence[str], branches: Mapping[str, str]
) -> dict[str, str]:
  """Names of the layout -> names in the file, of all its branches.

  Args:
    found: what the file has.
    branches: what it calls some of them: {'part_px': 'pf_px'}.

  Raises: DataError for one that it does not have.
  """
  for name, own in branches.items():
    if own not in found:
      raise missing(path, where, own, found, f"--config.branches={name}={own}")
  others = {name: name for name in found if name not in branches.values()}
  return others | dict(branches)


def momentum_branches(
  path: pathlib.Path, where: str, names: Sequence[str]
) -> tuple[str, str, str, str]:
  """The branches that four-momenta are made of: the energy or mass, and three of the momentum.

  Raises: DataError for the first that is missing.
  """

  def there(wanted: Sequence[str]) -> int:
    return sum(name in names for name in wanted)

  # Cartesian components win where a file has both; else what the file seems to mean.
  vector = POLAR if there(POLAR) > there(CARTESIAN) else CARTESIAN
  energy = ENERGY[1] if ENERGY[1] in names and ENERGY[0] not in names else ENERGY[0]
  for name in (energy, *vector):
    if name not in names:
      other = {"part_energy": "part_mass"}.get(name, "part_pt, part_eta and part_phi")
      raise missing(
        path,
        where,
        name,
        names,
        "every input set",
        f"If it has another name: --config.branches={name}=NAME; {other} will do too.",
      )
  return energy, *vector
