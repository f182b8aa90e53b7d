"""From events in numpy to their scores in numpy: rows `online_latency` and `online_rate`.

`base` with weights like those after a training, compiled ahead of time by `Predictor.online`, on
real jets. The latency is that of a call with one jet, padded to the shortest of `LENGTHS` that
holds it: packing, the copy to the device, the program, the copy back and the dictionary of results.
The rate is that of calls with as many jets as the program has rows, the jets of a length together.
In bfloat16 on a GPU unless asked otherwise.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np

from benchmarks.model_jets import write_jets
from benchmarks.model_speed import DTYPE
from benchmarks.own_model import tagger, trained_variables
from jetfm.inference import Predictor
from jetfm.inference.groups import filler
from jetfm.train.restore import TrainedModel

NAME = "classification"
LENGTHS = (32, 64, 128)
JETS = 4096
ROWS = {"cpu": 64, "gpu": 1024}
LATENCY_TARGET = 300.0
"""Microseconds, on an H100 or H200."""
WARM_UP = 20


def measure_online(dtype: str | None = None, budget: float | None = None) -> list[dict[str, Any]]:
  """The two rows; `detail` has the figures of each length, in microseconds and jets per second.

  Args:
    budget: seconds that all may take, about: fewer calls are timed, compilation stays.
  """
  began = time.perf_counter()
  device = "gpu" if jax.default_backend() == "gpu" else "cpu"
  dtype = dtype or DTYPE[device]
  model, tasks, schema, _ = tagger(dtype)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "jets.npz"
    source = write_jets(path, JETS)
    jets = dict(np.load(path))
  count = jets["mask"].sum(axis=1)
  group = np.searchsorted(LENGTHS, count)

  def arrays(rows: np.ndarray, length: int) -> tuple[np.ndarray, ...]:
    mask = jets["mask"][rows][:, :length]
    return jets["p4"][rows][:, :length], np.zeros((*mask.shape, len(schema.stored))), None, mask

  variables = trained_variables(model, tasks, filler(schema, 1, LENGTHS[0]))
  predictor = Predictor(TrainedModel(model, tasks, variables, schema, checkpoint=None))
  one = predictor.online([NAME], LENGTHS, rows=1)
  many = predictor.online([NAME], LENGTHS, rows=ROWS[device])
  ready = time.perf_counter() - began
  share = 30.0 if budget is None else max((budget - ready) / (3 * len(LENGTHS)), 2.0)

  latencies, parts, rates = {}, {}, {}
  for i, length in enumerate(LENGTHS):
    members = np.flatnonzero(group == i)
    single = [arrays(members[j : j + 1], length) for j in range(len(members))]
    for arguments in single[:WARM_UP]:
      one(*arguments)
    latencies[length] = _times(one, single, share)
    parts[length] = _parts(one, single, min(share, 3.0))
    filled = [arrays(np.resize(members, many.rows), length)]
    for _ in range(2):
      many(*filled[0])
    rates[length] = many.rows / float(np.median(_times(many, filled, share)))
  weights = np.array([(group == i).mean() for i in range(len(LENGTHS))])
  times = np.concatenate(list(latencies.values()))
  # A jet of the mix is of each length with its probability.
  weight = np.concatenate(
    [np.full(len(x), w / len(x)) for x, w in zip(latencies.values(), weights, strict=True)]
  )
  order = times.argsort()
  below = weight[order].cumsum()
  median, p99 = (float(times[order][np.searchsorted(below, q)]) * 1e6 for q in (0.5, 0.99))
  rate = float(1 / sum(w / rates[n] for w, n in zip(weights, LENGTHS, strict=True)))
  where = jax.devices()[0]
  common = {
    "device": where.device_kind,
    "dtype": dtype,
    "jets": source,
    "share_of_lengths": dict(zip(LENGTHS, weights.round(3).tolist(), strict=True)),
    "versions": f"jax {jax.__version__}",
    "compiled_in_s": round(ready, 1),
  }
  microseconds = {
    length: {
      "median": round(float(np.median(x)) * 1e6, 1),
      "p99": round(float(np.quantile(x, 0.99)) * 1e6, 1),
      "calls": len(x),
      **parts[length],
    }
    for length, x in latencies.items()
  }
  on_gpu = device == "gpu"
  return [
    {
      "name": "online_latency",
      "value": round(median, 1),
      "unit": "us per jet, batch 1, copies included",
      "target": f"<= {LATENCY_TARGET:g}" if on_gpu else "none on a CPU",
      "holds": median <= LATENCY_TARGET or not on_gpu,
      "detail": {"p99": round(p99, 1), "by_length": microseconds, **common},
    },
    {
      "name": "online_rate",
      "value": round(rate, 1),
      "unit": f"jets/s, batches of {many.rows}",
      "target": "none",
      "holds": True,
      "detail": {"by_length": {n: round(x, 1) for n, x in rates.items()}, **common},
    },
  ]


def _times(call: Any, arguments: list[tuple], seconds: float, most: int = 20_000) -> np.ndarray:
  """Seconds of each of the calls that fit, at least ten."""
  times: list[float] = []
  end = time.perf_counter() + seconds
  while len(times) < 10 or (time.perf_counter() < end and len(times) < most):
    chosen = arguments[len(times) % len(arguments)]
    start = time.perf_counter()
    call(*chosen)
    times.append(time.perf_counter() - start)
  return np.array(times)


def _parts(call: Any, arguments: list[tuple], seconds: float) -> dict[str, float]:
  """Median microseconds of packing, of copy and program until the result is on the device, of the
  same with a program that only adds its input up, and of fetching a result."""
  packing = _times(call.pack, arguments, seconds / 4)
  packed = [(call.pack(*x),) for x in arguments[:64]]
  program = call.programs[packed[0][0].shape[1]]
  running = _times(lambda x: jax.block_until_ready(program(x)), packed, seconds / 4)
  shape = jax.ShapeDtypeStruct(packed[0][0].shape, packed[0][0].dtype)
  total = jax.jit(lambda x: x.sum(axis=(1, 2)), out_shardings=program.output_shardings)
  sums = total.lower(shape).compile()
  summing = _times(lambda x: jax.block_until_ready(sums(x)), packed, seconds / 4)
  results = [(jax.block_until_ready(program(x)),) for (x,) in packed * 16]
  fetching = _times(np.asarray, results, seconds / 4, most=len(results))  # the first time of each
  return {
    "pack": round(float(np.median(packing)) * 1e6, 1),
    "copy_and_program": round(float(np.median(running)) * 1e6, 1),
    "copy_and_sum": round(float(np.median(summing)) * 1e6, 1),
    "fetch": round(float(np.median(fetching)) * 1e6, 1),
  }
