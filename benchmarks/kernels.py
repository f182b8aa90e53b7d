"""Time and memory of the two kernels, by implementation, number of particles and direction.

  python -m benchmarks.kernels [--budget=SECONDS] [--only=attention,bias,step]
      [--implementations=xla,xla_chunked,triton,...] [--particles=32,64,128,256] [--events=512]
      [--dtype=bfloat16] [--padded]

Every number stands beside that of 'xla' in the same process. `step` is a whole training step's
share of both: one pair bias, eight layers of attention that use it, and all gradients. Events have
the multiplicities of jets (mean a third of the slots); --padded fills every slot. Memory is what
the compiled program needs beside its arguments and results. A budget leaves out what would take too
long, and says so. The last line printed is JSON: a list of
{"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.kernels import PairBiasWeights, pair_attention, pair_bias

OPERATIONS = ("attention", "bias", "step")
HEADS, HEAD_WIDTH, LAYERS = 8, 16, 8
WIDTHS = (4, 64, 64, 64, HEADS)
IMPLEMENTATIONS = {
  "cpu": ("xla", "xla_chunked"),
  "gpu": ("xla", "xla_chunked", "triton", "mosaic_gpu", "cudnn"),
  "tpu": ("xla", "xla_chunked", "tpu"),
}
EVENTS = {"cpu": 16, "gpu": 512, "tpu": 128}
FASTER_THAN_XLA = 1.0
REPEATS = 5


class Clock:
  """How much of the budget is left."""

  def __init__(self, budget: float | None):
    self._end = None if budget is None else time.perf_counter() + budget

  def left(self) -> float:
    return float("inf") if self._end is None else self._end - time.perf_counter()


def inputs(events: int, n: int, dtype: Any, padded: bool) -> dict[str, Any]:
  """Random arrays of one batch, particles first."""
  rng = np.random.default_rng(0)
  # Gamma with the shape of published multiplicities, its mean at a third of the slots.
  count = np.clip(rng.gamma(5.6, n / 3 / 5.6, events).round(), 1, n)
  lengths = np.full(events, n) if padded else count
  mask = np.arange(n) < lengths[:, None]
  p3 = rng.normal(size=(events, n, 3)) * 5 + [20, 0, 5]
  p4 = np.concatenate([np.sqrt((p3**2).sum(axis=-1, keepdims=True) + 0.02), p3], axis=-1)
  weights = PairBiasWeights(
    kernels=tuple(rng.normal(size=pair) / np.sqrt(pair[0]) for pair in itertools.pairwise(WIDTHS)),
    biases=tuple(np.zeros(width) for width in WIDTHS[1:]),
    scales=tuple(np.ones(width) for width in WIDTHS[1:-1]),
    hidden=np.zeros(HEADS),
  )
  q, k, v = rng.normal(size=(3, events, n, HEADS, HEAD_WIDTH))
  return {
    "q": jnp.asarray(q, dtype),
    "k": jnp.asarray(k, dtype),
    "v": jnp.asarray(v, dtype),
    "bias": jnp.asarray(rng.normal(size=(events, HEADS, n, n)), dtype),
    "weights": jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), weights),
    "p4": jnp.asarray(p4 * mask[..., None], jnp.float32),
    "mask": jnp.asarray(mask),
    "lengths": jnp.asarray(lengths, jnp.int32),
  }


def operation(name: str, implementation: str, dtype: Any) -> tuple[Callable, tuple[str, ...], int]:
  """The function, the names of its arguments, and how many of them have gradients."""
  # Only attention has these.
  of_bias = "triton" if implementation in ("cudnn", "mosaic_gpu") else implementation

  def attention(q, k, v, bias, lengths):
    return pair_attention(q, k, v, bias, lengths=lengths, implementation=implementation)

  def bias(weights, p4, mask):
    return pair_bias(p4, weights, mask, dtype=dtype, implementation=of_bias)

  def step(weights, q, k, v, p4, mask, lengths):
    shared, x = bias(weights, p4, mask), q
    for _ in range(LAYERS):
      x, shared = pair_attention(
        x, k, v, shared, lengths=lengths, share_bias=True, implementation=implementation
      )
    return x

  return {
    "attention": (attention, ("q", "k", "v", "bias", "lengths"), 4),
    "bias": (bias, ("weights", "p4", "mask"), 1),
    "step": (step, ("weights", "q", "k", "v", "p4", "mask", "lengths"), 4),
  }[name]


def gradient_of(function: Callable, count: int) -> Callable:
  """Forward and backward; the cotangent is the result itself, so that nothing is left out."""

  def loss(*arrays):
    out = function(*arrays)
    return 0.5 * jnp.sum(jnp.square(out.astype(jnp.float32)))

  return jax.value_and_grad(loss, argnums=tuple(range(count)))


def measure(function: Callable, arrays: Sequence[Any], clock: Clock) -> dict[str, float]:
  """Milliseconds per call (median, and the spread of the calls) and MiB of temporary memory."""
  start = time.perf_counter()
  compiled = jax.jit(function).lower(*arrays).compile()
  compile_s = time.perf_counter() - start
  jax.block_until_ready(compiled(*arrays))
  times: list[float] = []
  while len(times) < REPEATS and (not times or clock.left() > times[-1]):
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arrays))
    times.append(time.perf_counter() - start)
  memory = compiled.memory_analysis()
  return {
    "ms": 1e3 * statistics.median(times),
    "ms_least": 1e3 * min(times),
    "ms_most": 1e3 * max(times),
    "calls": len(times),
    "compile_s": round(compile_s, 2),
    "temporary_mib": 0.0 if memory is None else memory.temp_size_in_bytes / 2**20,
  }


def rows(options: argparse.Namespace, clock: Clock) -> list[dict[str, Any]]:
  """A row for every number of particles, operation, direction and implementation."""
  found = []
  cases = itertools.product(options.particles, options.only, ("forward", "backward"))
  for n, name, direction in cases:
    arrays_of = functools.cache(
      lambda n=n: inputs(options.events, n, options.dtype, options.padded)
    )
    xla: dict[str, float] | None = None
    slowest = 0.0
    for implementation in options.implementations:
      row = f"{name}_{direction}_{implementation}_{n}"
      if clock.left() < slowest:
        print(f"left out {row}: {max(clock.left(), 0):.0f} s of the budget are left")
        continue
      start = time.perf_counter()
      function, arguments, count = operation(name, implementation, options.dtype)
      if direction == "backward":
        function = gradient_of(function, count)
      try:
        result = measure(function, [arrays_of()[x] for x in arguments], clock)
      except NotImplementedError as error:
        print(f"left out {row}: {error}")
        continue
      slowest = max(slowest, time.perf_counter() - start)
      xla = result if implementation == "xla" else xla
      found.append(_row(row, result, xla, options))
      _show(found[-1])
  return found


def _row(name, result, xla, options) -> dict[str, Any]:
  detail = {key: round(value, 3) for key, value in result.items() if key != "ms"}
  detail |= {"events": options.events, "dtype": options.dtype, "padded": options.padded}
  holds = True
  if xla is not None:
    detail["times_faster_than_xla"] = round(xla["ms"] / result["ms"], 3)
    detail["memory_of_xla"] = round(result["temporary_mib"] / max(xla["temporary_mib"], 1e-9), 3)
    kernel = not name.split("_", 2)[2].startswith("xla")
    holds = not kernel or detail["times_faster_than_xla"] >= FASTER_THAN_XLA
  return {
    "name": name,
    "value": round(result["ms"], 3),
    "unit": "ms",
    "target": f"kernels: >= {FASTER_THAN_XLA:g} x as fast as xla",
    "holds": holds,
    "detail": detail,
  }


def _show(row: dict[str, Any]) -> None:
  mark, detail = "ok  " if row["holds"] else "FAIL", row["detail"]
  ratio = detail.get("times_faster_than_xla")
  beside = "" if ratio is None else f"  {ratio:6.2f} x xla"
  print(
    f"{mark} {row['name']:<36}{row['value']:>10.3f} ms "
    f"({detail['ms_least']:.3f}-{detail['ms_most']:.3f}){beside}"
    f"  {detail['temporary_mib']:9.1f} MiB",
    flush=True,
  )


def machine() -> str:
  """Device and versions, in one line."""
  device = jax.devices()[0]
  return (
    f"{device.device_kind} ({jax.default_backend()}), {platform.machine()}, {os.cpu_count()} "
    f"cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
    f"jax {jax.__version__}, jaxlib {importlib.metadata.version('jaxlib')}"
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the rows; status 1 when a kernel is slower than XLA."""
  backend = jax.default_backend()
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.kernels",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )

  def names(text: str) -> list[str]:
    return text.split(",")

  parser.add_argument("--budget", type=float, help="about how many seconds all may take")
  parser.add_argument("--only", type=names, default=list(OPERATIONS))
  parser.add_argument("--implementations", type=names, default=list(IMPLEMENTATIONS[backend]))
  parser.add_argument(
    "--particles", type=lambda text: [int(x) for x in text.split(",")], default=[32, 64, 128, 256]
  )
  parser.add_argument("--events", type=int, default=EVENTS[backend])
  parser.add_argument("--dtype", default="float32" if backend == "cpu" else "bfloat16")
  parser.add_argument("--padded", action="store_true", help="particles in every slot")
  options = parser.parse_args(argv)
  if unknown := set(options.only) - set(OPERATIONS):
    parser.error(f"no operation '{unknown.pop()}'; there are {', '.join(OPERATIONS)}")
  print(machine())
  found = rows(options, Clock(options.budget))
  print(json.dumps(found))
  return 0 if all(row["holds"] for row in found) else 1


if __name__ == "__main__":
  sys.exit(main())
