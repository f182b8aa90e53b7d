"""The traditional selection of four decay channels of the J/psi, and a model beside it.

  python -m benchmarks.traditional --data=DATASET [--checkpoint=RUN/differential/best]
      [--precision=0.99] [--events=N]

Cuts are tuned on the training split; precision, recall and F1 are those of the test split, with
binomial errors, beside the published ones, which are of other data. Then the working points at
which precision is 99 %: thresholds are taken from the validation split. Of events that are not
pi+ pi- pi0 all the classes of the data set are there. The last line printed is JSON: a list of
{"name", "value", "error", "unit", "target", "holds", "detail"}; without checkpoint the targets are
those of the kinematic fit (pulls of width one) alone, with one the model's F1 is to be the larger.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jetfm import inference
from jetfm.data import DataError, open_dataset
from jetfm.evals.metrics import Measurement, PrecisionPoint, precision_point, selection_quality
from jetfm.evals.published import CLEAR_CLASSES
from jetfm.evals.selection import (
  CHANNELS,
  COMPLETE,
  ChannelSelection,
  ThreePions,
  concatenate,
  find_objects,
  find_three_pions,
  tune_channels,
)
from jetfm.inference import Predictor
from jetfm.train import CheckpointError
from jetfm.typing import Batch

INPUTS = "bes"
BATCH_SIZE = 4096
QUANTITIES = ("precision", "recall", "f1")
KINDS = ("complete", "photon lost", "track lost")
PULL_TOLERANCE = 0.1


@dataclass(frozen=True)
class Sample:
  """One split.

  Attributes:
    found: candidates; `event` is a place in the split.
    channel: (n,) true place in CHANNELS of all events, -1 for other classes.
    probabilities: (n, 4) of a model for the channels, and (n,) the largest of all classes; None
      without one.
  """

  found: ThreePions
  channel: np.ndarray
  probabilities: tuple[np.ndarray, np.ndarray] | None = None

  def spread(self, of_candidates: np.ndarray, fill: float) -> np.ndarray:
    """(m,) of candidates -> (n,) of events, `fill` for those without."""
    out = np.full(len(self.channel), fill, of_candidates.dtype)
    out[self.found.event] = of_candidates
    return out


def read(directory: str, split: str, events: int | None, predictor: Predictor | None) -> Sample:
  """Candidates of a split, and a model's probabilities.

  Raises: DataError as `open_dataset` does, and for a data set without the four channels.
  ValueError when the checkpoint is of another schema.
  """
  data = open_dataset(directory, INPUTS, split, max_events=events)
  classes = data.schema.classes
  if missing := [name for name in CHANNELS if name not in classes]:
    raise DataError(f"{directory} has no class {missing}: generate it with these decay chains")
  if predictor is not None:
    predictor.check_schema(data.schema)
  own = [classes.index(name) for name in CHANNELS]
  parts: list[ThreePions] = []
  batches: list[Batch] = []
  for groups in data.loader(BATCH_SIZE, shuffle=False, epochs=1).iterate():
    for batch in groups:
      batches.append(batch)
      parts.append(find_three_pions(find_objects(batch, data.schema)))
  found = concatenate(parts, [batch.num_events for batch in batches])
  real = np.concatenate([batch.weight for batch in batches]) > 0  # the last batches have filler
  found = found.take(real[found.event])
  found = found.at((np.cumsum(real) - 1)[found.event])
  label = np.concatenate([batch.label for batch in batches])[real]
  place = np.full(len(classes), -1)
  place[own] = np.arange(len(own))
  probabilities = None
  if predictor is not None and split != "train":
    p = predictor.classify(batches)[real]
    probabilities = (p[:, own], p.max(axis=1))
  return Sample(found, np.where(label >= 0, place[label], -1), probabilities)


def tune(train: Sample) -> ChannelSelection:
  """Cuts of the training split."""
  totals = np.bincount(train.channel[train.channel >= 0], minlength=len(CHANNELS))
  return tune_channels(train.found, train.channel[train.found.event], totals.tolist())


def qualities(
  sample: Sample, selection: ChannelSelection
) -> dict[str, list[dict[str, Measurement]]]:
  """By method: precision, recall and F1 of each channel."""
  chosen = {"traditional": sample.spread(selection.assign(sample.found), -1)}
  if sample.probabilities is not None:
    p, largest = sample.probabilities
    chosen["model"] = np.where(p.max(axis=1) == largest, p.argmax(axis=1), -1)
  return {
    method: [selection_quality(c == k, sample.channel == k) for k in range(len(CHANNELS))]
    for method, c in chosen.items()
  }


def working_points(
  valid: Sample, test: Sample, selection: ChannelSelection, precision: float
) -> dict[str, list[PrecisionPoint]]:
  """By ranking: the point of this precision of each channel."""

  def scores(sample: Sample, channel: int) -> dict[str, np.ndarray]:
    rankings = selection.rankings(sample.found, channel)
    by_name = {
      f"traditional, {name}": sample.spread(score, -np.inf) for name, score in rankings.items()
    }
    if sample.probabilities is not None:
      by_name["model"] = sample.probabilities[0][:, channel].astype(np.float64)
    return by_name

  points: dict[str, list[PrecisionPoint]] = {}
  for channel in range(len(CHANNELS)):
    of_valid, of_test = scores(valid, channel), scores(test, channel)
    for name in of_valid:
      pair = ((of_valid[name], valid.channel == channel), (of_test[name], test.channel == channel))
      points.setdefault(name, []).append(precision_point(*pair, precision))
  return points


def pulls(sample: Sample) -> np.ndarray:
  """(4, 3) widths of the pulls of true candidates: two tracks, two photons."""
  true = (sample.channel[sample.found.event] >= 0) & (sample.found.kind == COMPLETE)
  return sample.found.pull[true & (sample.found.chi2 < 30)].std(axis=0)


def print_qualities(measured: Mapping[str, list[dict[str, Measurement]]]) -> None:
  """The table of precision, recall and F1."""
  print(f"\n{'channel':<33}{'method':<26}" + "".join(f"{name:>18}" for name in QUANTITIES))
  for channel, name in enumerate(CHANNELS):
    for method, rows in measured.items():
      shown = "".join(f"{_text(rows[channel][q]):>18}" for q in QUANTITIES)
      print(f"{name:<33}{method:<26}{shown}")
    for method, numbers in CLEAR_CLASSES[name].items():
      shown = "".join(f"{f'{x:.2f}':>18}" for x in numbers)
      print(f"{name:<33}{f'published {method}':<26}{shown}")


def print_points(points: Mapping[str, list[PrecisionPoint]], precision: float) -> None:
  """The table of working points."""
  print(f"\n{f'precision {precision:g} on valid':<33}{'ranking':<26}", end="")
  print(f"{'threshold':>12}{'precision':>18}{'recall':>18}")
  for channel, name in enumerate(CHANNELS):
    for ranking, found in points.items():
      point = found[channel]
      start = f"{name:<33}{ranking:<26}"
      if point.threshold is None:
        print(f"{start}  {point.recall.reason}")
      else:
        shown = f"{_text(point.precision):>18}{_text(point.recall):>18}"
        print(f"{start}{point.threshold:>12.4g}{shown}")


def rows_of(
  measured: Mapping[str, list[dict[str, Measurement]]],
  points: Mapping[str, list[PrecisionPoint]],
  widths: np.ndarray,
  precision: float,
) -> list[dict[str, Any]]:
  """Both tables as JSON."""
  largest = float(np.abs(widths - 1).max())
  rows: list[dict[str, Any]] = [
    {
      "name": "pull_width_difference",
      "value": round(largest, 4),
      "unit": "largest |width - 1|",
      "target": f"< {PULL_TOLERANCE:g}",
      "holds": largest < PULL_TOLERANCE,
      "detail": {"widths": np.round(widths, 3).tolist()},
    }
  ]
  for channel, name in enumerate(CHANNELS):
    for method, of_channels in measured.items():
      quality = of_channels[channel]
      row = _row(f"{method}_f1: {name}", quality["f1"], "F1")
      row["detail"] = {q: quality[q].to_dict() for q in QUANTITIES[:2]}
      row["detail"]["published"] = dict(zip(QUANTITIES, CLEAR_CLASSES[name][method], strict=True))
      if method == "model":
        other = measured["traditional"][channel]["f1"].value
        row["target"] = f"> {other if other is None else round(other, 4)} (traditional)"
        row["holds"] = (quality["f1"].value or 0.0) > (other or 0.0)
      rows.append(row)
    for ranking, found in points.items():
      point = found[channel]
      row = _row(f"recall_at_{precision:g} ({ranking}): {name}", point.recall, "recall")
      row["detail"] = {"threshold": point.threshold, "precision": point.precision.to_dict()}
      rows.append(row)
  return rows


def _row(name: str, measured: Measurement, unit: str) -> dict[str, Any]:
  value, error = (None if x is None else round(x, 4) for x in (measured.value, measured.error))
  row = {"name": name, "value": value, "error": error, "unit": unit, "target": "", "holds": True}
  return row | ({"reason": measured.reason} if measured.reason else {})


def _text(measured: Measurement) -> str:
  if measured.value is None:
    return "-"
  return f"{measured.value:.3f} +- {measured.error:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
  """Status 0 when all targets hold, 1 when not, 2 after a mistake of the user's."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.traditional",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--data", required=True, help="data set of e+e- events, input set 'bes'")
  parser.add_argument("--checkpoint", help="of a task of the kind 'classification'")
  parser.add_argument("--precision", type=float, default=0.99, help="of the working points")
  parser.add_argument("--events", type=int, help="at most, of each split")
  options = parser.parse_args(argv)
  if not 0 < options.precision < 1:
    parser.error(f"--precision is {options.precision}, expected between 0 and 1")
  start = time.monotonic()
  try:
    predictor = inference.load(options.checkpoint) if options.checkpoint else None
    if predictor is not None and not predictor.of_kind("classification"):
      raise ValueError(f"{options.checkpoint} has no classification task, only {predictor.tasks}")
    train, valid, test = (
      read(options.data, split, options.events, predictor) for split in ("train", "valid", "test")
    )
  except (CheckpointError, DataError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  selection = tune(train)
  sizes = [len(sample.channel) for sample in (train, valid, test)]
  print("{:,} events to tune, {:,} for thresholds, {:,} to test".format(*sizes))
  print(f"{time.monotonic() - start:.1f} s for everything but the tables")
  for kind, of_channels in zip(KINDS, selection.cuts, strict=True):
    for name, cuts in zip(CHANNELS, of_channels, strict=True):
      limits = ", ".join(f"{key} <= {limit:.3g}" for key, limit in cuts.limits.items())
      given_up = -np.inf in cuts.limits.values()
      print(f"{name}, {kind}: {'left out' if given_up else limits or 'no cut'}")
  measured = qualities(test, selection)
  points = working_points(valid, test, selection, options.precision)
  print_qualities(measured)
  print_points(points, options.precision)
  rows = rows_of(measured, points, pulls(test), options.precision)
  print(json.dumps(rows))
  return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
