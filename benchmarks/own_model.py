"""Our side of benchmarks/model_speed.py: `base` of configs/lorentz_part.py on the same jets.

  python -m benchmarks.own_model JETS.npz --kind=train|infer --batch-size=B
         --dtype=float32|bfloat16 [--padded] [--token-kernels]

Answers as benchmarks/side.py says. A global batch is a fixed mix of length groups: for training the
one that the data pipeline would make of these jets, for inference a finer one, as `Predictor` takes
any, since it compiles in a moment; on a GPU, two. Only real jets count, and they are on the device
before the clock starts.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np

from benchmarks import side
from benchmarks.model_jets import PARTICLES, model_schema
from jetfm import train
from jetfm.typing import Batch
from launch.cli import load_file

CONFIG = "configs/lorentz_part.py:base"
INFERENCE_LENGTHS = (24, 32, 40, 48, 56, 64, 80, 96, 128)
GPU_LENGTHS = (64, 128)
"""Of every length a GPU compiles a program for minutes, and kernels skip padding: two."""


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


def empty_batch(schema: Any, events: int, length: int) -> Batch:
  """Filler of that size."""
  jets = {
    "p4": np.zeros((0, length, 4), np.float32),
    "mask": np.zeros((0, length), bool),
    "label": np.zeros(0, np.int32),
  }
  return _batch(jets, schema, np.zeros(0, np.int64), events, length)


def full_batch(schema: Any, events: int, length: int) -> Batch:
  """Random particles in every slot."""
  rng = np.random.default_rng(0)
  p3 = rng.normal(size=(events, length, 3)) * 5 + [20, 0, 5]
  energy = np.sqrt((p3**2).sum(axis=-1, keepdims=True) + 0.02)
  jets = {
    "p4": np.concatenate([energy, p3], axis=-1).astype(np.float32),
    "mask": np.ones((events, length), bool),
    "label": rng.integers(0, 10, events),
  }
  return _batch(jets, schema, np.arange(events), events, length)


def tagger(dtype: str, **options: Any) -> tuple[Any, dict[str, Any], Any, Any]:
  """Model, tasks, schema and configuration of `base` with a classification head.

  options: of the encoder, instead of those of `base`.
  """
  config = load_file(CONFIG)
  tasks = config.stage.classify.tasks.to_dict()
  tasks["classification"].pop("weight")
  schema = model_schema()
  encoder = config.encoder.to_dict() | {"dtype": dtype, **options}
  model, tasks, _ = train.build_model(train.describe_model(schema, encoder, tasks))
  return model, tasks, schema, config


def token_kernels(wanted: bool) -> dict[str, Any]:
  """Options of `tagger` with which what lies between attentions is a kernel too, on a GPU."""
  return {"token_implementation": None} if wanted else {}


def fresh_variables(model: Any, tasks: dict[str, Any], batch: Batch) -> dict[str, Any]:
  """Variables as at the start of a training, made on the CPU, which compiles them sooner."""
  with jax.default_device(jax.devices("cpu")[0]):
    variables = train.initialise(model, tasks, jax.random.key(0), batch)
  return jax.device_put(jax.device_get(variables), jax.devices()[0])


def trained_variables(model: Any, tasks: dict[str, Any], batch: Batch) -> dict[str, Any]:
  """Variables like those after a training: no parameter is an array of zeros or ones.

  A compiler makes such an array from one number, and what multiplies with it goes away.
  """
  fresh = jax.device_get(fresh_variables(model, tasks, batch))
  rng = np.random.default_rng(0)

  def moved(x: np.ndarray) -> np.ndarray:
    return (x + 0.01 * rng.standard_normal(x.shape)).astype(x.dtype)

  return jax.device_put(fresh | {"params": jax.tree.map(moved, fresh["params"])})


def trainer(model: Any, tasks: dict[str, Any], params: Any) -> tuple[Any, Any]:
  """create(variables, key) -> state, and step(state, groups), of everything trained.

  params: or their shapes.
  """
  strategy = train.make_strategy("full", model.encoder.depth)
  labels = train.label(params, strategy)
  optimizer = train.make_optimizer(train.Optimizer(), 10_000, labels, strategy.rates)
  weighted = [(task, 1.0) for task in tasks.values()]
  step = train.make_train_step(model, weighted, optimizer, labels)
  return lambda variables, key: train.create(variables, optimizer, labels, key), step


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("path")
  parser.add_argument("--kind", choices=("train", "infer"), required=True)
  parser.add_argument("--batch-size", type=int, required=True)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
  parser.add_argument("--padded", action="store_true", help="one group that holds every jet")
  parser.add_argument("--token-kernels", action="store_true", help="see `token_kernels`")
  options = parser.parse_args()
  model, tasks, schema, config = tagger(options.dtype, **token_kernels(options.token_kernels))
  lengths = tuple(config.data.lengths) if options.kind == "train" else INFERENCE_LENGTHS
  lengths = GPU_LENGTHS if jax.default_backend() == "gpu" else lengths
  lengths = (PARTICLES,) if options.padded else lengths
  arrays = group_batches(np.load(options.path), schema, lengths, options.batch_size)
  real = [int(sum(g.weight.sum() for g in groups)) for groups in arrays]
  batches = jax.device_put(arrays)
  device = jax.devices()[0]

  key = jax.random.key(0)
  variables = fresh_variables(model, tasks, arrays[0][0])
  parameters = sum(p.size for p in jax.tree.leaves(variables["params"]))
  latest: Any = None

  if options.kind == "train":
    create, train_step = trainer(model, tasks, variables["params"])
    latest = create(variables, key)
    train_step = train_step.lower(latest, batches[0]).compile()
    del variables

    def step(i: int) -> None:
      nonlocal latest
      latest, _ = train_step(latest, batches[i])

  else:

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

    infer_step = jax.jit(infer).lower(variables, batches[0]).compile()

    def step(i: int) -> None:
      nonlocal latest
      latest = infer_step(variables, batches[i])

  def wait() -> None:
    jax.block_until_ready(latest)

  side.give_back_free_memory()
  before = side.resident()
  for i in range(2):
    step(i % len(batches))
    wait()
  on_gpu = device.platform == "gpu"
  groups = {g.length: g.num_events for g in batches[0]}
  side.serve(
    {
      "parameters": parameters,
      "versions": f"jax {jax.__version__}, groups {groups}",
      "device": device.device_kind if on_gpu else device.platform,
    },
    step,
    wait,
    real,
    "gpu" if on_gpu else "cpu",
    before,
    (lambda: device.memory_stats()["peak_bytes_in_use"]) if on_gpu else None,
  )


if __name__ == "__main__":
  main()
