"""Decay chains: what decayed into what, written so that equal chains have equal texts.

    J/psi -> pi0 pi0 (h_1 -> pi0 (rho0 -> pi+ pi-))

Names are EvtGen's. Products are sorted, stable ones first; charge conjugates are different chains.
Leaves are e, mu, pi, K+-, K_L0, p, n, gamma and pi0, which decays in the detector. A K0 is written
as the K_S0 or K_L0 that it becomes. Of a hadronised string the primary hadrons are the products.

A chain's code is a 64-bit number made from the codes of its products in any order,

    code(X -> a b ...) = mix(mix(id X) + sum_i mix(code(i) + 1)),

so that the chains of many decays are told apart by array operations, without their texts.
"""

from __future__ import annotations

import functools

import numpy as np

from jetfm.decay_chains import ARROW, Tree, parse_chain
from jetfm.generate.jpsi_decays import Decays

LEAVES = (11, 13, 22, 111, 130, 211, 321, 2112, 2212)
"""|PDG ids| of which no decay is looked at."""
_K0 = 311
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def chain_codes(decays: Decays) -> np.ndarray:
  """(n,) uint64 codes of the chains."""
  parent, level = chain_levels(decays)
  own = _mixed_id(decays.records.pid)
  products = np.zeros(len(own), np.uint64)
  for depth in range(int(level.max(initial=0)), 0, -1):
    index = np.flatnonzero(level == depth)
    np.add.at(products, parent[index], _mix(_mix(own[index] + products[index]) + np.uint64(1)))
  return _mix(own[decays.mother] + products[decays.mother])


def chain_levels(decays: Decays) -> tuple[np.ndarray, np.ndarray]:
  """Which entries are in a chain, and where.

  Returns: (N,) place of the entry that each one is a product of; (N,) depth below the J/psi, which
    has 0; -1 for what is in no chain.
  """
  records = decays.records
  size = np.abs(records.pid)
  seen_through = _is_parton(size) | (size == _K0)
  parent = records.mother1.copy()
  while (inside := (parent >= 0) & seen_through[parent]).any():
    parent[inside] = records.mother1[parent[inside]]
  level = np.full(len(size), -1)
  level[decays.mother] = 0
  open_ended = ~np.isin(size, LEAVES)
  waiting = np.flatnonzero((decays.decay >= 0) & ~seen_through & (level < 0))
  depth = 0
  while True:
    mothers = parent[waiting]
    below = (level[mothers] == depth) & open_ended[mothers]
    if not below.any():
      return parent, level
    depth += 1
    level[waiting[below]] = depth
    waiting = waiting[~below]


def chain_text(decays: Decays, number: int) -> str:
  """The chain of one decay in words."""
  parent, level = chain_levels(decays)
  members = np.flatnonzero((decays.decay == number) & (level > 0))
  products: dict[int, list[int]] = {}
  for index in members.tolist():
    products.setdefault(int(parent[index]), []).append(index)

  def text(index: int) -> str:
    name = name_of(int(decays.records.pid[index]))
    if index not in products:
      return name
    return f"({name} {ARROW} {' '.join(sorted(map(text, products[index]), key=_order))})"

  return text(int(decays.mother[number]))[1:-1]


def chain_code(text: str) -> np.uint64:
  """The code of a chain from its text, in whatever order the products are.

  Raises: ValueError for a text that is no chain.
  """
  return _code_of(parse_chain(text))


def _code_of(tree: Tree) -> np.uint64:
  name, products = (tree, []) if isinstance(tree, str) else tree
  total = _mixed_id(np.array([id_of(name)]))
  for product in products:
    total = total + _mix(np.array([_code_of(product)]) + np.uint64(1))
  return _mix(total)[0]


@functools.cache
def name_of(pid: int) -> str:
  """EvtGen's name of a particle; 'pdg<id>' where it has none."""
  from particle import Particle

  name = Particle.from_pdgid(pid).evtgen_name
  # Brackets are part of a chain's own syntax.
  return f"pdg{pid}" if name is None or set(name) & set("() ") else name


@functools.cache
def id_of(name: str) -> int:
  """PDG id of a particle with EvtGen's name.

  Raises: ValueError for a name that is none.
  """
  from particle import Particle

  if name.startswith("pdg"):
    return int(name.removeprefix("pdg"))
  try:
    return int(Particle.from_evtgen_name(name).pdgid)
  except Exception as error:  # several kinds, none of them documented
    raise ValueError(f"'{name}' is no particle of EvtGen's: {error}") from None


def _order(text: str) -> tuple[bool, str]:
  return text.startswith("("), text


def _is_parton(size: np.ndarray) -> np.ndarray:
  """Quarks, gluons, diquarks and Pythia's own codes, by |PDG id|."""
  diquark = (size > 1000) & (size < 10_000) & (size // 10 % 10 == 0)
  return (size <= 8) | (size == 21) | diquark | ((size > 80) & (size < 100))


def _mixed_id(pid: np.ndarray) -> np.ndarray:
  return _mix(pid.astype(np.int64).view(np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
  """(n,) uint64 -> (n,) uint64 that look random: the output function of SplitMix64."""
  with np.errstate(over="ignore"):
    z = x * _MIX[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX[1]
    z = (z ^ (z >> np.uint64(27))) * _MIX[2]
  return z ^ (z >> np.uint64(31))
