"""Our side of benchmarks/model_speed.py: `base` of configs/lorentz_part.py on the same jets.

Speaks as benchmarks/peer_weaver.py does. A global batch is the fixed mix of length groups that the
data pipeline would make of these jets; only real jets count.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import numpy as np

from jetfm import train
from jetfm.data import jet_schema
from jetfm.typing import Batch
from launch.cli import load_file

CONFIG = "configs/lorentz_part.py:base"


def group_batches(jets: Any, schema: Any, lengths: tuple[int, ...], size: int) -> list[tuple]:
  """Every jet once, in global batches of one Batch per length."""
  count = jets["mask"].sum(axis=1)
  group = np.searchsorted(lengths, count)
  members = [np.flatnonzero(group == g) for g in range(len(lengths))]
  steps = len(count) // size
  sizes = [-(-len(m) // steps) for m in members]
  return [
    tuple(
      _batch(jets, schema, m[s * n : (s + 1) * n], n, length)
      for m, n, length in zip(members, sizes, lengths, strict=True)
      if n
    )
    for s in range(steps)
  ]


def _batch(jets: Any, schema: Any, rows: np.ndarray, size: int, length: int) -> Batch:
  def fill(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.zeros((size - len(x), *x.shape[1:]), x.dtype)])

  real, n = len(rows), length
  mask = fill(jets["mask"][rows][:, :n])
  return Batch(
    p4=fill(jets["p4"][rows][:, :n]),
    features=np.zeros((size, n, len(schema.stored)), np.float32),
    present=np.repeat(mask[..., None], len(schema.groups), axis=-1),
    mask=mask,
    label=fill(jets["label"][rows].astype(np.int32)),
    targets=np.zeros((size, len(schema.stored_targets)), np.float32),
    weight=(np.arange(size) < real).astype(np.float32),
    event_id=np.arange(size, dtype=np.int32),
    spectators=np.zeros((size, len(schema.spectators)), np.float32),
  )


def main(path: str, batch_size: int) -> None:
  config = load_file(CONFIG)
  tasks = config.stage.classify.tasks.to_dict()
  tasks["classification"].pop("weight")
  schema = jet_schema("kin", targets=())
  description = train.describe_model(schema, config.encoder.to_dict(), tasks)
  model, tasks, _ = train.build_model(description)
  weighted = [(task, 1.0) for task in tasks.values()]
  batches = group_batches(np.load(path), schema, tuple(config.data.lengths), batch_size)
  real = [int(sum(g.weight.sum() for g in groups)) for groups in batches]

  key = jax.random.key(0)
  views = {name: task.views(key, batches[0][0], True) for name, task in tasks.items()}
  variables = jax.jit(model.init)(key, views)
  strategy = train.make_strategy("full", config.encoder.depth)
  labels = train.label(variables["params"], strategy)
  optimizer = train.make_optimizer(train.Optimizer(), 10_000, labels, strategy.rates)
  state = train.create(variables, optimizer, labels, key)
  train_step = train.make_train_step(model, weighted, optimizer, labels)

  @jax.jit
  def infer(variables, groups):
    return [
      model.head(
        "classification",
        variables,
        {"plain": model.encode(variables, batch, deterministic=True)},
        {"plain": batch},
        deterministic=True,
        key=key,
      ).output
      for batch in groups
    ]

  def rate(kind: str, seconds: float) -> float:
    nonlocal state
    jets = i = 0
    jax.block_until_ready(state)
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
      groups = batches[i % len(batches)]
      if kind == "train":
        state, _ = train_step(state, groups)
        jax.block_until_ready(state)
      else:
        jax.block_until_ready(infer(state.variables, groups))
      jets += real[i % len(batches)]
      i += 1
    return jets / spent

  for _ in range(2):
    state, _ = train_step(state, batches[0])
    jax.block_until_ready(infer(state.variables, batches[0]))
  parameters = sum(p.size for p in jax.tree.leaves(state.params))
  groups = {g.length: g.num_events for g in batches[0]}
  versions = f"jax {jax.__version__}, groups {groups}"
  print(json.dumps({"parameters": parameters, "versions": versions}), flush=True)
  for line in sys.stdin:
    kind, seconds = line.split()
    print(json.dumps(rate(kind, float(seconds))), flush=True)


if __name__ == "__main__":
  main(sys.argv[1], int(sys.argv[2]))
