"""From a checkpoint and jets to the sections of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jetfm.evals.sections import (
  Jets,
  Section,
  classification_section,
  embedding_section,
  generation_section,
  regression_section,
  super_resolution_section,
)
from jetfm.inference import Predictor, untrained
from launch.evaluation.hidden import directions, features, pretraining
from launch.evaluation.inputs import Inputs


def classification(inputs: Inputs) -> Section:
  """A task of the kind 'classification'."""
  predictor, options = inputs.predictor, inputs.options
  probabilities = inputs.predict("classify", predictor.classify, inputs.sample, task=inputs.task)
  return classification_section(
    inputs.sample.jets,
    probabilities,
    predictor.schema.classes,
    background=options.background,
    bootstrap=options.bootstrap,
    seed=options.seed,
    figures=options.figures,
  )


def regression(inputs: Inputs) -> Section:
  """A task of the kind 'regression', on the scale of the checkpoint's training."""
  predictor, options = inputs.predictor, inputs.options
  predicted = inputs.predict("regress", predictor.regress, inputs.sample, task=inputs.task)
  scales = {
    target.name: (target.mean, target.std)
    for target in predictor.schema.targets
    if target.mean is not None and target.std is not None
  }
  return regression_section(
    inputs.sample.jets,
    predicted,
    scales,
    inputs.training_jets,
    bootstrap=options.bootstrap,
    figures=options.figures,
  )


def generation(inputs: Inputs) -> Section:
  """A task of the kind 'generation': one generated jet for each true one."""
  jets, options = inputs.sample.jets, inputs.options
  p4, mask = inputs.predict(
    "generate",
    inputs.predictor.generate,
    inputs.sample,
    seed=options.seed,
    task=inputs.task,
  )
  return generation_section(
    jets,
    Jets(p4, mask, jets.label, jets.weight),
    inputs.training_jets,
    jetnet_jets=options.jetnet_events,
    seed=options.seed,
    figures=options.figures,
  )


def super_resolution(inputs: Inputs) -> Section:
  """A task of the kind 'super_resolution'."""
  jets, options, predictor = inputs.sample.jets, inputs.options, inputs.predictor
  p4, mask = inputs.predict(
    "super-resolve", predictor.super_resolve, inputs.sample, task=inputs.task
  )
  return super_resolution_section(
    jets,
    Jets(p4, mask, jets.label, jets.weight),
    inputs.settings.given,
    inputs.training_jets,
    inputs.sample.schema.classes,
    seed=options.seed,
    figures=options.figures,
  )


def embedding(inputs: Inputs) -> Section:
  """The encoder's embedding, beside that of an untrained encoder."""
  options, sample, training = inputs.options, inputs.sample, inputs.training
  samples = [("embed", sample)]
  if options.probes and training is not None:
    samples.append(("embed, training", training))

  def embed(predictor: Predictor, words: str = "") -> list[np.ndarray]:
    return [inputs.predict(name + words, predictor.embed, some) for name, some in samples]

  embedded = embed(inputs.predictor)
  probed: dict[str, Any] = {"probes": (), "train": np.zeros((0, embedded[0].shape[1]))}
  label = weight = np.zeros(0, int)
  if len(samples) > 1 and training is not None:
    fresh = embed(untrained(inputs.predictor, options.seed), ", untrained")
    probed = {"probes": options.probes, "train": embedded[1], "baseline": (fresh[1], fresh[0])}
    label, weight = training.jets.label, training.jets.weight
  return embedding_section(
    test=embedded[0],
    test_label=sample.jets.label,
    test_weight=sample.jets.weight,
    train_label=label,
    train_weight=weight,
    classes=sample.schema.classes,
    map_jets=options.map_events if options.figures else 0,
    seed=options.seed,
    **probed,
  )


SECTIONS: dict[str, tuple[str, Callable[[Inputs], Section]]] = {
  "masked_particles": ("pretraining", pretraining),
  "masked_features": ("pretraining", features),
  "masked_directions": ("pretraining", directions),
  "classification": ("classification", classification),
  "regression": ("regression", regression),
  "generation": ("generation", generation),
  "super_resolution": ("super_resolution", super_resolution),
}
"""Kind of a task -> section of the report, and what makes it."""

JOINED = ("masked_directions",)
"""Kinds whose first task joins the section that another task of its stage has."""
