"""Random e+e- events with missing measurements, in the shape of a batch: no simulation.

Names of features are those of the experiment; which further groups there are is the data set's
affair, and no test depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetfm.schema import Feature, Schema, Transform
from jetfm.typing import Batch

CLASSES = ("pi+ pi- pi0", "pi+ pi- gamma", "K+ K- pi0", "mu+ mu-")
_Z, _LOG1P = Transform("zscore"), Transform("log1p")


def _feature(name, group, *transforms, likelihood="mse", unit=""):
  return Feature(name, unit, group, transforms, likelihood, mean=0.1, std=0.9)


def _categories(*values):
  return Transform("categorical", tuple(map(float, values)))


def event_schema() -> Schema:
  """Groups MDC, PID, EMC, MUC, and two of quantities that are missing on their own."""
  mixture, spike = {"likelihood": "gaussian_mixture"}, {"likelihood": "zero_inflated_lognormal"}
  metre = Transform("affine", (0.0, 0.01))
  features = (
    _feature("q", "MDC", _categories(-1, 1), likelihood="categorical"),
    *(_feature(f"mdc_p3_p{x}", "MDC", _Z, unit="GeV") for x in "xyz"),
    _feature("vz0", "MDC", _Z, unit="cm"),
    _feature("vr0", "MDC", _LOG1P, unit="cm", **spike),
    _feature("pid_prob_type", "PID", _categories(*range(5)), likelihood="categorical"),
    _feature("emc_numHits", "EMC", _LOG1P, _Z),
    *(
      _feature(name, "EMC", _LOG1P, _Z, unit="GeV", **spike)
      for name in ("emc_e3x3", "emc_e5x5", "emc_energy")
    ),
    _feature("emc_x", "EMC", metre, unit="cm", **mixture),
    _feature("emc_y", "EMC", metre, unit="cm", **mixture),
    _feature("emc_z", "EMC", metre, unit="cm", **mixture),
    _feature("emc_time", "EMC", Transform("affine", (0.0, 0.002)), unit="ns", **mixture),
    _feature("EoP", "EoP", _LOG1P, **spike),
    _feature("emc_secmom", "moments", _Z),
    _feature("emc_latmom", "moments", _Z),
    _feature("muc_dpt", "MUC", _LOG1P, unit="cm", **spike),
    _feature("muc_dof", "MUC", _LOG1P),
  )
  return Schema("event", features, CLASSES)


def make_events(
  counts: Sequence[int], length: int, seed: int = 0, dtype=np.float32, kinds: int = len(CLASSES)
) -> Batch:
  """Events with the given numbers of objects; the class decides the share and type of tracks."""
  schema = event_schema()
  size = len(counts)
  p4, values = np.zeros((size, length, 4)), np.zeros((size, length, len(schema.stored)))
  present = np.zeros((size, length, len(schema.groups)), bool)
  label = np.zeros(size, np.int32)
  for b, n in enumerate(counts):
    r = np.random.default_rng([seed, b])
    label[b] = r.integers(kinds)
    charged = np.arange(n) < max(1, round(n * (0.3 + 0.2 * label[b])))
    p3 = r.normal(0, 0.3 + 0.1 * label[b], (n, 3))
    p = np.linalg.norm(p3, axis=-1)
    pid = np.where(r.random(n) < 0.9, (2, 2, 3, 1)[label[b]], r.integers(5, size=n))
    mass = np.where(charged, np.array([0.0005, 0.106, 0.1396, 0.494, 0.938])[pid], 0)
    p4[b, :n] = np.concatenate([np.hypot(p, mass)[:, None], p3], axis=-1)
    shower = ~charged | (r.random(n) < 0.7)
    moments, muons = shower & (r.random(n) < 0.8), charged & (r.random(n) < 0.3)
    energy = np.where(charged, r.uniform(0.1, 0.5, n), p) * r.normal(1, 0.03, n)
    place = 94 * p3 / np.hypot(p3[:, 0], p3[:, 1])[:, None]
    own = {
      "q": r.choice([-1, 1], n),
      **{f"mdc_p3_p{x}": p3[:, i] for i, x in enumerate("xyz")},
      "vz0": r.normal(0, 1, n),
      "vr0": np.where(r.random(n) < 0.6, 0, r.lognormal(-2, 1, n)),
      "pid_prob_type": pid,
      "emc_numHits": r.poisson(12, n),
      "emc_e3x3": 0.9 * energy,
      "emc_e5x5": 0.95 * energy,
      "emc_energy": energy,
      **{f"emc_{x}": place[:, i] for i, x in enumerate("xyz")},
      "emc_time": r.uniform(0, 700, n),
      "EoP": energy / p,
      "emc_secmom": r.normal(1, 0.5, n),
      "emc_latmom": r.uniform(0, 1, n),
      "muc_dpt": np.where(r.random(n) < 0.3, 0, r.uniform(5, 60, n)),
      "muc_dof": r.integers(0, 10, n),
    }
    where = {
      "MDC": charged,
      "PID": charged,
      "EMC": shower,
      "EoP": charged & shower,
      "moments": moments,
      "MUC": muons,
    }
    present[b, :n] = np.stack([where[g] for g in schema.groups], axis=-1)
    columns = [np.where(where[f.group], own[f.name], 0) for f in schema.features]
    values[b, :n] = np.stack(columns, axis=-1)
  return Batch(
    p4=p4.astype(dtype),
    features=values.astype(dtype),
    present=present,
    mask=np.arange(length) < np.asarray(counts)[:, None],
    label=label,
    targets=np.zeros((size, 0), dtype),
    weight=np.ones(size, dtype),
    event_id=np.arange(size, dtype=np.int32) + 1000 * seed,
    spectators=np.zeros((size, 0), dtype),
  )


def column(name: str) -> int:
  """Where a stored feature is."""
  return event_schema().stored.index(name)


def group_of(name: str) -> int:
  """The column of `Batch.present` of a feature's group."""
  schema = event_schema()
  return schema.groups.index(schema.features[column(name)].group)
