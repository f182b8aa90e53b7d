"""What pretraining teaches: probes of frozen embeddings, pretrained against random parameters.

  python -m benchmarks.embeddings --checkpoint=RUN/pretrain/best --data=DATASET
      [--real=../shared/real] [--events=10000] [--seeds=3]

Accuracies of 20 nearest neighbours (knn) and of logistic regression (linear) on embeddings of the
encoder, of the same architecture with other random parameters, and on the mean of the standardised
inputs, which is no network at all. On the data set's classes the training split is learnt from and
the test split is asked. On published jets, top_landscape_500.npz (top or QCD) and
quark_gluon_500.npz (quark or gluon) in --real, random halves are, twenty times over; they hold
four-momenta only, so that the checkpoint's input set must be kin4 or kin. The last line printed is
JSON: a list of {"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm import inference
from jetfm.data import DataError, open_dataset
from jetfm.evals.metrics.classification import accuracy
from jetfm.evals.probes import knn_probe, mlp_probe
from jetfm.inference import Predictor, untrained
from jetfm.nn import masked_mean
from jetfm.schema import Schema
from jetfm.train import CheckpointError
from jetfm.typing import Batch

PROBES: dict[str, Callable[..., np.ndarray]] = {"knn": knn_probe, "linear": mlp_probe}
REAL = {"top": "top_landscape_500.npz", "quark_gluon": "quark_gluon_500.npz"}
HALVES = 20
BATCH_SIZE = 512


@dataclasses.dataclass(frozen=True)
class Sample:
  """Labelled jets, and how they are divided.

  Attributes:
    label: (n,) of all jets.
    divisions: (training, test) indices of jets.
  """

  name: str
  batches: Sequence[Batch]
  label: np.ndarray
  classes: int
  divisions: Sequence[tuple[np.ndarray, np.ndarray]]


def read_data_set(directory: str, inputs: str, events: int) -> Sample:
  """At most so many jets of the training and of the test split.

  Raises: DataError as `open_dataset` does.
  """
  batches: list[Batch] = []
  sizes = []
  for split in ("train", "test"):
    data = open_dataset(directory, inputs, split, max_events=events)
    loader = data.loader(BATCH_SIZE, shuffle=False, epochs=1)
    new = [batch for groups in loader.iterate() for batch in groups]
    batches += new
    sizes.append(sum(batch.num_events for batch in new))
  weight = np.concatenate([batch.weight for batch in batches])
  rows = np.arange(len(weight))
  train = rows[(rows < sizes[0]) & (weight > 0)]  # the last batches have filler
  test = rows[(rows >= sizes[0]) & (weight > 0)]
  label = np.concatenate([batch.label for batch in batches])
  return Sample("jetclass", batches, label, len(data.schema.classes), [(train, test)])


def read_real(name: str, path: pathlib.Path, schema: Schema) -> Sample:
  """Padded arrays p4 (n, N, 4), num_particles (n,) and label (n,) of two classes, in halves."""
  with np.load(path) as file:
    p4, count, label = file["p4"], file["num_particles"], file["label"]
  mask = np.arange(p4.shape[1]) < count[:, None]
  n = len(p4)
  batch = Batch(
    p4=np.where(mask[..., None], p4, 0).astype(np.float32),
    features=np.zeros((*mask.shape, 0), np.float32),
    present=np.repeat(mask[..., None], len(schema.groups), axis=-1),
    mask=mask,
    label=label.astype(np.int32),
    targets=np.zeros((n, len(schema.stored_targets)), np.float32),
    weight=np.ones(n, np.float32),
    event_id=np.arange(n, dtype=np.int32),
    spectators=np.zeros((n, len(schema.spectators)), np.float32),
  )
  return Sample(name, [batch], label, 2, list(_halves(label)))


def _halves(label: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Random halves with equal shares of the classes."""
  for seed in range(HALVES):
    order = np.random.default_rng(seed).permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    yield order[::2], order[1::2]


def mean_inputs(schema: Schema, batches: Sequence[Batch]) -> np.ndarray:
  """Mean of the standardised features over the particles, (n, F), and their number."""

  @jax.jit
  def of_batch(batch: Batch) -> jax.Array:
    values = schema.values(batch.p4, batch.features, batch.mask)
    columns = [f.forward(values[..., i]) for i, f in enumerate(schema.features)]
    x = jnp.stack(columns, axis=-1)
    return jnp.concatenate(
      [masked_mean(x, batch.mask), batch.mask.sum(axis=-1, keepdims=True)], axis=-1
    )

  return np.concatenate([np.asarray(of_batch(batch)) for batch in batches])


def accuracies(probe: str, x: np.ndarray, sample: Sample) -> np.ndarray:
  """Accuracy of a probe in each division of a sample, of embeddings (n, D)."""
  found = []
  for train, test in sample.divisions:
    p = PROBES[probe](x[train], sample.label[train], x[test], sample.classes)
    found.append(accuracy(p, sample.label[test]))
  return np.array(found)


def measure(predictor: Predictor, samples: Sequence[Sample], seeds: int) -> list[dict[str, Any]]:
  """Prints the table; one row of the result for each probe and sample."""
  random = [untrained(predictor, seed) for seed in range(seeds)]
  rows = []
  print(f"{'sample':<14}{'probe':<8}{'pretrained':>16}{'random':>16}{'inputs':>16}{'chance':>8}")
  for sample in samples:
    trained = predictor.embed(sample.batches)
    fresh = [other.embed(sample.batches) for other in random]
    plain = mean_inputs(predictor.schema, sample.batches)
    asked = sample.label[sample.divisions[0][1]]
    chance = np.bincount(asked).max() / len(asked)
    for probe in PROBES:
      own = accuracies(probe, trained, sample)
      others = np.array([accuracies(probe, x, sample) for x in fresh])
      inputs = accuracies(probe, plain, sample)
      gain = own.mean() - others.mean(axis=1)
      row = _row(f"{probe}_{sample.name}_gain", gain, own, others, inputs, chance)
      rows.append(row)
      detail = row["detail"]
      shown = [detail[name] for name in ("pretrained", "random", "inputs")]
      columns = "".join(f"{f'{100 * mean:.2f} +- {100 * std:.2f}':>16}" for mean, std in shown)
      print(f"{sample.name:<14}{probe:<8}{columns}{100 * chance:>8.1f}", flush=True)
  return rows


def _row(
  name: str,
  gain: np.ndarray,
  own: np.ndarray,
  others: np.ndarray,
  inputs: np.ndarray,
  chance: float,
) -> dict[str, Any]:
  """The gain in points of accuracy; detail holds means and standard deviations."""

  def summary(values: np.ndarray) -> tuple[float, float]:
    return round(float(values.mean()), 4), round(float(values.std()), 4)

  value = 100 * float(gain.mean())
  return {
    "name": name,
    "value": round(value, 2),
    "unit": "points of accuracy over random parameters",
    "target": "> 0",
    "holds": value > 0,
    "detail": {
      "pretrained": summary(own),
      "random": summary(others.mean(axis=1)),
      "inputs": summary(inputs),
      "chance": round(float(chance), 4),
      "gain_by_seed": [round(100 * float(x), 2) for x in gain],
      "divisions": len(own),
    },
  }


def main(argv: Sequence[str] | None = None) -> int:
  """Status 0 when pretraining wins everywhere, 1 when not, 2 after a mistake of the user's."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.embeddings",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--checkpoint", required=True, help="such as RUN/pretrain/best")
  parser.add_argument("--data", required=True, help="data set of labelled jets")
  parser.add_argument("--real", type=pathlib.Path, help="folder of published jets")
  parser.add_argument("--events", type=int, default=10_000, help="at most, of each split")
  parser.add_argument("--seeds", type=int, default=3, help="random encoders")
  options = parser.parse_args(argv)
  try:
    predictor = inference.load(options.checkpoint)
    samples = [read_data_set(options.data, predictor.schema.name, options.events)]
  except (CheckpointError, DataError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  for name, file in REAL.items() if options.real else ():
    if predictor.schema.stored:
      print(f"{name}: left out, input set '{predictor.schema.name}' needs more than four-momenta")
    elif not (options.real / file).exists():
      print(f"{name}: left out, no {options.real / file}")
    else:
      samples.append(read_real(name, options.real / file, predictor.schema))
  train, test = samples[0].divisions[0]
  parameters = sum(
    x.size for x in jax.tree.leaves(predictor.trained.variables["params"]["encoder"])
  )
  print(
    f"{options.checkpoint}: step {predictor.step}, {parameters:,} parameters; {len(train):,} jets "
    f"to learn from, {len(test):,} to ask; {jax.devices()[0].device_kind}, jax {jax.__version__}"
  )
  rows = measure(predictor, samples, options.seeds)
  print(json.dumps(rows))
  return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
