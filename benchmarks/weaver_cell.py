"""Cells of the table of jets that another library makes: weaver-core's ParT of the same size.

The row `weaver` has the widths, heads and depth of the config; `weaver_deeper` has one particle
block more, and with it more parameters than jetfm's equivariant encoder. Either sees the jets of
the same files, the same standardised features and as many steps of the same schedule as the row
`classify`, from fresh parameters: it has no pretraining.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.bench import Bench, Failed
from benchmarks.cells import Numbers
from benchmarks.model_speed import peer_python
from jetfm.data import Manifest, open_dataset
from jetfm.evals.metrics import classification_summary
from jetfm.schema import Schema
from jetfm.typing import Batch

BATCH = 1000
MORE_BLOCKS = {"weaver": 0, "weaver_deeper": 1}
"""Than the config has, by row."""


def weaver_cell(bench: Bench, row: str, seed: int, inputs: str) -> Numbers:
  """Trains it in the peers' environment, and measures its scores of the test split.

  Raises: OutOfTime, Failed, DataError.
  """
  schema = Manifest.load(bench.data).schema(inputs)
  jets, folder = bench.out / "weaver" / "jets", bench.out / row / f"seed{seed}"
  folder.mkdir(parents=True, exist_ok=True)
  chosen = settings(bench.settings(), schema, seed, MORE_BLOCKS[row])
  (folder / "settings.json").write_text(json.dumps(chosen))
  with bench.turn(), jax.default_device(jax.devices("cpu")[0]):
    try:
      python = peer_python()
    except (OSError, subprocess.CalledProcessError) as error:
      raise Failed(f"the peers' environment cannot be made: {error}") from None
    for split in ("train", "valid", "test"):
      if not (jets / f"{split}.npz").exists():
        write_split(bench.data, split, schema, jets / f"{split}.npz")
  threads = max(1, (os.cpu_count() or 1) // bench.processes)
  bench.run(
    [python, "-m", "benchmarks.peer_training", str(jets), str(folder), str(threads)],
    log=str((folder / "log.txt").relative_to(bench.out)),
  )
  scores = np.load(folder / "scores.npy")
  if not np.isfinite(scores).all():
    raise Failed("its scores are not finite")
  found = classification_summary(scores, np.load(jets / "test.npz")["label"], schema.classes)
  about = json.loads((folder / "about.json").read_text())
  return {name: m.value for name, m in found.items() if m.value is not None} | about


def settings(config: ConfigDict, schema: Schema, seed: int, more_blocks: int = 0) -> dict[str, Any]:
  """Of the training: those of the stage `classify`, and the encoder's size and dropout.

  Raises: Failed for what the peer's training cannot do.
  """
  encoder, stage = config.encoder, config.stage.classify
  for name, got, expected in (
    ("optimizer.restarts", stage.optimizer.restarts, 0),
    ("accumulate", stage.accumulate, 1),
    ("augment", tuple(stage.augment), ()),
    ("patience", stage.patience, 0),
    ("optimizer.clip", stage.optimizer.clip > 0, True),
  ):
    if got != expected:
      raise Failed(f"stage.classify.{name}: the peer knows {expected} alone, got {got}")
  dropout = encoder.dropout
  return {
    "seed": seed,
    "features": len(schema.features),
    "classes": len(schema.classes),
    "batch_size": config.data.batch_size,
    "eval_events": config.data.eval_events,
    "eval_every": stage.eval_every,
    "steps": stage.steps,
    "optimizer": stage.optimizer.to_dict(),
    "model": {
      "embed_dims": [*encoder.embed_widths, encoder.width],
      "pair_embed_dims": list(encoder.pair_widths),
      "num_heads": encoder.heads,
      "num_layers": encoder.depth + more_blocks,
      "num_cls_layers": stage.tasks.classification.head_options.layers,
      "fc_params": [],
      "block_params": {"dropout": dropout, "activation_dropout": dropout, "attn_dropout": 0.0},
    },
  }


def write_split(data: pathlib.Path, split: str, schema: Schema, path: pathlib.Path) -> None:
  """All jets of a split, as `write_jets` writes them."""
  loader = open_dataset(data, schema.name, split).loader(BATCH, shuffle=False, epochs=1)
  write_jets((batch for groups in loader.iterate() for batch in groups), schema, path)


def write_jets(batches: Iterable[Batch], schema: Schema, path: pathlib.Path) -> None:
  """particles (P, 4 + F): momenta and standardised features of all jets; count (B,), label (B,)."""
  particles, count, label = [], [], []
  for batch in batches:
    values = schema.values(batch.p4, batch.features, batch.mask)
    columns = [f.forward(values[..., i]) for i, f in enumerate(schema.features)]
    both = np.concatenate([batch.p4, np.stack(columns, axis=-1)], axis=-1)
    real = batch.weight > 0
    particles.append(both[batch.mask & real[:, None]].astype(np.float32))
    count.append(batch.mask.sum(axis=1)[real])
    label.append(batch.label[real])
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_suffix(".new.npz")
  np.savez(
    new,
    particles=np.concatenate(particles),
    count=np.concatenate(count),
    label=np.concatenate(label),
  )
  new.replace(path)
