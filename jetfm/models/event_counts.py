"""How many objects of an event have which measurements: the conditions of CLEAR's norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jetfm.schema import Schema

Has = Callable[[str], jax.Array]
"""Name of a feature -> (B, N) whether its detector group measured the object."""

EVENT_COUNTS: dict[str, tuple[tuple[str, ...], Callable[[Has], jax.Array]]] = {
  "charged": (("mdc_p3_px",), lambda has: has("mdc_p3_px")),
  "neutral": (("mdc_p3_px",), lambda has: ~has("mdc_p3_px")),
  "charged_without_emc": (
    ("mdc_p3_px", "emc_energy"),
    lambda has: has("mdc_p3_px") & ~has("emc_energy"),
  ),
  "neutral_without_moments": (
    ("mdc_p3_px", "emc_secmom", "emc_latmom"),
    lambda has: ~has("mdc_p3_px") & ~has("emc_secmom") & ~has("emc_latmom"),
  ),
}
"""Features that each count needs, and which objects it counts. A charged track is an object that
the drift chamber measured; neutral ones are all others."""


def event_counts(
  names: Sequence[str], schema: Schema, measured: jax.Array, mask: jax.Array
) -> jax.Array:
  """ln(1 + n) of the named counts of each event.

  Shapes: measured (B, N, G), mask (B, N) -> (B, len(names)) float32; padding does not count.
  Raises: ValueError for an unknown name, or a feature that the schema lacks.
  """
  check_counts(names, schema)
  group_of = {f.name: schema.groups.index(f.group) for f in schema.features}

  def has(feature: str) -> jax.Array:
    return measured[..., group_of[feature]]

  counts = []
  for name in names:
    _, select = EVENT_COUNTS[name]
    counts.append((select(has) & mask).sum(axis=-1))
  return jnp.log1p(jnp.stack(counts, axis=-1).astype(jnp.float32))


def check_counts(names: Sequence[str], schema: Schema) -> None:
  """Raises: ValueError for an unknown name, or a feature that the schema lacks."""
  there = {f.name for f in schema.features}
  for name in names:
    if name not in EVENT_COUNTS:
      raise ValueError(f"no event count '{name}'; there are {list(EVENT_COUNTS)}")
    if missing := [feature for feature in EVENT_COUNTS[name][0] if feature not in there]:
      raise ValueError(
        f"the event count '{name}' needs {missing}, which schema '{schema.name}' does not have: "
        "leave it out of the encoder's conditions, as in conditions=()"
      )
