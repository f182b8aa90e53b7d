"""Jets per second of `base` against ParT of weaver-core: rows `train_ratio` and `infer_ratio`.

Both sides run in processes of their own on the same shuffled jets with real multiplicities, in
float32, with two threads each and the optimizer included, in alternating windows of time; the ratio
is that of the medians. The peer's environment is made on the first run, apart from ours.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import venv
from typing import Any

import numpy as np

from jetfm.schema import Schema

ROOT = pathlib.Path(__file__).parents[1]
REAL_JETS = ROOT.parent / "shared" / "real"
TARGET = 1.0
THREADS = 2
BATCH_SIZE = 128
PARTICLES = 128
PEER_PACKAGES = ("torch==2.13.0", "numpy>=2", "tqdm")
PEER_WITHOUT_DEPENDENCIES = "weaver-core==0.5.3"


class Side:
  """One of the two programs, waiting for `rate`."""

  def __init__(self, name: str, command: list[str]):
    environment = {
      **os.environ,
      "PYTHONPATH": str(ROOT),
      "JAX_PLATFORMS": "cpu",
      "OMP_NUM_THREADS": str(THREADS),
    }
    self.name = name
    self._process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.about = self._read()

  def rate(self, kind: str, seconds: float) -> float:
    """Jets per second of 'train' or 'infer' over at least so many seconds."""
    self._process.stdin.write(f"{kind} {seconds}\n")
    self._process.stdin.flush()
    return self._read()

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()

  def _read(self) -> Any:
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
    return json.loads(line)


def peer_python() -> str:
  """The interpreter of the peer's environment, which is made when there is none.

  It lies in the user's cache folder; the variable JETFM_PEER_PYTHON names another.
  """
  if given := os.environ.get("JETFM_PEER_PYTHON"):
    return given
  cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
  folder = cache / "jetfm" / "peer-weaver"
  python, done = folder / "bin" / "python", folder / "installed"
  if not done.exists():
    print(f"Making the peer's environment {folder} (about 1 GB)...", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *PEER_PACKAGES], check=True)
    subprocess.run([*install, "--no-deps", PEER_WITHOUT_DEPENDENCIES], check=True)
    done.touch()
  return str(python)


def write_jets(path: pathlib.Path, jets: int = 1536, seed: int = 0) -> str:
  """Shuffled jets with the multiplicities of real ones, and ParT's seven features; says which."""
  files = sorted(REAL_JETS.glob("*.npz"))
  rng = np.random.default_rng(seed)
  if files:
    p4 = np.concatenate([np.load(file)["p4"] for file in files])
    count = np.concatenate([np.load(file)["num_particles"] for file in files])
    source = f"{len(p4)} real jets of {', '.join(file.stem for file in files)}"
  else:
    # Gamma with the mean and the spread of published jets.
    count = np.clip(rng.gamma(5.6, 7.5, jets).round(), 2, PARTICLES).astype(np.int32)
    p4 = _synthetic(rng, jets)
    source = "synthetic jets with mean multiplicity 42"
  order = rng.permutation(jets) % len(p4)
  p4, count = p4[order, :PARTICLES].astype(np.float32), np.minimum(count[order], PARTICLES)
  mask = np.arange(PARTICLES) < count[:, None]
  p4 *= mask[..., None]
  schema = _schema()
  columns = schema.values(p4, np.zeros((*mask.shape, len(schema.stored)), np.float32), mask)
  features = [f.forward(columns[..., i]) for i, f in enumerate(schema.features)]
  np.savez(
    path,
    p4=p4,
    mask=mask,
    features=np.stack(features, axis=-1).astype(np.float32) * mask[..., None],
    label=rng.integers(0, 10, jets),
  )
  return f"{source}; mean multiplicity {count.mean():.1f}"


def _schema() -> Schema:
  from jetfm.data import jet_schema

  return jet_schema("kin", targets=())


def _synthetic(rng: np.random.Generator, jets: int) -> np.ndarray:
  pt = np.sort(rng.lognormal(1.5, 1.3, (jets, PARTICLES)), axis=1)[:, ::-1]
  eta = rng.uniform(-2, 2, (jets, 1)) + rng.normal(0, 0.2, pt.shape)
  phi = rng.uniform(-np.pi, np.pi, (jets, 1)) + rng.normal(0, 0.2, pt.shape)
  return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], -1)


def measure_models(
  kinds: tuple[str, ...] = ("train", "infer"), repeats: int = 3, seconds: float = 20.0
) -> list[dict[str, Any]]:
  """Rows `<kind>_ratio`; `detail` has rates, their spread, parameters, jets and versions."""
  if hasattr(os, "sched_setaffinity"):  # both sides inherit it; XLA takes a thread per core
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "jets.npz"
    jets = write_jets(path)
    peer_command = [peer_python(), str(ROOT / "benchmarks" / "peer_weaver.py"), str(path)]
    peer = Side("weaver-core", [*peer_command, str(BATCH_SIZE), str(THREADS)])
    own = Side("jetfm", [sys.executable, "-m", "benchmarks.own_model", str(path), str(BATCH_SIZE)])
    rows = []
    for kind in kinds:
      rates: dict[str, list[float]] = {"jetfm": [], "weaver": []}
      for _ in range(repeats):
        rates["jetfm"].append(own.rate(kind, seconds))
        rates["weaver"].append(peer.rate(kind, seconds))
      medians = {name: statistics.median(values) for name, values in rates.items()}
      ratio = medians["jetfm"] / medians["weaver"]
      rows.append(
        {
          "name": f"{kind}_ratio",
          "value": round(ratio, 3),
          "unit": "x weaver-core",
          "target": f">= {TARGET:g}",
          "holds": ratio >= TARGET,
          "detail": {
            **{f"{n}_jets_per_s": [round(x, 1) for x in values] for n, values in rates.items()},
            "parameters": {"jetfm": own.about["parameters"], "weaver": peer.about["parameters"]},
            "jets": jets,
            "batch_size": BATCH_SIZE,
            "threads": THREADS,
            "versions": f"{own.about['versions']}; {peer.about['versions']}",
            "load": round(os.getloadavg()[0], 1),
          },
        }
      )
    own.close()
    peer.close()
  return rows


if __name__ == "__main__":
  print(json.dumps(measure_models(), indent=2))
