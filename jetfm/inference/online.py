"""A checkpoint's model compiled ahead of time, for events that come a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.batches import check_padding
from jetfm.inference.groups import filler
from jetfm.schema import Schema
from jetfm.typing import Array, Batch

Model = Callable[[Batch], dict[str, jax.Array]]
"""Events of one shape -> named results, a row for each event."""
Program = Callable[..., jax.Array]


class Online:
  """Programs of fixed shapes, compiled when this is made: a call only runs one.

      tagger = predictor.online(["classification"], lengths=(32, 64, 128))
      scores = tagger(p4, features)["classification"]             # one event: (1, classes)

  `Predictor.online` makes it. A call takes 1 to `rows` events, padded to the shortest of the
  `lengths` that holds the longest of them. They go to the device as one array, which
  nothing keeps beyond the call, and the results come back as one.

  Results are those of the `Predictor` but for rounding, as encoder and heads are one program here,
  on a GPU for few events one CUDA graph of kernels made for these (`jetfm.inference.few_events`).
  To the last bit they depend on nothing but the event and the length that it is padded to: not on
  the other events of the call, on what its padding held, or on earlier calls (under the conditions
  that `Predictor` names).

  Attributes:
    lengths: of the programs, ascending.
    rows: most events of a call; the programs always compute so many.
    programs: by length, from what `pack` makes to the results side by side, (rows, columns).
  """

  def __init__(
    self,
    model: Model,
    schema: Schema,
    targets: Mapping[str, Sequence[str]],
    lengths: Sequence[int],
    rows: int,
  ):
    """`targets`: the names of the columns of results that are given by column."""
    if not lengths or min(lengths) < 1 or rows < 1:
      raise ValueError(f"got lengths {tuple(lengths)} and {rows} rows: expected at least one each")
    self.lengths, self.rows = tuple(sorted(set(lengths))), rows
    self._schema, self._targets = schema, dict(targets)
    self._stored, self._groups = len(schema.stored), len(schema.groups)
    self.programs: dict[int, Callable[[np.ndarray], jax.Array]] = {}
    self._columns: dict[str, tuple[slice, tuple[int, ...]]] = {}
    for length in self.lengths:
      self.programs[length] = self._compiled(*self._program(model, length))

  def __call__(
    self,
    p4: Array,
    features: Array | None = None,
    present: Array | None = None,
    mask: Array | None = None,
  ) -> dict[str, Any]:
    """Results by name, numpy arrays with a row for each event; the arguments as in a `Batch`.

    Args:
      p4: (B, N, 4) in GeV, in the laboratory.
      features: (B, N, F) stored features; may be left out where the schema stores none.
      present: (B, N, G); None where every group measured every particle.
      mask: (B, N) bool, particles first; None where every slot with an energy other than 0 holds a
        particle, as `jetfm.batch_of` has it.
    Raises: ValueError for events that do not fit: too many, too long, or of other columns.
    """
    packed = self.pack(p4, features, present, mask)
    events = len(p4)
    made = np.asarray(self.programs[packed.shape[1]](packed))[:events]
    results: dict[str, Any] = {}
    for name, (columns, shape) in self._columns.items():
      results[name] = made[:, columns].reshape(events, *shape)
    for name, targets in self._targets.items():
      results[name] = {target: results[name][:, i] for i, target in enumerate(targets)}
    return results

  def pack(
    self, p4: Array, features: Array | None, present: Array | None, mask: Array | None
  ) -> np.ndarray:
    """The events as the one array that a program takes, (rows, length, columns) float32."""
    p4 = np.asarray(p4)
    if p4.ndim != 3 or p4.shape[2] != 4:
      raise ValueError(f"p4 has shape {p4.shape}, expected (events, particles, 4)")
    events = len(p4)
    if not 0 < events <= self.rows:
      raise ValueError(
        f"got {events} events, expected 1 to {self.rows}: give them in parts, or compile with "
        f"rows={events}"
      )
    mask = p4[..., 0] != 0 if mask is None else np.asarray(mask, bool)
    if mask.shape != p4.shape[:2]:
      raise ValueError(f"mask has shape {mask.shape}, expected {p4.shape[:2]}")
    check_padding(mask)
    longest = int(mask.sum(axis=1).max())
    length = next((n for n in self.lengths if n >= longest), None)
    if length is None:
      raise ValueError(
        f"an event has {longest} particles, expected at most {self.lengths[-1]}: keep the leading "
        "ones, or compile for a greater length"
      )
    seen = mask[:, :longest]
    stored, end = self._stored, 4 + self._stored
    packed = np.zeros((self.rows, length, end + self._groups + 1), np.float32)
    here = packed[:events, :longest]
    here[..., :4] = p4[:, :longest]
    if features is not None or stored:
      features = self._checked("features", features, (*p4.shape[:2], stored))
      here[..., 4:end] = features[:, :longest]
    if present is None:
      here[..., end:-1] = seen[..., None]
    else:
      present = self._checked("present", present, (*p4.shape[:2], self._groups))
      here[..., end:-1] = present[:, :longest]
    here[~seen] = 0  # by assignment: 0 times what padding may hold is not 0
    here[..., -1] = seen
    return packed

  def _checked(self, name: str, array: Array | None, shape: tuple[int, ...]) -> np.ndarray:
    got = None if array is None else np.shape(array)
    if got != shape:
      names = self._schema.stored if name == "features" else self._schema.groups
      raise ValueError(
        f"{name} has shape {got}, expected {shape}: columns {list(names)} of the input set "
        f"'{self._schema.name}'"
      )
    return np.asarray(array)

  def _program(self, model: Model, length: int) -> tuple[Program, jax.ShapeDtypeStruct]:
    """From what `pack` makes to the results side by side, and the shape of what `pack` makes."""
    like = filler(self._schema, self.rows, length)
    end = 4 + self._stored

    def run(packed: jax.Array) -> jax.Array:
      batch = Batch(
        p4=packed[..., :4],
        features=packed[..., 4:end],
        present=packed[..., end:-1] > 0,
        mask=packed[..., -1] > 0,
        label=like.label,
        targets=like.targets,
        weight=like.weight,
        event_id=like.event_id,
        spectators=like.spectators,
      )
      made = model(batch)
      start = 0
      for name, values in made.items():
        width = int(np.prod(values.shape[1:]))
        self._columns[name] = slice(start, start + width), values.shape[1:]
        start += width
      flat = [x.reshape(self.rows, -1).astype(jnp.float32) for x in made.values()]
      return jnp.concatenate(flat, axis=1)

    shape = (self.rows, length, end + self._groups + 1)
    return run, jax.ShapeDtypeStruct(shape, jnp.float32)

  def _compiled(self, run: Program, shape: jax.ShapeDtypeStruct) -> Program:
    results = None
    if jax.default_backend() == "gpu":
      # The program itself writes to the host's memory: a copy asked for afterwards takes longer
      # than the model does.
      results = jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    # Not donated: no result has the input's shape. Its copy on the device ends with the call.
    return jax.jit(run, out_shardings=results).lower(shape).compile()
