"""Encoders, and the heads that read them."""

from jetfm.models.classification import ClassificationHead
from jetfm.models.clear import Clear
from jetfm.models.encoder import Encoded
from jetfm.models.event_counts import EVENT_COUNTS, event_counts
from jetfm.models.lorentz_part import LorentzParT
from jetfm.models.masked_directions import Directions, MaskedDirectionHead, direction_of
from jetfm.models.masked_features import MaskedFeatureHead, Reconstructed
from jetfm.models.masked_particles import MaskedParticleHead
from jetfm.models.part import ParT
from jetfm.models.particles import (
  KINEMATICS,
  bounded_momenta,
  physical_momenta,
  standardise_kinematics,
)
from jetfm.models.projection import ProjectionHead
from jetfm.models.regression import RegressionHead
from jetfm.models.super_resolution import ParticleCloud, SuperResolutionHead
from jetfm.models.vae import ConditionalVAE, Generated, jet_condition

__all__ = [
  "EVENT_COUNTS",
  "KINEMATICS",
  "ClassificationHead",
  "Clear",
  "ConditionalVAE",
  "Directions",
  "Encoded",
  "Generated",
  "LorentzParT",
  "MaskedDirectionHead",
  "MaskedFeatureHead",
  "MaskedParticleHead",
  "ParT",
  "ParticleCloud",
  "ProjectionHead",
  "Reconstructed",
  "RegressionHead",
  "SuperResolutionHead",
  "bounded_momenta",
  "direction_of",
  "event_counts",
  "jet_condition",
  "physical_momenta",
  "standardise_kinematics",
]
