"""An encoder and its heads, with the parameter paths that fine-tuning relies on."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jetfm.nn.initializers import drawn_apart, drawn_together
from jetfm.typing import Array, Batch, PyTree

Variables = dict[str, PyTree]
"""{'params': ..., 'constants': ...}, each with the branches `encoder` and `heads/<task>`."""


def named_key(key: Array, name: str) -> jax.Array:
  """A key for the given purpose: the same name gives the same key."""
  return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


@dataclasses.dataclass(frozen=True)
class FoundationModel:
  """One encoder, and one head per task.

  Parameters are `encoder/block_<i>/...` and `heads/<task>/...`; constants (standardisation, never
  trained) have the same two branches. Encoder and heads stay ordinary Linen modules: each can be
  applied alone with its own branch.

  Attributes:
    encoder: called as `encoder(batch, deterministic=...)`.
    heads: by task name, called as `head(encoded, views, deterministic=...)` with one entry per view
      of the task in both dictionaries.
  """

  encoder: nn.Module
  heads: Mapping[str, nn.Module]

  def init(self, key: jax.Array, views: Mapping[str, Mapping[str, Batch]]) -> Variables:
    """Fresh variables. `views` are those of each task, {task: {view: Batch}}, of any size."""
    return drawn_together(functools.partial(self._init, key, views), named_key(key, "draws"))

  def _init(self, key: jax.Array, views: Mapping[str, Mapping[str, Batch]]) -> Variables:
    named = {name: view for mine in views.values() for name, view in mine.items()}
    first, *others = named
    encoded: dict[str, Any] = {}
    encoded[first], encoder = self.encoder.init_with_output(
      _rngs(key, "encoder"), named[first], deterministic=True
    )
    with drawn_apart():
      for name in others:
        encoded[name] = self.encoder.apply(encoder, named[name], deterministic=True)
    parts: dict[str, Any] = {"encoder": encoder, "heads": {}}
    for name, head in self.heads.items():
      mine = {view: encoded[view] for view in views[name]}
      rngs = _rngs(key, f"heads/{name}")
      parts["heads"][name] = head.init(rngs, mine, views[name], deterministic=True)
    return {
      collection: {
        "encoder": encoder.get(collection, {}),
        "heads": {name: part.get(collection, {}) for name, part in parts["heads"].items()},
      }
      for collection in ("params", "constants")
    }

  def encode(
    self, variables: Variables, batch: Batch, *, deterministic: bool, key: jax.Array | None = None
  ) -> Any:
    """The encoder's output for one view. `key` is needed when not deterministic."""
    branch = {name: tree["encoder"] for name, tree in variables.items()}
    rngs = None if key is None else {"dropout": named_key(key, "dropout")}
    return self.encoder.apply(branch, batch, deterministic=deterministic, rngs=rngs)

  def head(
    self,
    name: str,
    variables: Variables,
    encoded: Mapping[str, Any],
    views: Mapping[str, Batch],
    *,
    deterministic: bool,
    key: jax.Array,
    **options: Any,
  ) -> Any:
    """The outputs of one head; `key` feeds its dropout and its samples."""
    branch = {collection: tree["heads"][name] for collection, tree in variables.items()}
    rngs = {stream: named_key(key, stream) for stream in ("dropout", "sample")}
    return self.heads[name].apply(
      branch, encoded, views, deterministic=deterministic, rngs=rngs, **options
    )


def _rngs(key: jax.Array, branch: str) -> dict[str, jax.Array]:
  key = named_key(key, branch)
  return {stream: named_key(key, stream) for stream in ("params", "dropout", "sample")}
