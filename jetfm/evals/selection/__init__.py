"""The traditional selection of J/psi -> pi+ pi- pi0: photons, kinematic fit, masses and cuts.

A baseline for models of e+e- events: it knows the physics, learns a few limits, and no more.
Public: `find_objects` (batch to tracks and photons), `find_three_pions` (the best candidate of each
event), `tune_channels` (limits of the four channels), `fit_four_momentum` (the fit itself).
"""

from jetfm.evals.selection.candidates import find_three_pions
from jetfm.evals.selection.channels import (
  CHANNELS,
  ChannelSelection,
  tune_channels,
)
from jetfm.evals.selection.cuts import Counts, Cuts, tightness, tune_cuts
from jetfm.evals.selection.kinematic_fit import TOTAL, Fit, chi2_probability, fit_four_momentum
from jetfm.evals.selection.measured import Measured, join, photons, tracks, unmeasured
from jetfm.evals.selection.objects import Objects, find_objects
from jetfm.evals.selection.three_pions import (
  COMPLETE,
  LOST_PHOTON,
  LOST_TRACK,
  ThreePions,
  concatenate,
)

__all__ = [
  "find_objects",
  "Objects",
  "find_three_pions",
  "concatenate",
  "ThreePions",
  "COMPLETE",
  "LOST_PHOTON",
  "LOST_TRACK",
  "tune_channels",
  "ChannelSelection",
  "CHANNELS",
  # the kinematic fit
  "fit_four_momentum",
  "Fit",
  "TOTAL",
  "chi2_probability",
  "Measured",
  "tracks",
  "photons",
  "unmeasured",
  "join",
  # cuts
  "tune_cuts",
  "Counts",
  "Cuts",
  "tightness",
]
