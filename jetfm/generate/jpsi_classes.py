"""The decay chains that are classes: the 100 most frequent ones, with how often they were found.

`jpsi_classes.csv`, next to this file, was written by `launch.generate chains`. Names of chains are
the contract, not their numbers.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import io
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from jetfm.decay_chains import final_state
from jetfm.generate.jpsi_angles import PolarisedJpsi
from jetfm.generate.jpsi_chains import chain_code, chain_text
from jetfm.generate.root_files import OutputError

COLUMNS = ("chain", "count", "final_state")
_ALL = "all"  # the row of all decays, whatever their chain


@dataclass(frozen=True)
class ChainList:
  """Chains that are classes; a class number is a place in `names`."""

  names: tuple[str, ...]

  def find(self, codes: np.ndarray) -> np.ndarray:
    """(n,) codes of chains -> (n,) class numbers, -1 for chains that are no class."""
    order, known = self._sorted
    if not len(known):
      return np.full(len(codes), -1)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[place] == codes, order[place], -1)

  @functools.cached_property
  def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
    codes = np.array([chain_code(name) for name in self.names], np.uint64)
    order = np.argsort(codes)
    return order, codes[order]


def count_chains(seed: int, number: int, events: int) -> Counter[str]:
  """How often each chain comes in at least `events` events.

  Args:
    seed: seed of all samples.
    number: of this sample.
  """
  source = PolarisedJpsi(np.random.SeedSequence([seed, number]))
  texts: dict[int, str] = {}
  counts: Counter[int] = Counter()
  while counts.total() < events:
    decays, codes = source.next_decays()
    found, first, times = np.unique(codes, return_index=True, return_counts=True)
    for code, place, n in zip(found.tolist(), first.tolist(), times.tolist(), strict=True):
      if code not in texts:
        texts[code] = chain_text(decays, place)
      counts[code] += n
  return Counter({texts[code]: n for code, n in counts.items()})


def write_chains(path: pathlib.Path, counts: Mapping[str, int], classes: int) -> None:
  """Writes the `classes` most frequent chains, and as the last row the number of all events."""
  with path.open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    # Equal numbers in the order of names, so that the list is the same on every machine.
    for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:classes]:
      writer.writerow((name, n, final_state(name)))
    writer.writerow((_ALL, sum(counts.values()), ""))


def read_chains(path: pathlib.Path | None = None) -> dict[str, int]:
  """Chains and how often they were found, the most frequent first; without `path` the 100 classes.

  Raises: OutputError for a file that is no such list.
  """
  counts = _read(path)
  counts.pop(_ALL, None)
  return counts


def share_of_chains(path: pathlib.Path | None = None) -> float | None:
  """Share of all decays that the chains of such a list hold; None where it does not say.

  Raises: OutputError as `read_chains` does.
  """
  counts = _read(path)
  total = counts.pop(_ALL, 0)
  return sum(counts.values()) / total if total else None


def _read(path: pathlib.Path | None) -> dict[str, int]:
  where = importlib.resources.files(__package__).joinpath("jpsi_classes.csv")
  try:
    text = where.read_text() if path is None else path.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    counts = {row["chain"]: int(row["count"]) for row in rows}
    _check(name for name in counts if name != _ALL)
  except (OSError, KeyError, TypeError, ValueError) as error:
    raise OutputError(
      f"'{path}' is no list of decay chains ({error}); expected columns {', '.join(COLUMNS)}, as "
      "python -m launch.generate chains writes them"
    ) from None
  return counts


def _check(names: Iterable[str]) -> None:
  codes = [int(chain_code(name)) for name in names]
  if not codes or len(set(codes)) != len(codes):
    raise ValueError("no chain, or one of them twice")
