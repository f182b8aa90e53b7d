"""How near the training step comes to what this machine can do at best.

  python -m benchmarks.roofline [--only=attention,bias,step,train] [--implementation=xla]
      [--particles=128] [--events=16] [--dtype=float32] [--token-kernels] [--budget=SECONDS]

Bandwidth and arithmetic are measured in the same process: a copy of a large array, a product of
large matrices. A bound is the longer of the two times.

`attention`, `bias` and `step` are the operations of benchmarks/kernels.py. Bytes and operations are
counted from the compiled program (XLA's cost analysis; it does not look into Pallas kernels, so
counts are those of 'xla'). An array is counted at every operation that touches it, so a program
beats the bound where caches help or a kernel keeps arrays to itself. `least_ms` is the time for
reading arguments and writing results once.

`train` is the whole training step of `base` with every slot filled, and has two bounds. That of
`roofline_train` is of its own compiled program: what each of its operations, kernels included,
reads and writes, and the model's products of matrices. That of `roofline_train_floor` is of the
best program there could be, whose arrays are in memory only between kernels that cannot be one:
`Floor` says which, and what it leaves out. The last line printed is JSON: a list of
{"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import hlo_traffic, kernels, own_model

TRAIN = "train"
LEAST_SHARE = 0.4
"""Of the bound of the step's own program, on a GPU."""
COPIED_MIB = 256
SIDE = {"cpu": 2048, "gpu": 8192}
"""Of the matrices whose product is timed: a GPU has done the smaller one before it has begun."""
REPEATS = 5
STEPS = 4
"""Calls of a measurement, one after the other: as in a training, none waits for the host."""


def best_time(function: Callable[..., Any], *arrays: Any) -> float:
  """Seconds of a call of a compiled function, in the fastest of a few measurements."""
  jax.block_until_ready(function(*arrays))
  times = []
  for _ in range(REPEATS):
    start = time.perf_counter()
    for _ in range(STEPS):  # keeps one result: memory of its own for each would be timed too
      made = function(*arrays)
    jax.block_until_ready(made)
    times.append((time.perf_counter() - start) / STEPS)
  return min(times)


def machine_limits(dtype: Any) -> tuple[float, float]:
  """Bytes and floating-point operations per second."""
  array = jnp.zeros(COPIED_MIB * 2**18, jnp.float32)
  copied = best_time(jax.jit(lambda x: x + 1), array)
  side = SIDE["gpu" if jax.default_backend() == "gpu" else "cpu"]
  matrix = jnp.ones((side, side), dtype)
  multiplied = best_time(jax.jit(jnp.dot), matrix, matrix)
  return 2 * array.nbytes / copied, 2 * side**3 / multiplied


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
  """The rows of what is asked for, forward and backward together."""
  bandwidth, arithmetic = machine_limits(options.dtype)
  print(f"this machine: {bandwidth / 1e9:.1f} GB/s, {arithmetic / 1e9:.0f} GFLOP/s {options.dtype}")
  arrays = kernels.inputs(options.events, options.particles, options.dtype, padded=False)
  clock, rows = kernels.Clock(options.budget), []
  for name in options.only:
    if clock.left() < 0:
      print(f"left out {name}: the budget is spent")
      continue
    if name == TRAIN:
      rows += measure_train(options, bandwidth, arithmetic)
      continue
    chosen = [arrays[x] for x in kernels.operation(name, "xla", options.dtype)[1]]
    counted = _compiled(name, "xla", options.dtype, chosen)
    cost: Any = counted.cost_analysis()
    run = counted
    if options.implementation != "xla":
      run = _compiled(name, options.implementation, options.dtype, chosen)
    seconds = best_time(run, *chosen)
    outside = sum(x.nbytes for x in jax.tree.leaves((chosen, run(*chosen))))
    bound = max(cost["bytes accessed"] / bandwidth, cost["flops"] / arithmetic)
    rows.append(
      {
        "name": f"roofline_{name}_{options.implementation}_{options.particles}",
        "value": round(bound / seconds, 3),
        "unit": "of the bound of the XLA program",
        "target": "none: a measurement",
        "holds": True,
        "detail": {
          "ms": round(1e3 * seconds, 3),
          "bound_ms": round(1e3 * bound, 3),
          "least_ms": round(1e3 * outside / bandwidth, 3),
          "gigabytes": round(cost["bytes accessed"] / 1e9, 4),
          "gigaflop": round(cost["flops"] / 1e9, 4),
          "gigabytes_per_s": round(bandwidth / 1e9, 1),
          "gigaflop_per_s": round(arithmetic / 1e9, 1),
          "events": options.events,
          "dtype": options.dtype,
        },
      }
    )
    row = rows[-1]
    print(f"{row['name']:<34}{row['value']:>8.3f} {row['unit']}  {row['detail']}", flush=True)
  return rows


class Floor(NamedTuple):
  """The least that a training step of an encoder must move and multiply, every slot filled.

  Between kernels are, for each layer, arrays of a token's width: forward x, then q, k and v, the
  mixed values, and x again (11 times read or written); backward those and their gradients (19
  times). The pair bias is read, and in the backward pass read again and its running gradient read
  and written. It is written once, and its gradient read once. Bytes of embedding, heads and
  optimizer are left out, and all that is computed in registers. Operations are the products of
  matrices, three times those of the forward pass; of pairs half, which are symmetric.
  """

  gigabytes: float
  teraflop: float


TOKEN_ARRAYS, PAIR_ARRAYS = 11 + 19, 4


def floor_of(encoder: Any, params: Any, events: int, n: int, itemsize: int) -> Floor:
  """Of an encoder with these parameters."""
  token = events * n * encoder.width * itemsize
  pair = events * encoder.heads * n * n * itemsize
  moved = encoder.depth * (TOKEN_ARRAYS * token + PAIR_ARRAYS * pair) + 2 * pair
  of_pairs = of_tokens = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    if "pair_bias" in name and "kernel" in name:
      of_pairs += leaf.size
    elif "kernel" in name:
      of_tokens += leaf.size
  attention = encoder.depth * 2 * events * n * n * encoder.width
  multiplied = events * n * of_tokens + events * n * (n + 1) / 2 * of_pairs + attention
  return Floor(moved / 1e9, 3 * 2 * multiplied / 1e12)


def measure_train(
  options: argparse.Namespace, bandwidth: float, arithmetic: float
) -> list[dict[str, Any]]:
  """The two rows of `train`."""
  kernels_too = own_model.token_kernels(options.token_kernels)
  model, tasks, schema, _ = own_model.tagger(options.dtype, **kernels_too)
  batch = own_model.full_batch(schema, options.events, options.particles)
  variables = own_model.fresh_variables(model, tasks, batch)
  params = variables["params"]["encoder"]
  floor = floor_of(
    model.encoder, params, options.events, options.particles, jnp.dtype(options.dtype).itemsize
  )
  create, step = own_model.trainer(model, tasks, variables["params"])
  state = create(variables, jax.random.key(0))
  compiled = step.lower(state, (batch,)).compile()
  batch = jax.device_put(batch)

  times: list[float] = []
  for _ in range(1 + REPEATS):
    start = time.perf_counter()
    for _ in range(STEPS):
      state, _ = compiled(state, (batch,))
    jax.block_until_ready(state)
    times.append((time.perf_counter() - start) / STEPS)
  seconds = min(times[1:])
  gigabytes = hlo_traffic.bytes_moved(compiled.as_text()) / 1e9
  multiplied = 1e12 * floor.teraflop / arithmetic
  bounds = {
    "roofline_train": max(1e9 * gigabytes / bandwidth, multiplied),
    "roofline_train_floor": max(1e9 * floor.gigabytes / bandwidth, multiplied),
  }
  least = {"roofline_train": LEAST_SHARE} if jax.default_backend() == "gpu" else {}
  detail = {
    "ms": round(1e3 * seconds, 3),
    "gigabytes": round(gigabytes, 3),
    "floor_gigabytes": round(floor.gigabytes, 3),
    "teraflop": round(floor.teraflop, 4),
    "gigabytes_per_s": round(bandwidth / 1e9, 1),
    "teraflop_per_s": round(arithmetic / 1e12, 2),
    "events": options.events,
    "particles": options.particles,
    "dtype": options.dtype,
    "token_kernels": options.token_kernels,
  }
  mark = "_token_kernels" if options.token_kernels else ""
  rows = [
    {
      "name": f"{name}{mark}",
      "value": round(bound / seconds, 3),
      "unit": "of the bound",
      "target": f">= {least[name]:g}" if name in least else "none: a measurement",
      "holds": bound / seconds >= least.get(name, 0.0),
      "detail": {**detail, "bound_ms": round(1e3 * bound, 3)},
    }
    for name, bound in bounds.items()
  ]
  for row in rows:
    print(f"{row['name']:<34}{row['value']:>8.3f} {row['unit']}  {row['detail']}", flush=True)
  return rows


def _compiled(name: str, implementation: str, dtype: Any, arrays: Sequence[Any]) -> Any:
  function, _, count = kernels.operation(name, implementation, dtype)
  return jax.jit(kernels.gradient_of(function, count)).lower(*arrays).compile()


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the rows; status 1 when a target is missed."""
  backend = jax.default_backend()
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.roofline",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  default = {"gpu": "triton", "tpu": "tpu"}.get(backend, "xla")
  parser.add_argument("--implementation", default=default)
  parser.add_argument("--particles", type=int, default=128)
  parser.add_argument("--events", type=int, default=kernels.EVENTS[backend])
  parser.add_argument("--dtype", default="float32" if backend == "cpu" else "bfloat16")
  parser.add_argument("--only", default=",".join((*kernels.OPERATIONS, TRAIN)))
  parser.add_argument("--token-kernels", action="store_true", help="in `train`, on a GPU")
  parser.add_argument("--budget", type=float, help="about how many seconds all may take")
  options = parser.parse_args(argv)
  options.only = options.only.split(",")
  if unknown := set(options.only) - {*kernels.OPERATIONS, TRAIN}:
    parser.error(f"no part '{unknown.pop()}'; there are {', '.join(kernels.OPERATIONS)}, {TRAIN}")
  print(kernels.machine())
  rows = measure(options)
  print(json.dumps(rows))
  return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
