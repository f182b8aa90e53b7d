"""How a J/psi decays: the channels that are given to Pythia.

Branching fractions are those of DECAY_BELLE2.DEC, the table of inclusive decays that the package
decaylanguage carries, with these changes, each of which keeps the sum:

- channels without branching fraction are dropped;
- Pythia keeps eight products of a channel and silently forgets the others: the fraction of a longer
  channel goes to g g g, which makes such final states too;
- where a channel lacks its charge conjugate, the two share its fraction;
- channels with an h_1(1170) or with several pi0 that the table does not have (ADDED) are taken from
  g g g. Their fractions are assigned, not measured.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections import defaultdict
from dataclasses import dataclass

MOTHER = 443
MAX_PRODUCTS = 8
_TABLE = "DECAY_BELLE2.DEC"
_PARTONS = {"g": 21, "rndmflav": 82, "anti-rndmflav": -82}
_THREE_GLUONS = (21, 21, 21)
ADDED = (
  ((10223, 111, 111), 0.006),
  ((211, -211, 111, 111, 111), 0.015),
  ((211, -211, 111, 111), 0.005),
)
"""(PDG ids of the products, branching fraction)."""

# Pythia's ways to decay into partons: strings of gluons; a quark pair whose hadrons become direct
# products. Everything else is spread evenly over phase space.
_STRINGS, _QUARK_PAIR, _PHASE_SPACE = 92, 43, 0


@dataclass(frozen=True)
class Channel:
  """A way to decay: PDG ids of the products, sorted, and the branching fraction."""

  products: tuple[int, ...]
  fraction: float

  @property
  def pythia_mode(self) -> int:
    """`meMode` of Pythia's decay tables."""
    if 82 in self.products:
      return _QUARK_PAIR
    return _STRINGS if 21 in self.products else _PHASE_SPACE


@functools.cache
def jpsi_channels() -> tuple[Channel, ...]:
  """All channels, the most frequent first; fractions sum to 1."""
  fractions: defaultdict[tuple[int, ...], float] = defaultdict(float)
  published = dict(_published())
  for products, fraction in published.items():
    conjugate = tuple(sorted(map(conjugate_id, products)))
    if len(products) > MAX_PRODUCTS:
      fractions[_THREE_GLUONS] += fraction
    elif conjugate != products and conjugate not in published:
      fractions[products] += fraction / 2
      fractions[conjugate] += fraction / 2
    else:
      fractions[products] += fraction
  for products, fraction in ADDED:
    fractions[tuple(sorted(products))] += fraction
    fractions[_THREE_GLUONS] -= fraction
  total = sum(fractions.values())
  ordered = sorted(fractions.items(), key=lambda item: -item[1])
  return tuple(Channel(products, value / total) for products, value in ordered)


@functools.cache
def _published() -> tuple[tuple[tuple[int, ...], float], ...]:
  """(sorted PDG ids, branching fraction) of the table's channels with a fraction."""
  from decaylanguage import DecFileParser
  from particle import Particle

  whole = importlib.resources.files("decaylanguage.data").joinpath(_TABLE).read_text()
  # The decays of all other particles would take seconds to parse.
  (block,) = re.findall(r"^Decay J/psi$.*?^Enddecay$", whole, re.MULTILINE | re.DOTALL)
  parser = DecFileParser.from_string(f"{block}\nEnd\n")
  parser.parse()
  (decays,) = parser.build_decay_chains("J/psi").values()

  def pdg_id(name: str) -> int:
    return _PARTONS[name] if name in _PARTONS else int(Particle.from_evtgen_name(name).pdgid)

  found: defaultdict[tuple[int, ...], float] = defaultdict(float)
  for decay in decays:
    if decay["bf"] > 0:
      found[tuple(sorted(pdg_id(str(name)) for name in decay["fs"]))] += decay["bf"]
  return tuple(found.items())


def conjugate_id(pdg_id: int) -> int:
  """PDG id of the antiparticle; the particle's own where there is none."""
  from particle import Particle

  if pdg_id in (21, 22):
    return pdg_id
  if abs(pdg_id) == 82:
    return -pdg_id
  return int(Particle.from_pdgid(pdg_id).invert().pdgid)


def pythia_settings(enlarged: dict[tuple[int, ...], float] | None = None) -> list[str]:
  """Lines of Pythia settings that replace its own decays of the J/psi.

  Args:
    enlarged: factors for channels of which a part will be thrown away, by products.
  """
  lines = []
  for number, channel in enumerate(jpsi_channels()):
    command = "addChannel" if number else "oneChannel"
    fraction = channel.fraction * (enlarged or {}).get(channel.products, 1.0)
    # Backwards: Pythia wants the quark before the antiquark, and makes nonsense of the reverse.
    products = " ".join(map(str, reversed(channel.products)))
    lines.append(f"{MOTHER}:{command} = 1 {fraction:.10g} {channel.pythia_mode} {products}")
  return lines
