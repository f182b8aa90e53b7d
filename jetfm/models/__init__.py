"""Encoders, and the heads that read them."""

from jetfm.models.classification import ClassificationHead
from jetfm.models.encoder import Encoded
from jetfm.models.lorentz_part import LorentzParT
from jetfm.models.masked_particles import MaskedParticleHead
from jetfm.models.part import ParT
from jetfm.models.particles import KINEMATICS, physical_momenta, standardise_kinematics
from jetfm.models.regression import RegressionHead
from jetfm.models.super_resolution import ParticleCloud, SuperResolutionHead
from jetfm.models.vae import ConditionalVAE, Generated, jet_condition

__all__ = [
  "KINEMATICS",
  "ClassificationHead",
  "ConditionalVAE",
  "Encoded",
  "Generated",
  "LorentzParT",
  "MaskedParticleHead",
  "ParT",
  "ParticleCloud",
  "RegressionHead",
  "SuperResolutionHead",
  "jet_condition",
  "physical_momenta",
  "standardise_kinematics",
]
