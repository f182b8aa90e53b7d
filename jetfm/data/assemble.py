"""Pass 2 of ingest: one range of keys out of all runs becomes one shard."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from jetfm.data.events import Layout
from jetfm.data.manifest import SPLITS, Shard, file_digest
from jetfm.data.moments import Moments, MomentsOf
from jetfm.data.records import Column, encode, write_shard
from jetfm.data.spool import Runs, event_dtype, particle_width, read_shard
from jetfm.schema import Feature, Schema


@dataclasses.dataclass(frozen=True)
class AssembleJob:
  """Keys first .. last, all of one split and length class, for shard `number` of all."""

  number: int
  split: str
  length: int
  first: int
  last: int
  file: str


def plan_shards(
  keys: np.ndarray, edges: Sequence[int], layout: Layout, bucket_bytes: int
) -> list[AssembleJob]:
  """Cuts the keys into shards of at most about `bucket_bytes`, in order; no event is between them.

  keys (splits * classes * buckets, 2): events and particles of each key.
  """
  sizes = keys @ np.array([event_dtype(layout).itemsize, 4 * particle_width(layout)])
  buckets = len(keys) // (len(SPLITS) * len(edges))
  jobs: list[AssembleJob] = []
  for s, split in enumerate(SPLITS):
    ranges: list[tuple[int, int, int]] = []
    for c, length in enumerate(edges):
      begin = (s * len(edges) + c) * buckets
      first, size = begin, 0
      for key in range(begin, begin + buckets):
        if size and size + sizes[key] > bucket_bytes:
          ranges.append((length, first, key))
          first, size = key, 0
        size += int(sizes[key])
      if size:
        ranges.append((length, first, begin + buckets))
    jobs += [
      AssembleJob(
        len(jobs) + i, split, n, a, b, f"{split}-{i:05d}-of-{len(ranges):05d}.arrayrecord"
      )
      for i, (n, a, b) in enumerate(ranges)
    ]
  return jobs


def assemble(
  job: AssembleJob,
  runs: Runs,
  layout: Layout,
  columns: Sequence[Column],
  schemas: Sequence[Schema],
  num_classes: int,
  block_events: int,
  longest: int,
  directory: pathlib.Path,
) -> tuple[Shard, dict[Feature, Moments]]:
  """Writes one shard; returns its entry in the manifest, and the moments when it is for training.

  Memory: about three times the shard. Raises: OSError when it cannot be written.
  """
  events = read_shard(runs, layout, job.number)
  parts = -(-len(events) // block_events)
  cuts = [len(events) * i // parts for i in range(parts + 1)]
  blocks = [events.slice(a, b) for a, b in itertools.pairwise(cuts)]
  counts = tuple(
    tuple(np.bincount(block.label, minlength=num_classes).tolist()) for block in blocks
  )
  path = directory / job.file
  write_shard(path, (encode(block, layout, columns) for block in blocks))
  moments: dict[Feature, Moments] = {}
  if job.split == "train":
    of_block = _moments_of(tuple(schemas), layout.particle, block_events, longest)
    for block in blocks:
      for feature, new in of_block(block).items():
        moments[feature] = moments.get(feature, Moments()) + new
  return Shard(job.file, job.length, path.stat().st_size, file_digest(path), counts), moments


@functools.lru_cache(maxsize=2)
def _moments_of(
  schemas: tuple[Schema, ...], particle: tuple[str, ...], block: int, longest: int
) -> MomentsOf:
  return MomentsOf(schemas, particle, block, longest)  # compiled once per process
