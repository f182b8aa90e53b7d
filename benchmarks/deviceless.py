"""What the compiler says of the programs for an H100, on a machine without one.

  python -m benchmarks.deviceless [--only=kernels,step,online,devices] [--depth=8]

`kernels`: registers and spilled bytes of every kernel of the default configuration in bfloat16, as
the assembler reports them. `step`: temporary memory of a training step of `base` at 512 jets of 128
particles, and bytes that its operations read and write, each array counted at every operation that
touches it, beside those of the same step with a batch-normalised pair network and attention in
plain XLA, as in the published ParT; then with kernels between attentions too, and what these spill.
`online`: how often the program for one event (that of `benchmarks.online`) starts something on the
device, and how many kernels that is. `devices`: whether the step can be split over two devices (two
blocks unless --depth says more), and how many arrays they would gather. Nothing is autotuned, which
a real device would do.

Compiles on the CPU, in minutes; needs JAX >= 0.11 with the CUDA compiler's wheels, no driver:
  pip install --no-deps jax-cuda13-pjrt==VERSION jax-cuda13-plugin==VERSION nvidia-cuda-nvcc
      nvidia-nvvm nvidia-cuda-nvrtc nvidia-cuda-crt        (VERSION of jax)
The last line printed is JSON: a list of {"name", "value", "unit", "target", "holds", "detail"}.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import pathlib
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
  Mesh,
  NamedSharding,
  PartitionSpec,
  Sharding,
  SingleDeviceSharding,
)

from benchmarks import batch_norm_bias, hlo_traffic, kernels
from jetfm.kernels import PairBiasWeights

PARTS = ("kernels", "step", "online", "devices")
EVENTS, PARTICLES = 512, 128
SPILLED_BYTES, TEMPORARIES_GIB, TRAFFIC_RATIO = 128, 4.0, 0.5
"""Targets: at most."""
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all")
KERNEL = r'custom_call_target="[^"]*(?:triton|mosaic)'
DEVICE = "NVIDIA H100 80GB HBM3"
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84929347584
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA asks a device about itself; from NVIDIA's data sheet and CUDA's device properties."""


class Compiler:
  """Compiles for an H100, or several, and keeps what the assembler says."""

  def __init__(self, folder: pathlib.Path, devices: int = 1):
    from jax.experimental import topologies

    found = importlib.util.find_spec("nvidia")
    cuda = found and importlib.util.find_spec("nvidia.cu13")
    if not cuda or not cuda.submodule_search_locations:
      raise ImportError("no CUDA compiler: install the wheels that --help names")
    real = pathlib.Path(next(iter(cuda.submodule_search_locations)))
    self._cuda, self._log = folder / "cuda", folder / "ptxas.log"
    (self._cuda / "bin").mkdir(parents=True)
    (self._cuda / "nvvm").symlink_to(real / "nvvm")
    for program in (real / "bin").iterdir():
      (self._cuda / "bin" / program.name).symlink_to(program)
    assembler = self._cuda / "bin" / "ptxas"
    assembler.unlink()
    # What it says goes where it would, too: Mosaic reads there which version it is.
    both = f"2> >(tee -a {self._log} >&2)"
    assembler.write_text(f'#!/usr/bin/env bash\nexec {real}/bin/ptxas -v "$@" {both}\n')
    assembler.chmod(assembler.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{self._cuda / 'bin'}:{os.environ['PATH']}"
    topology = topologies.get_topology_desc(
      "h100", platform="cuda", target_config=H100, topology=f"1x{devices}x1"
    )
    mesh = Mesh(np.array(topology.devices), ("data",))
    self._sharding: Sharding = SingleDeviceSharding(topology.devices[0])
    if devices > 1:
      self._sharding = NamedSharding(mesh, PartitionSpec())
    self._split = NamedSharding(mesh, PartitionSpec("data"))
    self._mesh = mesh.abstract_mesh

  def __call__(
    self,
    function: Callable,
    *arrays: Any,
    dump: pathlib.Path | None = None,
    split: Sequence[int] = (),
  ) -> Any:
    """The compiled jit(function) for arrays, or shapes, of these shapes.

    Args:
      dump: folder for XLA's files.
      split: numbers of the arguments whose events are split over the devices.
    """

    def placed(number: int, tree: Any) -> Any:
      sharding = self._split if number in split else self._sharding
      return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    shapes = [placed(number, tree) for number, tree in enumerate(arrays)]
    function = function if hasattr(function, "trace") else jax.jit(function)
    options = {"xla_gpu_cuda_data_dir": str(self._cuda)}
    if dump is not None:
      options |= {"xla_dump_to": str(dump), "xla_dump_hlo_as_text": True}
    with self.target():  # kernels are lowered again for their part of the events
      lowered = function.trace(*shapes).lower(lowering_platforms=("cuda",))
      return lowered.compile(compiler_options=options)

  @contextlib.contextmanager
  def target(self) -> Iterator[None]:
    """In here, implementations are chosen for the H100."""
    with jax.sharding.use_abstract_mesh(self._mesh):
      yield

  def resources(self) -> Iterator[tuple[str, int, int]]:
    """Name, registers and spilled bytes of everything assembled so far."""
    report = self._log.read_text() if self._log.exists() else ""
    pattern = (
      r"entry function '(\S+)'.*?\n.*?\n\s+\d+ bytes stack frame, (\d+) bytes spill stores, "
      r"(\d+) bytes spill loads\n.*?Used (\d+) registers"
    )
    for name, stores, loads, registers in re.findall(pattern, report):
      yield name, int(registers), max(int(stores), int(loads))


def kernel_shapes(n: int, dtype: Any) -> dict[str, Any]:
  """Shapes of the arguments of `benchmarks.kernels.operation`."""

  def of(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)

  widths, heads = kernels.WIDTHS, kernels.HEADS
  weights = PairBiasWeights(
    kernels=tuple(of(*pair) for pair in itertools.pairwise(widths)),
    biases=tuple(of(width) for width in widths[1:]),
    scales=tuple(of(width) for width in widths[1:-1]),
    hidden=of(heads),
  )
  q = of(EVENTS, n, heads, kernels.HEAD_WIDTH, dtype=dtype)
  return {
    "q": q,
    "k": q,
    "v": q,
    "bias": of(EVENTS, heads, n, n, dtype=dtype),
    "weights": weights,
    "p4": of(EVENTS, n, 4),
    "mask": of(EVENTS, n, dtype=bool),
    "lengths": of(EVENTS, dtype=jnp.int32),
  }


def measure_kernels(compiler: Compiler) -> list[dict[str, Any]]:
  """One row for each kernel, forward and backward."""
  shapes = kernel_shapes(PARTICLES, jnp.bfloat16)
  for name, implementation in (
    ("attention", "triton"),
    ("attention", "mosaic_gpu"),
    ("bias", "triton"),
  ):
    function, arguments, count = kernels.operation(name, implementation, jnp.bfloat16)
    compiler(kernels.gradient_of(function, count), *(shapes[x] for x in arguments))
  return _spills(compiler, "pair_")


def _spills(compiler: Compiler, prefix: str) -> list[dict[str, Any]]:
  """A row for each kernel that was compiled, by name."""
  rows = {}
  for name, registers, spilled in compiler.resources():
    if name.startswith(prefix):
      rows[name] = _row(f"spills_{name}", spilled, "bytes", SPILLED_BYTES, {"registers": registers})
  return list(rows.values())


def measure_step(compiler: Compiler, depth: int | None) -> list[dict[str, Any]]:
  """Temporary memory and traffic of a training step."""
  with batch_norm_bias.as_xla():
    other = compiler(*_training_step(depth, implementation="xla"))
  memory, gigabytes, _ = _memory_and_traffic(other)
  detail = {"events": EVENTS, "particles": PARTICLES, "depth": depth or "that of base"}
  rows = []
  for name, options in (("", {}), ("_token_kernels", {"token_implementation": None})):
    ours = compiler(*_training_step(depth, **options))
    ours_memory, ours_gigabytes, operations = _memory_and_traffic(ours)
    both = {"kernels": round(ours_gigabytes, 2), "batch_norm_xla": round(gigabytes, 2)}
    rows += [
      _row(
        f"step_temporaries{name}",
        ours_memory,
        "GiB",
        TEMPORARIES_GIB,
        {**detail, "batch_norm_xla": round(memory, 3)},
      ),
      _row(
        f"step_traffic_ratio{name}",
        ours_gigabytes / gigabytes,
        "of batch norm in XLA",
        TRAFFIC_RATIO,
        {**detail, "gigabytes": both, "operations": operations},
      ),
    ]
  return rows + _spills(compiler, "token_")


def _memory_and_traffic(program: Any) -> tuple[float, float, int]:
  """GiB of temporaries, GB that a compiled program moves, and its number of operations."""
  temporaries = program.memory_analysis().temp_size_in_bytes / 2**30
  moved = hlo_traffic.operations(program.as_text())
  return temporaries, sum(moved) / 1e9, len(moved)


def _training_step(depth: int | None, **options: Any) -> tuple[Any, ...]:
  """The step of `base` with a classification head, and the shapes of its arguments.

  options: of the encoder.
  """
  from benchmarks import own_model

  options |= {} if depth is None else {"depth": depth}
  model, tasks, schema, _ = own_model.tagger("bfloat16", **options)
  batch = own_model.empty_batch(schema, EVENTS, PARTICLES)
  key = jax.random.key(0)
  views = {name: task.views(key, batch, True) for name, task in tasks.items()}
  variables = jax.eval_shape(model.init, key, views)
  create, step = own_model.trainer(model, tasks, variables["params"])
  return step, jax.eval_shape(create, variables, key), (batch,)


def measure_online(compiler: Compiler, folder: pathlib.Path) -> list[dict[str, Any]]:
  """Launches and kernels of the program for one event, at each of its lengths."""
  from benchmarks import online, own_model
  from jetfm.inference import Online, Predictor
  from jetfm.inference.groups import filler
  from jetfm.train.restore import TrainedModel

  model, tasks, schema, _ = own_model.tagger("bfloat16")
  variables = own_model.trained_variables(model, tasks, filler(schema, 1, online.LENGTHS[0]))
  predictor = Predictor(TrainedModel(model, tasks, variables, schema, checkpoint=None))
  launches, kernels_of = {}, {}
  for length in online.LENGTHS:
    dump = folder / f"online_{length}"

    def compiled(self, run, shape, dump=dump):
      return compiler(run, shape, dump=dump)

    with compiler.target(), mock.patch.object(Online, "_compiled", compiled):
      predictor.online([online.NAME], (length,))
    # A line for each thing that the program does; indented: part of the command buffer above.
    (report,) = dump.glob("*thunk_sequence_after_thunk_passes.txt")
    lines = [line for line in report.read_text().splitlines() if line.strip()]
    launches[length] = sum(not line.startswith(" ") for line in lines)
    kernels_of[length] = sum("kCommandBuffer" not in line for line in lines)
  row = {
    "name": "online_launches",
    "value": max(launches.values()),
    "unit": "for an event",
    "target": "none",
    "holds": True,
    "detail": {"launches": launches, "kernels": kernels_of},
  }
  return [row, *_spills(compiler, "token_")]


def measure_devices(compiler: Compiler, depth: int | None) -> dict[str, Any]:
  """Arrays that two devices gather, where each has half of the events of a training step."""
  program = compiler(*_training_step(depth or 2), split=(1,)).as_text()
  found = {name: len(re.findall(rf" {name}(?:-start)?\(", program)) for name in COLLECTIVES}
  found["kernels"] = len(re.findall(KERNEL, program))  # of ours: without one it would say nothing
  return _row("gathered_arrays", found["all-gather"], "in a step of two devices", 0, found)


def _row(name: str, value: float, unit: str, target: float, detail: dict[str, Any]):
  return {
    "name": name,
    "value": round(value, 3),
    "unit": unit,
    "target": f"<= {target:g}",
    "holds": value <= target,
    "detail": detail,
  }


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the rows; status 1 when a target is missed, 2 without a compiler."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.deviceless",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--only", default=",".join(PARTS))
  parser.add_argument("--depth", type=int, help="of the encoder, instead of that of `base`")
  options = parser.parse_args(argv)
  only = options.only.split(",")
  if unknown := set(only) - set(PARTS):
    parser.error(f"no part '{unknown.pop()}'; there are {', '.join(PARTS)}")
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    try:
      compiler = Compiler(pathlib.Path(folder))
    except ImportError as error:
      print(f"benchmarks.deviceless: {error}", file=sys.stderr)
      return 2
    if "kernels" in only:
      rows += measure_kernels(compiler)
    if "step" in only:
      rows += measure_step(compiler, options.depth)
    if "online" in only:
      rows += measure_online(compiler, pathlib.Path(folder))
    if "devices" in only:
      rows.append(measure_devices(Compiler(pathlib.Path(folder) / "two", 2), options.depth))
  print(f"compiled for {DEVICE} by jax {jax.__version__}, no device")
  for row in rows:
    mark = "ok  " if row["holds"] else "FAIL"
    print(
      f"{mark} {row['name']:<36}{row['value']:>10} {row['unit']} ({row['target']})", row["detail"]
    )
  print(json.dumps(rows))
  return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
  sys.exit(main())
