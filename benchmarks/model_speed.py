"""`base` against another implementation: rows `train_ratio`, `train_memory_ratio`, and `infer_...`.

Both sides run in processes of their own on the same shuffled jets, the optimizer included, in
alternating windows of time; a window ends when the device has done its work. The ratio is that of
the medians of real jets per second. On a CPU both compute in float32 with two threads; where there
is a GPU both use it, in bfloat16 unless asked otherwise (the peer by autocast). With `padded` every
slot of every jet is filled, else multiplicities are those of real jets. On a GPU all programs are
made and compiled at the same time, before the first window.

The memory ratio is that of what running takes, which is what grows with the batch. On a CPU: the
most memory that the process had resident during some steps, less what it had before the first, with
the model made and compiled; what a compiler has freed is given back to the system first. On a GPU:
the most bytes of the device that the process's own allocator had in use, parameters and jets
included. `detail` also has the peak of each whole process, with and without its compiler.

The peers' environment is made on the first run, apart from ours; JETFM_PEER_PYTHON names another
interpreter, which may be this one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from typing import Any, NamedTuple

from benchmarks.model_jets import ROOT, write_jets
from benchmarks.side import ANSWER

KINDS = ("train", "infer")
THREADS = 2
BATCH_SIZE = {"cpu": 128, "gpu": 512}
DTYPE = {"cpu": "float32", "gpu": "bfloat16"}
SHORTEST = 2.0
"""Seconds of a window, however small the budget."""
PEER_PACKAGES = ("torch==2.13.0", "numpy>=2", "tqdm")
PEER_WITHOUT_DEPENDENCIES = ("weaver-core==0.5.3", "lgatr==2.0.0")


class Targets(NamedTuple):
  """Least ratios of speed, by device, peer and whether every slot is filled."""

  train: float
  infer: float


TARGETS = {
  ("cpu", "weaver", False): Targets(1.5, 2.5),
  ("gpu", "weaver", False): Targets(3.0, 3.0),
  ("gpu", "weaver", True): Targets(2.5, 2.5),
  ("gpu", "weaver-compile", False): Targets(2.0, 2.0),
  ("gpu", "weaver-compile", True): Targets(1.8, 1.8),
}
OTHERWISE = Targets(1.0, 1.0)
OURS, WITHOUT = "jetfm", "jetfm-plain"
"""Our side, and the peer that is our own model."""
MEMORY_TARGET = 0.5


class Side:
  """One of the two programs, waiting for `ask`."""

  def __init__(self, name: str, command: list[str]):
    # XLA would else take most of a GPU's memory at once, and leave none to the other.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    self.name = name
    self._process = subprocess.Popen(
      command,
      cwd=ROOT,  # where `python -m` looks for `benchmarks`
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  @functools.cached_property
  def about(self) -> dict[str, Any]:
    """Its first line, which comes when it is ready."""
    return self._read()

  def wait(self) -> None:
    """Returns when it is ready, or has ended."""
    with contextlib.suppress(RuntimeError):
      _ = self.about

  def ask(self, question: str) -> Any:
    """The answer to a line that benchmarks/side.py understands."""
    self._process.stdin.write(f"{question}\n")
    self._process.stdin.flush()
    return self._read()

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()

  def _read(self) -> Any:
    for line in self._process.stdout:
      if line.startswith(ANSWER):
        return json.loads(line.removeprefix(ANSWER))
      print(line, end="", file=sys.stderr)  # what a library has to say
    raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")


def peer_python() -> str:
  """The interpreter of the peers' environment, which is made when there is none.

  It lies in the user's cache folder; the variable JETFM_PEER_PYTHON names another.
  """
  if given := os.environ.get("JETFM_PEER_PYTHON"):
    return given
  cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
  folder = cache / "jetfm" / "peers"
  python, done = folder / "bin" / "python", folder / "installed"
  wanted = "\n".join((*PEER_PACKAGES, *PEER_WITHOUT_DEPENDENCIES))
  if not done.exists() or done.read_text() != wanted:
    print(f"Making the peers' environment {folder} (about 1 GB)...", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *PEER_PACKAGES], check=True)
    subprocess.run([*install, "--no-deps", *PEER_WITHOUT_DEPENDENCIES], check=True)
    done.write_text(wanted)
  return str(python)


def device_kind() -> str:
  """'gpu' where JAX sees one, else 'cpu'; asked in another process, which then gives it back."""
  ask = "import jax; print(jax.default_backend())"
  environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  done = subprocess.run(
    [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True
  )
  return "gpu" if done.stdout.split()[-1] in ("gpu", "cuda") else "cpu"


def measure_models(
  kinds: tuple[str, ...] = KINDS,
  peers: tuple[str, ...] = ("weaver",),
  *,
  repeats: int = 3,
  seconds: float = 20.0,
  batch_size: int | None = None,
  dtype: str | None = None,
  padded: bool = False,
  token_kernels: bool = False,
  budget: float | None = None,
) -> list[dict[str, Any]]:
  """Rows `<kind>_ratio` and `<kind>_memory_ratio` for every peer; `detail` has their parts.

  Names of rows are followed by those of peers other than weaver, by `padded` and `token_kernels`.

  Args:
    peers: 'jetfm' is our own model without `token_kernels`.
    token_kernels: our side has kernels between attentions too, where it is on a GPU.
    budget: seconds that all may take, about: windows become shorter, compilation does not.
  """
  device = device_kind()
  batch_size, dtype = batch_size or BATCH_SIZE[device], dtype or DTYPE[device]
  if device == "cpu" and hasattr(os, "sched_setaffinity"):
    # Both sides inherit it; XLA takes a thread per core.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "jets.npz"
    steps = 12 if device == "cpu" else 8
    common = {
      "jets": write_jets(path, steps * batch_size, padded=padded),
      "batch_size": batch_size,
      "dtype": dtype,
      "threads": THREADS if device == "cpu" else None,
    }
    for kind in kinds:
      share = None if budget is None else budget / len(kinds)
      began = time.perf_counter()
      flags = [str(path), f"--kind={kind}", f"--batch-size={batch_size}", f"--dtype={dtype}"]
      threads = [f"--threads={THREADS}"] if device == "cpu" else []
      plain = [sys.executable, "-m", "benchmarks.own_model", *flags]
      plain += ["--padded"] if padded else []
      commands = {OURS: plain + (["--token-kernels"] if token_kernels else [])}
      for peer in peers:
        commands[_side(peer)] = (
          plain
          if peer == OURS
          else [peer_python(), "-m", "benchmarks.peer_torch", peer, *flags, *threads]
        )
      sides = {}
      for name, command in commands.items():
        sides[name] = Side(name, command)
        if device == "cpu":  # few cores: one after the other
          sides[name].wait()
      abouts: dict[str, Any] = {}
      for name in list(sides):
        try:
          abouts[name] = sides[name].about
        except RuntimeError as error:  # a peer may not bear what it is given
          if name == OURS:
            raise
          print(f"left out: {error}", file=sys.stderr)
          del sides[name]
      spent = time.perf_counter() - began
      window = seconds
      if share is not None:
        window = min(seconds, max((share - spent) / (1.25 * repeats * len(sides)), SHORTEST))
        print(f"{kind}: ready after {spent:.0f} s, windows of {window:.1f} s", file=sys.stderr)
      rates: dict[str, list[float]] = {name: [] for name in sides}
      for _ in range(repeats):
        for name, side in sides.items():
          rates[name].append(side.ask(f"rate {window}"))
      memory = {name: side.ask("memory") for name, side in sides.items()}
      for side in sides.values():
        side.close()
      for peer in (name for name in map(_side, peers) if name in sides):
        two = (OURS, peer)
        detail = {
          **common,
          "device": abouts[OURS]["device"],
          "parameters": {name: abouts[name]["parameters"] for name in two},
          "versions": "; ".join(abouts[name]["versions"] for name in two),
          "token_kernels": token_kernels,
        }
        target = TARGETS.get((device, peer, padded), OTHERWISE)[KINDS.index(kind)]
        ours = ["token_kernels"] if token_kernels else []
        marks = [] if peer == "weaver" else [peer.replace("-", "_")]
        rows += _rows(
          kind,
          peer,
          "_".join(["", *marks, *(["padded"] if padded else []), *ours]),
          {name: rates[name] for name in two},
          {name: memory[name] for name in two},
          target,
          detail,
        )
  return rows


def _side(peer: str) -> str:
  return WITHOUT if peer == OURS else peer


def _rows(kind, peer, suffix, rates, memory, target: float, detail) -> list[dict[str, Any]]:
  medians = {name: statistics.median(values) for name, values in rates.items()}
  ratio = medians[OURS] / medians[peer]
  most = 1.0 if peer == WITHOUT else MEMORY_TARGET
  taken = memory[OURS]["used"] / memory[peer]["used"]
  speed = {f"{name}_jets_per_s": [round(x, 1) for x in values] for name, values in rates.items()}
  megabytes = {
    f"{name}_MB": {what: round(x / 1e6, 1) for what, x in values.items()}
    for name, values in memory.items()
  }
  return [
    {
      "name": f"{kind}_ratio{suffix}",
      "value": round(ratio, 3),
      "unit": f"x {peer}",
      "target": f">= {target:g}",
      "holds": ratio >= target,
      "detail": {**speed, **detail, "load": round(os.getloadavg()[0], 1)},
    },
    {
      "name": f"{kind}_memory_ratio{suffix}",
      "value": round(taken, 3),
      "unit": f"x {peer}",
      "target": f"<= {most:g}",
      "holds": taken <= most,
      "detail": megabytes,
    },
  ]
