"""Bytes that the operations of a compiled program read and write."""

from __future__ import annotations

import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2}
_BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")
_COUNT = re.compile(r"/\*index=\d+\*/")
"""Says in a long tuple which of its parts this is."""
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (\([^=]*?\)|\S+) ([\w\-]+)\((.*?)\)(?:,|$)")


def bytes_moved(program: str) -> int:
  """Operands and results of all `operations`; an array counts wherever it is used."""
  return sum(operations(program))


def operations(program: str) -> list[int]:
  """Bytes that each operation of the entry computation reads and writes, in HLO text.

  What is fused inside an operation moves nothing. Loops count as one operation.
  """
  entry = program[program.index("\nENTRY") + 1 :]
  sizes: dict[str, int] = {}
  found = []
  for line in entry.splitlines()[1:]:
    match = _INSTRUCTION.match(_COUNT.sub("", line))
    if match is None:
      continue
    name, shape, operation, arguments = match.groups()
    sizes[name] = array_bytes(shape)
    if operation not in _FREE:
      read = sum(sizes.get(x, 0) for x in re.findall(r"%([\w.\-]+)", arguments))
      found.append(sizes[name] + read)
  return found


def array_bytes(shape: str) -> int:
  """Bytes of a shape as HLO writes it, such as `f32[2,3]{1,0}` or a tuple of these."""
  total = 0
  for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shape):
    count = _BYTES.get(dtype, 0)
    for size in sizes.split(","):
      count *= int(size) if size else 1
    total += count
  return total
