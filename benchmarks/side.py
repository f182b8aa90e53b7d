"""One of two programs that a benchmark compares: answers on its standard output, line by line.

Needs the standard library alone: peers run it in environments of their own. After a first line
about itself it answers `rate SECONDS` with jets per second and `memory` with bytes, each in a line
of JSON after `ANSWER`: what libraries print is something else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

ANSWER = "answer: "
STEPS_AT_A_TIME = {"cpu": 1, "gpu": 32}
"""Steps between two looks at the clock, which wait for the device: a GPU must not run dry."""
MEMORY_STEPS = 6
"""Batches during which the most memory is looked for: the peer's are not all of one length."""
_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")


def resident() -> int:
  """Bytes of memory that this process has now."""
  return _status("VmRSS") or peak_resident()


def peak_resident() -> int:
  """Most bytes that it had since its start or the last `forget_peak`."""
  return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_back_free_memory() -> None:
  """Returns to the system what was freed, by a compiler for example (where the C library can)."""
  with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
  """From now on the peak is counted anew, where the system can do that (Linux)."""
  if _CLEAR.exists():
    _CLEAR.write_text("5")


def _status(field: str) -> int | None:
  if not _STATUS.exists():
    return None
  line = next(x for x in _STATUS.read_text().splitlines() if x.startswith(f"{field}:"))
  return int(line.split()[1]) * 1024


def serve(
  about: dict[str, Any],
  step: Callable[[int], Any],
  wait: Callable[[], Any],
  jets: Sequence[int],
  device: str,
  before: int,
  device_peak: Callable[[], int] | None = None,
) -> None:
  """Answers until the input ends.

  Args:
    about: the first line.
    step: starts the work of batch i.
    wait: returns when all that was started is done.
    jets: real jets of each batch.
    device: 'cpu' or 'gpu'.
    before: `resident` before the model first ran, made and compiled.
    device_peak: most bytes of the device's memory in use, on a GPU.
  """
  count, compiling = len(jets), peak_resident()

  def rate(seconds: float) -> float:
    done = i = 0
    step(0)
    wait()
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
      for _ in range(STEPS_AT_A_TIME[device]):
        step(i % count)
        done += jets[i % count]
        i += 1
      wait()
    return done / spent

  def memory() -> dict[str, int]:
    give_back_free_memory()
    forget_peak()
    for i in range(min(count, MEMORY_STEPS)):
      step(i)
      wait()
    host = peak_resident()
    used = host - before if device_peak is None else device_peak()
    return {"used": used, "host_peak": host, "host_peak_with_compiler": max(compiling, host)}

  _say(about)
  for line in sys.stdin:
    command, *arguments = line.split()
    _say(rate(float(arguments[0])) if command == "rate" else memory())


def _say(message: Any) -> None:
  print(ANSWER + json.dumps(message), flush=True)
