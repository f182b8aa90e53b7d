"""Files of jets: which ones, and what is in them."""

from __future__ import annotations

import importlib.metadata
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jetfm.generate.generator import EVENTS_PER_CHUNK, generate_jets, take
from jetfm.generate.processes import COMMON_SETTINGS, PROCESSES
from jetfm.generate.table import Table

# To be raised whenever a change here gives other jets for the same seed.
REVISION = 1


@dataclass(frozen=True)
class JetFile:
  """One file to be made.

  Attributes:
    path: where it goes.
    class_name: class of its jets.
    number: its number within the class.
    jets: how many jets it holds.
    seed: seed of the whole data set.
  """

  path: pathlib.Path
  class_name: str
  number: int
  jets: int
  seed: int

  @property
  def count(self) -> int:
    return self.jets

  def tables(self) -> Iterator[Table]:
    """Its jets, chunk by chunk."""
    return take(generate_jets(self.class_name, self.seed, self.number), self.jets)

  def provenance(self) -> dict[str, Any]:
    """Everything that its content depends on."""
    process = PROCESSES[self.class_name]
    return {
      "class": self.class_name,
      "file_number": self.number,
      "jets": self.jets,
      "seed": self.seed,
      "revision": REVISION,
      "events_per_chunk": EVENTS_PER_CHUNK,
      "settings": [list(COMMON_SETTINGS), *map(list, process.settings)],
      "pythia8mc": importlib.metadata.version("pythia8mc"),
      "fastjet": importlib.metadata.version("fastjet"),
    }


def plan_files(
  out: pathlib.Path, classes: Sequence[str], jets_per_class: int, jets_per_file: int, seed: int
) -> list[JetFile]:
  """The files of a data set: `jets_per_class` jets of each class, the last file taking the rest."""
  files = []
  for name in classes:
    for number, first in enumerate(range(0, jets_per_class, jets_per_file)):
      path = out / f"{PROCESSES[name].prefix}_{number:03d}.root"
      files.append(JetFile(path, name, number, min(jets_per_file, jets_per_class - first), seed))
  return files
