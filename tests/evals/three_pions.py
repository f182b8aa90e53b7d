"""Random J/psi -> pi+ pi- pi0, smeared as a detector would, and batches of them."""

from __future__ import annotations

import numpy as np

from jetfm.data import event_schema
from jetfm.evals.selection import TOTAL, Measured, join, photons, tracks
from jetfm.evals.selection.measured import PI0_MASS, PION_MASS
from jetfm.typing import Batch

SCHEMA = event_schema()


def two_body(rng, p4, mass, first, second):
  """Decays (n, 4) of mass (n,) evenly in angle into particles of those masses: two (n, 4)."""
  n = len(p4)
  energy = (mass**2 + first**2 - second**2) / (2 * mass)
  size = np.sqrt(np.maximum(energy**2 - first**2, 0))
  direction = rng.normal(size=(n, 3))
  direction /= np.linalg.norm(direction, axis=1, keepdims=True)
  own = size[:, None] * direction
  # Boost along the momentum of the mother.
  gamma, u = p4[:, 0] / mass, p4[:, 1:] / mass[:, None]
  along = (own * u).sum(axis=1)
  daughter = own + u * (along / (gamma + 1) + energy)[:, None]
  one = np.c_[gamma * energy + along, daughter]
  return one, p4 - one


def true_events(n, seed=0, kept=True):
  """(m, 4, 4) of pi+, pi-, gamma, gamma inside the acceptance; m is less than n if `kept`."""
  rng = np.random.default_rng(seed)
  start = np.tile(TOTAL, (n, 1))
  whole = np.full(n, np.sqrt(TOTAL[0] ** 2 - TOTAL[1] ** 2))
  pair = rng.uniform(2 * PION_MASS + 0.05, 2.7, n)
  pions, pi0 = two_body(rng, start, whole, pair, np.full(n, PI0_MASS))
  plus, minus = two_body(rng, pions, pair, PION_MASS, PION_MASS)
  first, second = two_body(rng, pi0, np.full(n, PI0_MASS), 0.0, 0.0)
  p4 = np.stack([plus, minus, first, second], axis=1)
  if not kept:
    return p4
  size = np.linalg.norm(p4[..., 1:], axis=-1)
  cosine = np.abs(p4[..., 3]) / size
  return p4[((cosine < 0.8) & (size > 0.12)).all(axis=1)]


def measured_exactly(p4):
  """Without errors in the values; standard deviations are those of the detector."""
  direction = p4[:, 2:, 1:] / p4[:, 2:, :1]
  showers = photons(p4[:, 2:, 0], on_barrel(direction))
  return join(tracks(p4[:, :2, 1:]), showers)


def smeared(measured, seed=1):
  noise = np.random.default_rng(seed).normal(size=measured.value.shape)
  value = measured.value + measured.sigma * noise
  return Measured(value, measured.sigma, measured.mass, measured.is_track)


def on_barrel(direction):
  """Places in cm."""
  return 98 * direction / np.hypot(direction[..., 0], direction[..., 1])[..., None]


def make_batch(p4, slots=8, seed=0, kind=2, extra=0):
  """Events as a batch: particles of `p4` in order, then `extra` faint showers in time."""
  rng = np.random.default_rng(seed)
  n, particles = p4.shape[:2]
  measured = smeared(measured_exactly(p4), seed + 1)
  momenta = measured.momenta()
  features = np.zeros((n, slots, len(SCHEMA.stored)), np.float32)
  present = np.zeros((n, slots, len(SCHEMA.groups)), bool)
  mask = np.zeros((n, slots), bool)

  def put(slot, group, **columns):
    mask[:, slot] = True
    present[:, slot, SCHEMA.groups.index(group)] = True
    for name, x in columns.items():
      features[:, slot, SCHEMA.stored.index(name)] = x

  for slot in range(2):
    components = {f"mdc_p3_p{x}": momenta[:, slot, i + 1] for i, x in enumerate("xyz")}
    put(slot, "MDC", q=1 - 2 * slot, **components)
    put(slot, "PID", pid_prob_type=kind)
  for slot in range(2, particles + extra):
    if slot < particles:
      energy, direction = momenta[:, slot, 0], momenta[:, slot, 1:]
    else:
      energy, direction = np.full(n, 0.06), rng.normal(size=(n, 3)) * [1, 1, 0.1]
    place = {f"emc_{x}": on_barrel(direction)[:, i] for i, x in enumerate("xyz")}
    put(slot, "EMC", emc_energy=energy, emc_time=250.0, **place)
  return Batch(
    p4=np.zeros((n, slots, 4), np.float32),
    features=features,
    present=present,
    mask=mask,
    label=np.zeros(n, np.int32),
    targets=np.zeros((n, 0), np.float32),
    weight=np.ones(n, np.float32),
    event_id=np.arange(n, dtype=np.int32),
    spectators=np.zeros((n, 0), np.float32),
  )


def permuted(batch, order):
  """The same events with their objects in another order of the slots."""
  return batch.replace(
    features=batch.features[:, order], present=batch.present[:, order], mask=batch.mask[:, order]
  )
