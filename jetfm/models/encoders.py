"""Encoders by name, as configs and checkpoints know them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jetfm.models.clear import Clear
from jetfm.models.lorentz_part import LorentzParT
from jetfm.models.part import ParT
from jetfm.names import nearest
from jetfm.schema import Schema

ENCODERS: Mapping[str, type[nn.Module]] = MappingProxyType(
  {"lorentz_part": LorentzParT, "part": ParT, "clear": Clear}
)


def make_encoder(kind: str, schema: Schema, **options: Any) -> nn.Module:
  """The encoder of that name for data of that schema; options are the attributes of its class.

  Options may come from JSON: lists for tuples, and the name of a type for `dtype`.
  Raises: ValueError for an unknown encoder or option, with the nearest known name.
  """
  if kind not in ENCODERS:
    raise ValueError(_unknown("encoder", kind, list(ENCODERS)))
  known = [f.name for f in dataclasses.fields(ENCODERS[kind]) if f.init]
  known = [name for name in known if name not in ("schema", "parent", "name")]
  for option in options:
    if option not in known:
      raise ValueError(_unknown(f"option of encoder {kind}", option, known))
  return ENCODERS[kind](schema, **from_json(options))


def from_json(options: Mapping[str, Any]) -> dict[str, Any]:
  """Options of a module as its constructor wants them."""

  def value(name: str, x: Any) -> Any:
    if name == "dtype":
      return None if x is None else jnp.dtype(x)
    return tuple(x) if isinstance(x, list) else x

  return {name: value(name, x) for name, x in options.items()}


def _unknown(what: str, name: str, known: list[str]) -> str:
  near = nearest(name, known)
  return f"no {what} '{name}'; the nearest is '{near}' of {known}"
