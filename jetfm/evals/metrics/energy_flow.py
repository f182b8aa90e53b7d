"""Energy flow polynomials, the jet features of the Fréchet and kernel physics distances.

      EFP_G = sum_{i_1..i_n} pT_{i_1} ... pT_{i_n}  prod_{(k, l) in G} dR_{i_k i_l}

for a multigraph G without loops. Source: arXiv:1712.07124, eq. 1.3, with beta = 1 and the hadronic
measure without normalisation, as arXiv:2211.10295 uses them.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

Graph = tuple[tuple[int, int], ...]

CHUNK_ELEMENTS = 200_000
"""Entries of a dR matrix held at a time: 1.6 MB, which stays in the processor's cache."""


@functools.cache
def connected_graphs(num_edges: int) -> tuple[Graph, ...]:
  """All connected loopless multigraphs with this many edges, one of each isomorphism class.

  There are 1, 2, 5, 12, 33 of them with 1 to 5 edges (OEIS A076864).
  """
  if num_edges == 1:
    return (((0, 1),),)
  found: set[Graph] = set()
  for graph in connected_graphs(num_edges - 1):
    size = 1 + max(max(edge) for edge in graph)
    pairs = itertools.combinations(range(size + 1), 2)
    found.update(_canonical((*graph, pair)) for pair in pairs if pair[0] < size)
  return tuple(sorted(found))


def _canonical(graph: Graph) -> Graph:
  """The smallest of all relabellings."""
  size = 1 + max(max(edge) for edge in graph)

  def relabelled(order):
    return tuple(sorted((min(order[a], order[b]), max(order[a], order[b])) for a, b in graph))

  return min(relabelled(order) for order in itertools.permutations(range(size)))


def _multisets(max_edges: int) -> list[tuple[Graph, ...]]:
  """All graphs of up to max_edges edges, as multisets of connected ones; the empty one first."""
  connected = [g for d in range(1, max_edges + 1) for g in connected_graphs(d)]
  chosen: list[tuple[Graph, ...]] = [()]
  for count in range(1, max_edges + 1):
    for combination in itertools.combinations_with_replacement(connected, count):
      if sum(map(len, combination)) <= max_edges:
        chosen.append(combination)
  return chosen


def energy_flow_polynomials(
  pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, mask: np.ndarray, max_edges: int = 4
) -> np.ndarray:
  """All polynomials of up to `max_edges` edges: (B, N) each -> (B, 36) for four edges.

  The first is sum pT (no edge). Padded slots count as pT = 0. dR = hypot(deta, dphi) with dphi
  wrapped. Time grows as N^3 per jet; memory is a few times `CHUNK_ELEMENTS` and the result.
  """
  mask = np.asarray(mask, bool)
  packed = np.argsort(~mask, axis=1, kind="stable")
  mask, pt, eta, phi = (np.take_along_axis(np.asarray(a), packed, 1) for a in (mask, pt, eta, phi))
  pt, eta, phi = (np.where(mask, a.astype(np.float64), 0.0) for a in (pt, eta, phi))
  number = mask.sum(axis=1)
  order = np.argsort(-number, kind="stable")
  out = np.empty((len(pt), len(_multisets(max_edges))))
  start = 0
  while start < len(order):
    # Jets of similar multiplicity share a chunk, so that little of it is padding; the first is the
    # longest, which all are padded to.
    slots = max(int(number[order[start]]), 1)
    step = max(1, CHUNK_ELEMENTS // slots**2)
    rows = order[start : start + step]
    out[rows] = _chunk(pt[rows, :slots], eta[rows, :slots], phi[rows, :slots], max_edges)
    start += step
  return out


def _chunk(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, max_edges: int) -> np.ndarray:
  def apart(x):
    return x[:, :, None] - x[:, None, :]

  dphi = np.remainder(apart(phi) + np.pi, 2 * np.pi) - np.pi
  powers = [np.hypot(apart(eta), dphi)]
  while len(powers) < max_edges:
    powers.append(powers[-1] * powers[0])
  graphs = [g for d in range(1, max_edges + 1) for g in connected_graphs(d)]
  value = {graph: _connected(graph, pt, powers) for graph in graphs}
  columns = [
    functools.reduce(np.multiply, (value[g] for g in graphs)) if graphs else pt.sum(axis=1)
    for graphs in _multisets(max_edges)
  ]
  return np.stack(columns, axis=1)


def _connected(graph: Graph, pt: np.ndarray, powers: list[np.ndarray]) -> np.ndarray:
  """Sums out one vertex after the other, the one with the fewest neighbours first.

  Graphs of up to five edges then never need more than matrix products: an eliminated vertex has one
  neighbour (its sum multiplies that neighbour's factor) or two (it becomes an edge of them).
  """
  size = 1 + max(max(edge) for edge in graph)
  vertex = dict.fromkeys(range(size), pt)
  edges = {edge: powers[graph.count(edge) - 1] for edge in graph}
  while len(vertex) > 1:
    neighbours = {v: [a + b - v for a, b in edges if v in (a, b)] for v in vertex}
    v = min(vertex, key=lambda u: len(neighbours[u]))
    factor = vertex.pop(v)
    around = sorted(neighbours[v])
    # An edge (k, l), k < l, is a matrix [i_k, i_l]; here they are all turned to [neighbour, v].
    links = [edges.pop((u, v)) if u < v else edges.pop((v, u)).swapaxes(1, 2) for u in around]
    if len(links) == 1:
      vertex[around[0]] = vertex[around[0]] * (links[0] @ factor[..., None])[..., 0]
    elif len(links) == 2:
      pair = (around[0], around[1])
      joined = (links[0] * factor[:, None, :]) @ links[1].swapaxes(1, 2)
      edges[pair] = edges[pair] * joined if pair in edges else joined
    else:
      raise ValueError(f"graph {graph} needs sums over more than three particles at a time")
  (last,) = vertex.values()
  return last.sum(axis=1)
