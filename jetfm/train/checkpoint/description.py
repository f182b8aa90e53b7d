"""Whether a checkpoint is of the model that is wanted, and where it differs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jetfm.train.checkpoint.contents import CHANGES, FORMAT
from jetfm.train.checkpoint.errors import CheckpointError


def check_model(folder: pathlib.Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
  """Raises: CheckpointError where the models of two descriptions differ, and in what."""
  if lines := differences(there.get("model"), here.get("model")):
    raise CheckpointError(
      f"checkpoint {folder} is of another model: {'; '.join(lines[:5])}. Use another --workdir, or "
      "the configuration that it was trained with"
    )


def format_problem(document: Mapping[str, Any]) -> str | None:
  """Why a checkpoint of another jetfm is not what it was, None for one of this format."""
  there = document["format"]
  if there == FORMAT:
    return None
  changes = [change for number, change in CHANGES.items() if number > there]
  return (
    f"written by another version of jetfm, format {there} and not {FORMAT}: "
    f"{'; '.join(changes) or 'it is newer than this one'}"
  )


def differences(there: Any, here: Any, path: str = "") -> list[str]:
  """How two JSON values differ, one line per key: 'encoder.width: 64 there, 128 here'."""
  if isinstance(there, Mapping) and isinstance(here, Mapping):
    keys = sorted(set(there) | set(here))
    return [
      line
      for key in keys
      for line in differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    ]
  return [] if there == here else [f"{path}: {_short(there)} there, {_short(here)} here"]


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 60 else f"{text[:57]}..."
