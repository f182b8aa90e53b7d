"""How fast jets get into a data set and out of it: rows `ingest`, `loader_kin4`, `loader_full`.

Every row is measured in a fresh process, so that its peak memory is its own, beside a bound that is
measured in the same run: reading the same branches with uproot and nothing else, and copying the
arrays of the same batches.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import pathlib
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

INGEST_TARGET = 5_000.0  # jets per second and core
LOADER_TARGETS = {"kin4": 150_000.0, "full": 50_000.0}  # jets per second in one process
BATCH_SIZE, LENGTHS = 1024, (32, 48, 64, 96, 128)


def make_files(out: pathlib.Path, generated_per_class: int, total: int, seed: int = 0) -> int:
  """ROOT files of about `total` jets: each class's generated jets, written again and again.

  Returns: the number of jets. Copies do not matter to the speed of anything measured here.
  """
  from jetfm.generate import CLASS_NAMES, PROCESSES, generate_jets, take, write_tables

  copies = max(1, round(total / (generated_per_class * len(CLASS_NAMES))))
  out.mkdir(parents=True, exist_ok=True)
  for name in CLASS_NAMES:
    tables = list(take(generate_jets(name, seed), generated_per_class))
    many = itertools.chain.from_iterable(itertools.repeat(tables, copies))
    write_tables(out / f"{PROCESSES[name].prefix}_000.root", many, {"copies": copies})
  return copies * generated_per_class * len(CLASS_NAMES)


def in_fresh_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
  """Runs a measurement in a process of its own; its peak memory is added to the row's detail."""
  with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    return pool.submit(functools.partial(_with_memory, work), *arguments).result()


def _with_memory(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
  row = work(*arguments)
  row["detail"]["peak_memory_mb"] = _peak_megabytes()
  return row


def _peak_megabytes() -> int:
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure_ingest(files: pathlib.Path, out: pathlib.Path) -> dict[str, Any]:
  """Files to a complete data set of input set `full`, on one core, compilation included."""
  import uproot

  from jetfm.data.ingest import ingest

  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
  start, cpu = time.perf_counter(), time.process_time()
  manifest = ingest({"": str(files)}, out, say=lambda line: None)
  seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
  jets = sum(split.num_events for split in manifest.splits.values())
  start = time.perf_counter()
  for path in files.glob("*.root"):
    with uproot.open(path) as file:
      for _ in file["tree"].iterate(filter_name=["part_*", "jet_*", "label_*"], step_size=10_000):
        pass
  bound = jets / (time.perf_counter() - start)
  row = _row("ingest", jets / seconds, "jets/s/core", INGEST_TARGET, jets, bound, "uproot alone")
  row["detail"]["per_cpu_second"] = round(jets / cpu, 1)
  return row


def measure_loader(dataset: pathlib.Path, inputs: str, seconds: float = 5.0) -> dict[str, Any]:
  """Jets of grouped and padded numpy batches per second, shuffled, in one process."""
  import jax

  from jetfm.data import open_dataset

  start_memory = _peak_megabytes()
  loader = open_dataset(dataset, inputs).loader(BATCH_SIZE, LENGTHS)
  batches = loader.iterate()
  next(batches)  # threads start, files open
  jets, start, cpu = 0, time.perf_counter(), time.process_time()
  while (elapsed := time.perf_counter() - start) < seconds:
    jets += sum(int(np.count_nonzero(batch.weight)) for batch in next(batches))
  rate, per_cpu = jets / elapsed, jets / (time.process_time() - cpu)
  groups = loader[0]
  own = sum(int(np.count_nonzero(batch.weight)) for batch in groups)
  arrays = jax.tree.leaves(groups)
  repeats, start = 200, time.perf_counter()
  for _ in range(repeats):
    for array in arrays:
      array.copy()
  bound = own * repeats / (time.perf_counter() - start)
  name, target = f"loader_{inputs}", LOADER_TARGETS[inputs]
  row = _row(name, rate, "jets/s", target, jets, bound, "copying the batches")
  row["detail"]["per_cpu_second"] = round(per_cpu, 1)
  row["detail"]["memory_before_mb"] = start_memory
  return row


def _row(
  name: str, value: float, unit: str, target: float, jets: int, bound: float, what: str
) -> dict[str, Any]:
  return {
    "name": name,
    "value": round(value, 1),
    "unit": unit,
    "target": f">= {target:g}",
    "holds": value >= target,
    "detail": {
      "jets": jets,
      "bound": what,
      "bound_rate": round(bound, 1),
      "share_of_bound": round(value / bound, 3),
    },
  }
