"""Tasks: what the encoder is trained and fine-tuned for. README.md shows how to add one."""

from jetfm.tasks.augmentations import AUGMENTATIONS, make_augmentation
from jetfm.tasks.base import PLAIN, Statistics, Task, Views, view_key
from jetfm.tasks.classification import Classification
from jetfm.tasks.contrastive import SupervisedContrastive, ViewContrastive
from jetfm.tasks.distortions import Distortion
from jetfm.tasks.generation import Generation
from jetfm.tasks.heads import OneView, Predicted
from jetfm.tasks.masked_directions import MaskedDirections
from jetfm.tasks.masked_features import MaskedFeatures
from jetfm.tasks.masked_jet import MaskedJet
from jetfm.tasks.masked_particles import MaskedParticles
from jetfm.tasks.masking import MASKINGS
from jetfm.tasks.registry import TASKS, make_task, option_names
from jetfm.tasks.regression import Regression
from jetfm.tasks.super_resolution import SuperResolution

__all__ = [
  # by name
  "TASKS",
  "make_task",
  "option_names",
  "Classification",
  "Generation",
  "MaskedDirections",
  "MaskedFeatures",
  "MaskedJet",
  "MaskedParticles",
  "Regression",
  "SuperResolution",
  "SupervisedContrastive",
  "ViewContrastive",
  # what a task of one's own is made of
  "PLAIN",
  "OneView",
  "Predicted",
  "Statistics",
  "Task",
  "Views",
  "view_key",
  # names of options
  "AUGMENTATIONS",
  "Distortion",
  "MASKINGS",
  "make_augmentation",
]
