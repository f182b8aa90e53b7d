"""A file of benchmarks/results: what was measured, the command, the machine and the versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def write_result(
  path: pathlib.Path, module: str, argv: Sequence[str], rows: Sequence[dict[str, Any]], **more: Any
) -> None:
  """Writes the rows of a benchmark, and further keys, as JSON with one row a line.

  Args:
    module, argv: the command, as in python -m MODULE ARGV.
  """
  device = jax.devices()[0]
  document = {
    "command": shlex.join(["python", "-m", module, *argv]),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "commit": _commit(),
    "machine": f"{device.device_kind} ({jax.default_backend()}), {_processor()}, "
    f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    **more,
  }
  head = json.dumps(document, indent=1)[:-2]
  lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in rows)
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(path.name + ".new")
  new.write_text(f'{head},\n "rows": [\n  {lines}\n ]\n}}\n')
  new.replace(path)


def _commit() -> str:
  """Of this clone, with '+' when files differ from it; '' outside of one."""
  try:
    found = subprocess.run(
      ["git", "describe", "--always", "--dirty=+"],
      cwd=pathlib.Path(__file__).parent,
      capture_output=True,
      text=True,
      check=True,
    )
  except (OSError, subprocess.CalledProcessError):
    return ""
  return found.stdout.strip()


def _processor() -> str:
  """The name that Linux gives to the first processor."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.machine()
