"""Section of the frozen embedding: probes and a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.evals.metrics import Measurement
from jetfm.evals.probes import PROBES, probe_summary
from jetfm.evals.sections.jets import Section

FEWEST = 4
"""Jets below which there is no map."""


def embedding_section(
  train: np.ndarray,
  train_label: np.ndarray,
  test: np.ndarray,
  test_label: np.ndarray,
  classes: Sequence[str],
  train_weight: np.ndarray,
  test_weight: np.ndarray,
  *,
  baseline: tuple[np.ndarray, np.ndarray] | None = None,
  probes: Sequence[str] = PROBES,
  map_jets: int = 0,
  seed: int = 0,
) -> Section:
  """Probes trained on embeddings of training jets, and a map of `map_jets` test jets (0: none).

  Shapes: train (B, D), test (B', D), labels and weights (B,) and (B',); `baseline` holds the
  embeddings of the same jets by an untrained encoder. Jets without a label do not count.
  """
  of_train, of_test = train_label >= 0, test_label >= 0
  section = Section({}, {"training jets": int(of_train.sum()), "dimensions": int(train.shape[1])})
  found = np.unique(train_label[of_train])
  if len(found) < 2 or not of_test.any():
    reason = "a probe needs labelled test jets and two classes to train on"
    section.metrics.update({name: Measurement(None, reason=reason) for name in probes})
  else:
    some = None if baseline is None else (baseline[0][of_train], baseline[1][of_test])
    section.metrics.update(
      probe_summary(
        train[of_train],
        train_label[of_train],
        test[of_test],
        test_label[of_test],
        len(classes),
        train_weight[of_train],
        test_weight[of_test],
        probes=probes,
        baseline=some,
        seed=seed,
      )
    )
  rows = np.flatnonzero(of_test)
  if min(map_jets, len(rows)) >= FEWEST:
    from jetfm.evals import plots

    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(rows, min(map_jets, len(rows)), replace=False))
    positions = plots.embedding_map(test[rows], seed=seed)
    figure = plots.embedding_figure(positions, test_label[rows], classes)
    section.figures.append(("embedding", "", figure))
  return section
