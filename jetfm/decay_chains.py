"""The texts of decay chains: what `jetfm.generate` writes as names of classes, read again.

J/psi -> pi0 pi0 (h_1 -> pi0 (rho0 -> pi+ pi-))
"""

from __future__ import annotations

from collections.abc import Sequence

ARROW = "->"
LEPTONS_AND_PHOTONS = frozenset({"e+", "e-", "mu+", "mu-", "gamma"})
Tree = str | tuple[str, list]


def final_state(text: str) -> str:
  """The leaves of a chain, sorted: 'J/psi -> pi0 (rho0 -> pi+ pi-)' gives 'pi+ pi- pi0'."""

  def leaves(tree: str | tuple) -> list[str]:
    return [tree] if isinstance(tree, str) else [leaf for part in tree[1] for leaf in leaves(part)]

  return " ".join(sorted(leaves(parse_chain(text))))


def parse_chain(text: str) -> tuple[str, list]:
  """'A -> b (C -> d e)' -> ('A', ['b', ('C', ['d', 'e'])]).

  Raises: ValueError for a text that is no chain.
  """
  tokens = f"({text})".replace("(", " ( ").replace(")", " ) ").split()

  def read(at: int) -> tuple[tuple[str, list], int]:
    if tokens[at : at + 1] != ["("] or tokens[at + 2 : at + 3] != [ARROW]:
      raise ValueError(f"'{text}' is no decay chain such as 'J/psi -> pi0 (rho0 -> pi+ pi-)'")
    name, products, at = tokens[at + 1], [], at + 3
    while at < len(tokens) and tokens[at] != ")":
      product: Tree = tokens[at]
      if product == "(":
        product, at = read(at)
      else:
        at += 1
      products.append(product)
    if at == len(tokens) or not products:
      raise ValueError(f"'{text}' is no decay chain: a bracket or a product is missing")
    return (name, products), at + 1

  tree, end = read(0)
  if end != len(tokens):
    raise ValueError(f"'{text}' is no decay chain: there is one bracket too many")
  return tree


def final_states(names: Sequence[str]) -> tuple[str, ...] | None:
  """The final state of each name; None when one of the names is no decay chain."""
  try:
    return tuple(map(final_state, names))
  except ValueError:
    return None


def is_leptonic(state: str) -> bool:
  """Whether a final state holds leptons and photons only, and a lepton among them."""
  particles = set(state.split())
  return particles <= LEPTONS_AND_PHOTONS and particles != {"gamma"}
