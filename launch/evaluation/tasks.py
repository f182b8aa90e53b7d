"""From a checkpoint and jets to the sections of a report."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.evals.sections import (
  Guesses,
  Jets,
  Reconstructed,
  Section,
  classification_section,
  embedding_section,
  features_section,
  generation_section,
  pretraining_section,
  regression_section,
  super_resolution_section,
)
from jetfm.inference import Predictor, untrained
from jetfm.models import KINEMATICS
from jetfm.objectives import Conservation, residual_sums
from jetfm.progress import Progress
from jetfm.tasks import MaskedParticles
from jetfm.tasks.masked_particles import LOSSES
from jetfm.tasks.masking import pt_rank
from jetfm.typing import Batch
from launch.evaluation.data import Sample

CHUNK_JETS = 8192
"""Jets whose hidden particles are held padded at a time."""


@dataclasses.dataclass(frozen=True)
class Options:
  """Keys of configs/evaluate.py that sections depend on."""

  seed: int
  background: str
  bootstrap: int
  jetnet_events: int
  probes: tuple[str, ...]
  figures: bool
  map_events: int


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a task is evaluated with: the model, its name in it, jets, and jets of training if any.

  `often` is called while predictions are made; what it raises ends them.
  """

  predictor: Predictor
  task: str
  sample: Sample
  training: Sample | None
  options: Options
  often: Callable[[], None] = lambda: None

  @property
  def settings(self) -> Any:
    """The task; of type Any because each has attributes of its own."""
    return self.predictor.trained.tasks[self.task]

  @property
  def training_jets(self) -> Jets | None:
    return self.training.jets if self.training is not None else None

  def predict(self, name: str, method: Callable[..., Any], sample: Sample, **options: Any) -> Any:
    """What a method of the predictor makes of a sample, with a progress line."""
    return method(self.watched(name, sample.batches), **options)

  def watched(self, name: str, batches: Sequence[Batch]) -> Iterator[Batch]:
    """The batches, with a line that says how many of their jets were taken."""
    progress, done = Progress(name, self.sample.what), 0
    total = sum(batch.num_events for batch in batches)
    try:
      for batch in batches:
        self.often()
        yield batch
        done += batch.num_events
        progress.update(done, total)
    finally:
      progress.close()


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


def pretraining(inputs: Inputs) -> Section:
  """A task of the kind 'masked_particles', by its own objective on all hidden particles."""
  particles = _particles(inputs)
  physical = None
  if inputs.options.figures and particles.hidden.any():
    physical = _physical(particles.true[particles.hidden]), _physical(particles.predicted)
  return pretraining_section(
    particles,
    objective(inputs.settings),
    physical,
    bootstrap=inputs.options.bootstrap,
    seed=inputs.options.seed,
  )


def features(inputs: Inputs) -> Section:
  """A task of the kind 'masked_features', all hidden measurements of each feature."""
  schema, options = inputs.predictor.schema, inputs.options
  found = inputs.predict(
    "guess",
    inputs.predictor.guess_measurements,
    inputs.sample,
    seed=options.seed,
    task=inputs.task,
  )
  weight = inputs.sample.jets.weight
  guesses = {}
  for i, feature in enumerate(schema.features):
    hidden = found.hidden[..., i]
    event, _ = np.nonzero(hidden)
    guesses[feature.name] = Guesses(
      true=found.true[..., i][hidden],
      guessed=found.guessed[..., i][hidden],
      sampled=found.sampled[..., i][hidden],
      nll=found.nll[..., i][hidden],
      event=event,
      weight=weight[event],
      categorical=feature.likelihood == "categorical",
    )
  return features_section(
    guesses, bootstrap=options.bootstrap, seed=options.seed, figures=options.figures
  )


def _particles(inputs: Inputs) -> Reconstructed:
  """Every particle of the sample, with what was predicted of the hidden ones."""
  parts: list[tuple[np.ndarray, ...]] = []
  batches = inputs.sample.batches
  first = 0
  # Batches that begin in the same chunk of events: what is padded is held for one chunk only.
  before = itertools.accumulate((b.num_events for b in batches), initial=0)
  numbered = zip(before, batches, strict=False)
  for _, chunk in itertools.groupby(numbered, lambda pair: pair[0] // CHUNK_JETS):
    events = [batch for _, batch in chunk]
    found = inputs.predictor.reconstruct(
      inputs.watched("reconstruct", events),
      seed=inputs.options.seed,
      task=inputs.task,
    )
    length = found.hidden.shape[1]
    mask, rank = (
      np.concatenate([np.pad(x, ((0, 0), (0, length - x.shape[1]))) for x in arrays])
      for arrays in zip(*((b.mask, pt_rank(b.p4, b.mask)) for b in events), strict=True)
    )
    event, _ = np.nonzero(mask)
    predicted = found.predicted[found.hidden]
    parts.append((found.true[mask], predicted, found.hidden[mask], rank[mask], first + event))
    first += len(mask)
  true, predicted, hidden, rank, event = map(np.concatenate, zip(*parts, strict=True))
  return Reconstructed(true, predicted, hidden, rank, event, inputs.sample.jets.weight[event])


def objective(task: MaskedParticles) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
  """loss(predicted (M, 4), true (M, 4), weight (M,)) of a task, without its mass term.

  Each particle stands for an event of its own: means over all particles are the same.
  """
  coefficients = Conservation(**task.coefficients)

  @jax.jit
  def loss(predicted, true, weight):
    sums = residual_sums(predicted[:, None], true[:, None], jnp.ones((len(true), 1), bool))
    return LOSSES[task.objective](sums, weight, coefficients)[0]

  return lambda *arrays: float(loss(*(np.asarray(a, np.float32) for a in arrays)))


def _physical(kinematics: np.ndarray) -> np.ndarray:
  """Standardised (M, 4) -> pT (GeV), eta, phi (rad), E (GeV) in the encoder's frame."""
  columns = [np.asarray(f.inverse(kinematics[:, i])) for i, f in enumerate(KINEMATICS)]
  return np.stack(columns, axis=1)


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
  "classification": ("classification", classification),
  "regression": ("regression", regression),
  "generation": ("generation", generation),
  "super_resolution": ("super_resolution", super_resolution),
}
"""Kind of a task -> section of the report, and what makes it."""
