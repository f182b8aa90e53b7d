"""What makes a jet unusable. Every check is one array operation on a chunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.data.events import Events, Layout
from jetfm.data.jet_schema import BRANCHES
from jetfm.data.sources import Chunk, Fault

MASS_SHELL_TOLERANCE = 1e-4
"""|p| may exceed E by this fraction: a hundred times what float32 rounding does to massless
particles, and m^2 stays above -2e-4 E^2."""


def find_faults(
  chunk: Chunk, layout: Layout, p4_names: Sequence[str], expected_class: int | None
) -> list[Fault]:
  """Every reason to refuse an event of the chunk, worst first; only those that occur.

  Args:
    p4_names: branches of (E, px, py, pz).
    expected_class: label that the file's name promises, None when it promises nothing.
  """
  events = chunk.events
  faults = list(chunk.faults)

  def per_event(bad_particles: np.ndarray) -> np.ndarray:
    bad = np.zeros(len(events), bool)
    if bad_particles.any():
      owner = np.repeat(np.arange(len(events)), events.counts)
      bad[owner[bad_particles]] = True
    return bad

  def not_finite(array: np.ndarray, names: Sequence[str], reduce) -> None:
    finite = np.isfinite(array)
    if finite.all():
      return
    for i, name in enumerate(names):
      faults.append(Fault("NaN or infinite value", name, reduce(~finite[:, i])))

  not_finite(events.p4, p4_names, per_event)
  not_finite(events.features, [BRANCHES.get(n, n) for n in layout.particle], per_event)
  not_finite(events.values, [BRANCHES.get(n, n) for n in layout.event], lambda bad: bad)
  faults.append(Fault("no particles", p4_names[0], events.counts == 0))
  energy = events.p4[:, 0]
  faults.append(Fault("energy that is not positive", p4_names[0], per_event(energy <= 0)))
  faults.append(Fault("energy below |p|", p4_names[0], per_event(_spacelike(events))))
  faults.append(Fault("labels that name no class, or several", "label", events.label < 0))
  if expected_class is not None:
    other = (events.label >= 0) & (events.label != expected_class)
    faults.append(Fault("label of another class than the file's name", "label", other))
  return [f for f in faults if f.bad.any()]


def _spacelike(events: Events) -> np.ndarray:
  energy, px, py, pz = events.p4.T
  with np.errstate(over="ignore", invalid="ignore"):
    limit = energy * np.float32(1 + MASS_SHELL_TOLERANCE)
    return (energy > 0) & (px * px + py * py + pz * pz > limit * limit)
