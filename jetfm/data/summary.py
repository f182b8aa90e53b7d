"""A look into a data set: counts, class mix, ranges of values, padding waste."""

from __future__ import annotations

import dataclasses
import os

import jax
import numpy as np

from jetfm.data.errors import DataError
from jetfm.data.kinds import kind_of
from jetfm.data.manifest import SPLITS, Manifest
from jetfm.data.pipeline import open_dataset
from jetfm.data.schedule import make_schedule, padding_waste
from jetfm.schema import Schema

DEFAULT_LENGTHS = (32, 48, 64, 96, 128)
BATCH_SIZE = 512


@dataclasses.dataclass(frozen=True)
class Sample:
  """Some jets or events of one split, particles of all of them one after another.

  Attributes:
    schema: of the largest input set.
    what: 'jets' or 'events'.
    values: (P, columns) physical values of the schema's features; NaN where not measured.
    particle_label: (P,) class of the jet a particle belongs to.
    counts, label: (n,) of the jets.
    targets: (n, targets) in the order of `schema.targets`.
    jets: of the first jets, (particles, 3) pT, deta, dphi.
  """

  manifest: Manifest
  schema: Schema
  split: str
  what: str
  values: np.ndarray
  particle_label: np.ndarray
  counts: np.ndarray
  label: np.ndarray
  targets: np.ndarray
  jets: tuple[tuple[int, np.ndarray], ...]


def take_sample(directory: str | os.PathLike[str], max_events: int, jets: int = 200) -> Sample:
  """Reads at most `max_events` jets of the first split that has any.

  Raises: DataError as `open_dataset` does.
  """
  from jetfm.lorentz.kinematics import particle_features

  manifest = Manifest.load(directory)
  inputs = list(manifest.schemas)[-1]
  split = next((s for s in SPLITS if manifest.splits[s].num_events), None)
  if split is None:
    raise DataError(f"{directory}: no events in any split")
  dataset = open_dataset(directory, inputs, split, max_events=max_events)
  schema = dataset.schema

  @jax.jit
  def compute(batch):
    return (
      schema.values(batch.p4, batch.features, batch.mask),
      schema.target_values(batch.p4, batch.targets, batch.mask),
      particle_features(("pt", "deta", "dphi"), batch.p4, batch.mask),
    )

  # One length, so that one shape is compiled.
  loader = dataset.loader(256, manifest.edges[-1:], shuffle=False, epochs=1, lanes=1)
  parts: dict[str, list[np.ndarray]] = {k: [] for k in ("values", "owner", "counts", "label", "t")}
  shown: list[tuple[int, np.ndarray]] = []
  for step in range(len(loader)):
    (batch,) = loader[step]
    real, mask = batch.weight > 0, batch.mask
    values, targets, coordinates = compute(batch)
    measured = batch.present[..., [schema.groups.index(f.group) for f in schema.features]]
    values = np.where(measured, values, np.nan)
    label, counts = np.asarray(batch.label)[real], np.sum(mask, axis=1)[real]
    parts["values"].append(values[mask])
    parts["owner"].append(np.repeat(label, counts))
    parts["counts"].append(counts)
    parts["label"].append(label)
    parts["t"].append(np.asarray(targets)[real])
    if len(shown) < jets:
      pieces = np.split(np.asarray(coordinates)[mask], np.cumsum(counts)[:-1])
      shown += zip(label.tolist(), pieces, strict=True)
  joined = {k: np.concatenate(v) for k, v in parts.items()}
  return Sample(
    manifest,
    schema,
    split,
    kind_of(inputs).what,
    joined["values"],
    joined["owner"],
    joined["counts"],
    joined["label"],
    joined["t"],
    tuple(shown),
  )


def describe(directory: str | os.PathLike[str], sample: Sample, verify: bool = False) -> str:
  """What a data set holds, as text. Raises: DataError when `verify` finds a changed file."""
  manifest, what = sample.manifest, sample.what
  width = max(6, *(len(name) + 1 for name in manifest.classes))
  lines = [f"{directory}", f"  made from {len(manifest.sources)} files; input sets:"]
  lines += [
    f"    {name:<8}{len(s.features):>3} features, {s.width} columns"
    for name, s in manifest.schemas.items()
  ]
  lines.append(f"  beside them: {', '.join(sample.schema.spectators) or 'nothing'}")
  if branches := manifest.settings.get("branches"):
    lines.append(f"  by other names: {', '.join(f'{k}={v}' for k, v in branches.items())}")
  dropped = sum(sum(s["drops"].values()) for s in manifest.sources)
  refused = sum(bool(s["refused"]) for s in manifest.sources)
  lines += [
    f"  left out: {dropped:,} {what}, {refused} files; cut at {manifest.edges[-1]} particles: "
    f"{manifest.truncated['events']:,} {what}",
    "",
    f"  {'class':<{width}}" + "".join(f"{s:>14}" for s in SPLITS),
  ]
  counts = [manifest.splits[s].class_counts(len(manifest.classes)) for s in SPLITS]
  for i, name in enumerate(manifest.classes):
    row = "".join(f"{c[i]:>8,} {100 * c[i] / max(c.sum(), 1):>3.0f} %" for c in counts)
    lines.append(f"  {name:<{width}}{row}")
  lines.append(f"  {'all':<{width}}" + "".join(f"{c.sum():>8,}      " for c in counts))
  lines += ["", f"  particles per {what.removesuffix('s')} ('{sample.split}')"]
  lines += _histogram(manifest, sample.split)
  lines += ["", *_padding(manifest, sample.split, what)]
  lines += [
    "",
    f"  values of {len(sample.counts):,} {what} ('{sample.split}'), physical units",
    f"  {'':<22}{'unit':<6}{'min':>12}{'1 %':>12}{'median':>12}{'99 %':>12}{'max':>12}",
  ]
  lines += [
    _range(f.name, f.unit, sample.values[:, i]) for i, f in enumerate(sample.schema.features)
  ]
  lines += [
    _range(t.name, t.unit, sample.targets[:, i]) for i, t in enumerate(sample.schema.targets)
  ]
  if verify:
    manifest.verify(directory)
    lines += ["", "  every shard has the manifest's checksum"]
  return "\n".join(lines)


def _range(name: str, unit: str, x: np.ndarray) -> str:
  x = x[~np.isnan(x)]
  shown = np.quantile(x, (0, 0.01, 0.5, 0.99, 1)) if len(x) else np.full(5, np.nan)
  return f"  {name:<22}{unit:<6}" + "".join(f"{v:>12.4g}" for v in shown)


def _histogram(manifest: Manifest, split: str) -> list[str]:
  counts = manifest.splits[split].length_counts(manifest.edges)
  low = (1, *(e + 1 for e in manifest.edges))
  most = max(*counts, 1)
  return [
    f"  {a:>4} -{b:>4}{n:>11,}  {'#' * round(40 * n / most)}"
    for a, b, n in zip(low, manifest.edges, counts, strict=False)
  ]


def _padding(manifest: Manifest, split: str, what: str) -> list[str]:
  """How much of a batch is padding, with groups and without."""
  chosen = manifest.splits[split]
  most = int(np.flatnonzero(chosen.multiplicity)[-1])
  particles = chosen.num_particles
  longest = manifest.edges[-1]
  usual = DEFAULT_LENGTHS if what == "jets" else manifest.edges
  groups = tuple(n for n in usual if n in manifest.edges)
  lines = []
  for lengths in (groups, (longest,)):
    if not lengths or lengths[-1] < most:
      continue
    schedule = make_schedule(
      chosen.length_counts(manifest.edges), manifest.edges, BATCH_SIZE, lengths
    )
    sizes = ", ".join(
      f"{n} x {size}" for n, size in zip(schedule.lengths, schedule.group_sizes, strict=True)
    )
    lines.append(
      f"  padding: {100 * padding_waste(particles, schedule):.0f} % of the slots in batches of "
      f"{BATCH_SIZE} (length x {what}: {sizes})"
    )
  return lines
