"""How near the kernels' training step comes to what this machine can do at best.

  python -m benchmarks.roofline [--implementation=xla] [--particles=128] [--events=16]
      [--dtype=float32] [--budget=SECONDS]

Bytes and operations are counted from the compiled program (XLA's cost analysis; it does not look
into Pallas kernels, so counts are those of 'xla'). Bandwidth and arithmetic are measured in the
same process: a copy of a large array, a product of large matrices. The bound is the longer of the
two times. An array is counted at every operation that touches it, so a program beats the bound
where caches help or a kernel keeps arrays to itself. `least_ms` is the time for reading arguments
and writing results once. The last line printed is JSON: a list of
{"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import kernels

COPIED_MIB = 256
SIDE = 2048
REPEATS = 5


def best_time(function: Callable[..., Any], *arrays: Any) -> float:
  """Seconds of the fastest of a few calls of a compiled function."""
  jax.block_until_ready(function(*arrays))
  times = []
  for _ in range(REPEATS):
    start = time.perf_counter()
    jax.block_until_ready(function(*arrays))
    times.append(time.perf_counter() - start)
  return min(times)


def machine_limits(dtype: Any) -> tuple[float, float]:
  """Bytes and floating-point operations per second."""
  array = jnp.zeros(COPIED_MIB * 2**18, jnp.float32)
  copied = best_time(jax.jit(lambda x: x + 1), array)
  matrix = jnp.ones((SIDE, SIDE), dtype)
  multiplied = best_time(jax.jit(jnp.dot), matrix, matrix)
  return 2 * array.nbytes / copied, 2 * SIDE**3 / multiplied


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
  """One row for each operation of `benchmarks.kernels`, forward and backward together."""
  bandwidth, arithmetic = machine_limits(options.dtype)
  print(f"this machine: {bandwidth / 1e9:.1f} GB/s, {arithmetic / 1e9:.0f} GFLOP/s {options.dtype}")
  arrays = kernels.inputs(options.events, options.particles, options.dtype, padded=False)
  clock, rows = kernels.Clock(options.budget), []
  for name in kernels.OPERATIONS:
    if clock.left() < 0:
      print(f"left out {name}: the budget is spent")
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


def _compiled(name: str, implementation: str, dtype: Any, arrays: Sequence[Any]) -> Any:
  function, _, count = kernels.operation(name, implementation, dtype)
  return jax.jit(kernels.gradient_of(function, count)).lower(*arrays).compile()


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the rows."""
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
  parser.add_argument("--budget", type=float, help="about how many seconds all may take")
  options = parser.parse_args(argv)
  print(kernels.machine())
  print(json.dumps(measure(options)))
  return 0


if __name__ == "__main__":
  sys.exit(main())
