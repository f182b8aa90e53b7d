"""Probes: how much of the classes a frozen embedding already holds.

A probe is a small classifier trained on embeddings (B, D) of one sample and evaluated on another.
All are seeded. Memory: k-NN holds the training embeddings and 10 MB of distances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.evals.metrics.classification import accuracy, accuracy_error, classification_chance
from jetfm.evals.metrics.measurement import Measurement
from jetfm.evals.metrics.weighting import counted

NEIGHBOURS = 20
HIDDEN = 128
EPOCHS = 100
PROBES = ("knn", "mlp1", "mlp2", "mlp3")


def knn_probe(
  train: np.ndarray,
  train_label: np.ndarray,
  test: np.ndarray,
  num_classes: int,
  train_weight: np.ndarray | None = None,
  *,
  k: int = NEIGHBOURS,
) -> np.ndarray:
  """Class shares among the k nearest training events, by their weight.

  Shapes: train (B, D), train_label (B,), test (B', D) -> (B', num_classes). Embeddings are z-scored
  with the training sample.
  """
  from sklearn.neighbors import NearestNeighbors

  train_weight, train, train_label = _checked(train_weight, train, train_label, test)
  train, test = _standardised(train, test, train_weight)
  nearest = NearestNeighbors(n_neighbors=min(k, len(train))).fit(train)
  rows = nearest.kneighbors(test, return_distance=False)
  votes = np.zeros((len(test), num_classes))
  np.add.at(votes, (np.arange(len(test))[:, None], train_label[rows]), train_weight[rows])
  return votes / votes.sum(axis=1, keepdims=True)


def mlp_probe(
  train: np.ndarray,
  train_label: np.ndarray,
  test: np.ndarray,
  num_classes: int,
  train_weight: np.ndarray | None = None,
  *,
  layers: int = 1,
  hidden: int = HIDDEN,
  seed: int = 0,
) -> np.ndarray:
  """Class probabilities of logistic regression (one layer) or of an MLP (two or three layers).

  Shapes: train (B, D), train_label (B,), test (B', D) -> (B', num_classes); a class that training
  lacks gets 0. The MLP stops early on a tenth of the training sample.
  Raises: ValueError for other numbers of layers, or a single class in training.
  """
  from threadpoolctl import threadpool_limits

  if layers not in (1, 2, 3):
    raise ValueError(f"a probe has 1, 2 or 3 layers, got {layers}")
  train_weight, train, train_label = _checked(train_weight, train, train_label, test)
  if len(np.unique(train_label)) < 2:
    raise ValueError("a probe needs at least two classes to train on")
  train, test = _standardised(train, test, train_weight)
  if layers == 1:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, random_state=seed)
  else:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
      (hidden,) * (layers - 1),
      batch_size=min(200, max(16, len(train) // 50)),
      early_stopping=True,
      n_iter_no_change=10,
      max_iter=EPOCHS,
      random_state=seed,
    )
  # Matrices are small: threads would wait for each other.
  with threadpool_limits(1):
    model.fit(train, train_label, sample_weight=train_weight)
  out = np.zeros((len(test), num_classes))
  out[:, model.classes_] = model.predict_proba(test)
  return out


def probe_summary(
  train: np.ndarray,
  train_label: np.ndarray,
  test: np.ndarray,
  test_label: np.ndarray,
  num_classes: int,
  train_weight: np.ndarray | None = None,
  test_weight: np.ndarray | None = None,
  *,
  probes: Sequence[str] = PROBES,
  baseline: tuple[np.ndarray, np.ndarray] | None = None,
  baseline_kind: str = "random initialisation",
  seed: int = 0,
) -> dict[str, Measurement]:
  """Accuracies of probes on the test sample, beside chance and a baseline embedding.

  Shapes: embeddings (B, D) and (B', D), labels (B,) and (B',). `baseline` holds the (train, test)
  embeddings of the same events by an untrained encoder.
  Raises: ValueError for an unknown probe.
  """
  chance = classification_chance(test_label, num_classes, test_weight)

  def probabilities(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if name == "knn":
      return knn_probe(x, train_label, y, num_classes, train_weight)
    layers = int(name.removeprefix("mlp"))
    return mlp_probe(x, train_label, y, num_classes, train_weight, layers=layers, seed=seed)

  out = {}
  for name in probes:
    if name not in PROBES:
      raise ValueError(f"no probe '{name}'; there are {PROBES}")
    p = probabilities(name, train, test)
    about: dict = {"reference": chance["accuracy"], "reference_kind": "chance"}
    if baseline is not None:
      trivial = probabilities(name, *baseline)
      about["baseline"] = accuracy(trivial, test_label, test_weight)
      about["baseline_kind"] = baseline_kind
    error = accuracy_error(p, test_label, test_weight)
    out[name] = Measurement(accuracy(p, test_label, test_weight), error, **about)
  return out


def _checked(weight, train, label, test):
  train, test = np.asarray(train), np.asarray(test)
  if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
    raise ValueError(f"embeddings have shapes {train.shape} and {test.shape}, expected (B, D)")
  if not (np.isfinite(train).all() and np.isfinite(test).all()):
    raise ValueError("embeddings hold NaN or infinity")
  return counted(weight, train, label)


def _standardised(train, test, weight):
  mean = np.average(train, axis=0, weights=weight)
  std = np.sqrt(np.average((train - mean) ** 2, axis=0, weights=weight))
  std = np.where(std > 0, std, 1.0)
  return (train - mean) / std, (test - mean) / std
