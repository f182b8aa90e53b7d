"""Maps of embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jetfm.evals.metrics.summaries import MANY_CLASSES
from jetfm.evals.plots.style import COLOURS, MARKERS, new_figure, style

ITERATIONS = 500
MOST = 8
"""Classes that get a colour where there are many."""
OTHERS: dict[str, Any] = {"color": "#cccccc", "marker": ".", "linewidth": 0}


def embedding_map(embedding: np.ndarray, *, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
  """t-SNE of embeddings (B, D) -> (B, 2), seeded. 1,000 events take 2 s, 5,000 half a minute.

  Raises: ValueError for fewer than four events or for values that are not finite.
  Source: L. van der Maaten, G. Hinton, JMLR 9 (2008) 2579.
  """
  from sklearn.manifold import TSNE
  from threadpoolctl import threadpool_limits

  embedding = np.asarray(embedding, np.float64)
  if len(embedding) < 4 or not np.isfinite(embedding).all():
    raise ValueError(f"a map needs four or more finite embeddings, got {embedding.shape}")
  std = embedding.std(axis=0)
  scaled = (embedding - embedding.mean(axis=0)) / np.where(std > 0, std, 1)
  perplexity = min(perplexity, (len(embedding) - 1) / 3)
  tsne = TSNE(init="pca", perplexity=perplexity, max_iter=ITERATIONS, random_state=seed)
  # With more threads, one waits for the other where there are few events or few free cores, and the
  # positions depend on how many there are.
  with threadpool_limits(1):
    return tsne.fit_transform(scaled)


def _look(c: int) -> dict[str, Any]:
  look = {"color": COLOURS[c % len(COLOURS)], "marker": MARKERS[c % len(MARKERS)]}
  return look | {"edgecolor": "#333333", "linewidth": 0.3}


def embedding_figure(positions: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> Figure:
  """Scatter of positions (B, 2), colour and marker by class, label (B,).

  Of more than `MANY_CLASSES` the `MOST` most frequent ones are coloured, and the others grey.
  """
  frequent = np.argsort(-np.bincount(label, minlength=len(classes)), kind="stable")
  shown = sorted(frequent[:MOST].tolist()) if len(classes) > MANY_CLASSES else range(len(classes))
  with style():
    many = len(classes) > MANY_CLASSES
    figure = new_figure(7.6, 8.6 if many else 5.8)
    ax = figure.subplots()
    others = np.flatnonzero(~np.isin(label, list(shown)))
    ax.scatter(positions[others, 0], positions[others, 1], s=12, **OTHERS)
    # All classes are drawn interleaved: none lies wholly on top of the others.
    order = np.random.default_rng(0).permutation(len(label))
    for part in np.array_split(order, 8):
      for i, c in enumerate(shown):
        rows = part[label[part] == c]
        x, y = positions[rows].T
        ax.scatter(x, y, s=22, alpha=0.85, **_look(i))
    for i, c in enumerate(shown):
      if (label == c).any():
        ax.scatter([], [], s=50, label=classes[c], **_look(i))
    if len(others):
      ax.scatter([], [], s=20, label="others", **OTHERS)
    ax.set(xticks=[], yticks=[])
    ax.minorticks_off()
    ax.set_xlabel("t-SNE 1")
    ax.set_ylabel("t-SNE 2")
    # Names of decays are long.
    figure.legend(loc="outside lower center" if many else "outside right upper")
    return figure
