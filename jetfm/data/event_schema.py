"""Schema of e+e- -> J/psi events: reconstructed objects with measurements that can be missing.

An object is a charged track, with the calorimeter shower that belongs to it, or a shower without a
track. Detector groups are what is measured, or missing, together:

  MDC        tracks: charge, momentum, closest approach to the beam line
  PID        tracks: the best hypothesis 0 e, 1 mu, 2 pi, 3 K, 4 p
  EMC        showers, of tracks too
  EMC_shape  showers that are large enough for the moments of their shape
  EMC_track  tracks with a shower: E/p
  MUC        tracks that reach the muon counter

`Batch.present` says which groups measured an object: files have a branch has_<group>, 1 or 0, for
each. The stored value of a missing measurement is 0
and has no meaning. So, with `has(X)` for the column of a group,

  charged tracks                     has(MDC)
  neutral tracks                     not has(MDC), where mask
  charged tracks without EMC hit     has(MDC) and not has(EMC)
  neutral tracks without moments     not has(MDC) and not has(EMC_shape), where mask

The four-momentum of a track is that of its momentum with the mass of a pion; that of a shower is
massless, along the direction of the shower seen from the origin.
Sources: the CLEAR talk (BESIII, April 2026) for the features; see `jetfm.generate.bes_objects`.
"""

from __future__ import annotations

from jetfm.schema import Feature, Schema, Transform

_ZSCORE, _LOG, _LOG1P = Transform("zscore"), Transform("log"), Transform("log1p")
_MIXTURE, _SPIKE = "gaussian_mixture", "zero_inflated_lognormal"


def _values(*values: int) -> Transform:
  return Transform("categorical", tuple(map(float, values)))


def _feature(name: str, unit: str, group: str, *steps: Transform, likelihood: str = "mse"):
  return Feature(name, unit, group, steps, likelihood)


_BES = (
  _feature("q", "e", "MDC", _values(-1, 1), likelihood="categorical"),
  *(_feature(f"mdc_p3_p{x}", "GeV", "MDC", _ZSCORE) for x in "xyz"),
  # Narrow for what comes from the collision, wide for decays in flight.
  _feature("vz0", "cm", "MDC", _ZSCORE, likelihood=_MIXTURE),
  # Zero for what agrees with the beam line, a long tail for decays in flight. Tails are so rare
  # that a z-score would blow them up.
  _feature("vr0", "cm", "MDC", _LOG1P, likelihood=_SPIKE),
  _feature("pid_prob_type", "", "PID", _values(0, 1, 2, 3, 4), likelihood="categorical"),
  _feature("emc_numHits", "", "EMC", _LOG, _ZSCORE),
  # Log-normal: a Gaussian of the logarithm.
  *(_feature(f"emc_{x}", "GeV", "EMC", _LOG, _ZSCORE) for x in ("e3x3", "e5x5", "energy")),
  # A barrel seen along an axis: two peaks.
  *(_feature(f"emc_{x}", "cm", "EMC", _ZSCORE, likelihood=_MIXTURE) for x in "xyz"),
  # A peak on a flat background.
  _feature("emc_time", "ns", "EMC", _ZSCORE, likelihood=_MIXTURE),
  # Peaks for electrons, for what only ionises, and for what interacts.
  _feature("EoP", "", "EMC_track", _LOG, _ZSCORE, likelihood=_MIXTURE),
  _feature("emc_secmom", "cm^2", "EMC_shape", _LOG, _ZSCORE),
  _feature("emc_latmom", "", "EMC_shape", _LOG, _ZSCORE, likelihood=_MIXTURE),
  _feature("muc_dpt", "cm", "MUC", _ZSCORE, likelihood=_MIXTURE),
  # Whole numbers, as emc_numHits: a mixture would give them infinite density.
  _feature("muc_dof", "", "MUC", _ZSCORE),
)

EVENT_INPUT_SETS = {"bes": _BES}
"""Features of each input set."""


def event_schema(classes: tuple[str, ...] = ()) -> Schema:
  """The schema of J/psi events; z-scores are not fitted yet.

  Args:
    classes: names of the decay chains.
  """
  return Schema("bes", _BES, classes)
