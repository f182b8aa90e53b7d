"""A trained model as functions from batches to numpy arrays."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.inference.groups import LENGTHS, ROWS, canonical_groups, filler
from jetfm.lorentz import inverse_lorentz, transform_vectors
from jetfm.models import ParticleCloud, jet_condition, physical_momenta, standardise_kinematics
from jetfm.models.foundation import named_key
from jetfm.nn import masked_mean
from jetfm.schema import Schema
from jetfm.tasks import Task, Views
from jetfm.tasks.masking import event_noise
from jetfm.train.restore import TrainedModel
from jetfm.typing import Array, Batch

Batches = Batch | Iterable[Batch]
Step = Callable[[Any, Batch, jax.Array], dict[str, jax.Array]]

_AHEAD = 4  # groups that the device may work on before the oldest result is fetched


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """Hidden particles, true and predicted.

  Kinematics are (pT, eta, phi, E) standardised as in `jetfm.models.KINEMATICS`, in the encoder's
  frame; `jetfm.models.physical_momenta` and the inverse of `frame` lead back to the laboratory.
  """

  hidden: np.ndarray
  """(B, N) bool: particles that the encoder did not see."""
  true: np.ndarray
  """(B, N, 4) float32, 0 for padding."""
  predicted: np.ndarray
  """(B, N, 4) float32, 0 where nothing was hidden."""
  frame: np.ndarray
  """(B, 4, 4) float32, from the laboratory into the encoder's frame, of the visible particles."""


class Predictor:
  """A checkpoint's model, applied to events in physical units.

      predictor = jetfm.load("runs/jets/classify/best")
      loader = open_dataset("datasets/jets", predictor.schema.name, "test").loader(
        512, shuffle=False, epochs=1
      )
      batches = [batch for groups in loader for batch in groups]  # filler included: weight 0
      scores = predictor.classify(batches)                        # (B, classes)

  Methods take one Batch or an iterable of them, numpy arrays of any number of events and any padded
  length in the laboratory frame (GeV), and return numpy arrays with one row for each row of the
  batches, in their order. The rows of filler have no meaning.

  The result of an event does not depend on the others, on their order or on padding, to the last
  bit (with the same versions, device and number of CPU threads; on a GPU with
  --xla_gpu_deterministic_ops=true). Random draws belong to the seed and `Batch.event_id`. The first
  call of a method compiles once for each of the `lengths` that occurs.

  Attributes:
    trained: model, tasks, variables and checkpoint.
    lengths, rows: of the groups that the model is applied to; results agree to the last bit only
      between equal ones. Longer events are an error.
  """

  def __init__(self, trained: TrainedModel, lengths: Sequence[int] = LENGTHS, rows: int = ROWS):
    self.trained = trained
    self.lengths, self.rows = tuple(sorted(lengths)), rows
    self._variables = jax.device_put(trained.variables)
    self._compiled: dict[str, Step] = {}

  @property
  def schema(self) -> Schema:
    """What batches must look like, and the names of classes and targets."""
    return self.trained.schema

  @property
  def tasks(self) -> tuple[str, ...]:
    """Names of the tasks that the checkpoint has heads for."""
    return tuple(self.trained.tasks)

  @property
  def step(self) -> int:
    """Of the training, at which the checkpoint was saved."""
    return self.trained.checkpoint.step

  def check_schema(self, other: Schema, labels: bool = True) -> None:
    """Whether batches of that schema can be given to this model.

    Args:
      labels: whether labels shall be compared with predictions, so that classes must agree too.
    Raises: ValueError that names what is missing, not expected, or in another order.
    """
    pairs = [
      ("stored features", self.schema.stored, other.stored),
      ("detector groups", self.schema.groups, other.groups),
    ]
    if labels:
      pairs.append(("classes", self.schema.classes, other.classes))
    for what, expected, got in pairs:
      if expected == got:
        continue
      missing = [name for name in expected if name not in got]
      extra = [name for name in got if name not in expected]
      differences = [f"missing {missing}"] * bool(missing) + [f"not expected {extra}"] * bool(extra)
      raise ValueError(
        f"the {what} of input set '{other.name}' are not those of the checkpoint "
        f"{self.trained.checkpoint.folder}, trained with '{self.schema.name}': "
        f"{', '.join(differences) or f'got the order {list(got)}, expected {list(expected)}'}"
      )

  def embed(self, batches: Batches) -> np.ndarray:
    """Mean of the encoder's tokens over the particles, (B, D) float32; 0 for an empty event."""

    def step(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      encoded = self.trained.model.encode(variables, batch, deterministic=True)
      return {"embedding": masked_mean(encoded.tokens.astype(jnp.float32), encoded.mask)}

    return self._apply("embed", step, batches)["embedding"]

  def classify(self, batches: Batches) -> np.ndarray:
    """Probability of each of `schema.classes`, (B, classes) float32.

    Raises: ValueError for a checkpoint without the task 'classification'.
    """
    task = self._task("classification")

    def step(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      logits = self._outputs(task, variables, task.views(key, batch, False)).output
      return {"probability": jax.nn.softmax(logits.astype(jnp.float32), axis=-1)}

    return self._apply("classify", step, batches)["probability"]

  def regress(self, batches: Batches) -> dict[str, np.ndarray]:
    """Each target in its unit, such as GeV: {name: (B,) float32}.

    Raises: ValueError for a checkpoint without the task 'regression'.
    """
    task = self._task("regression")

    def step(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      physical = self._outputs(task, variables, task.views(key, batch, False)).output.physical
      return {name: physical[:, i] for i, name in enumerate(task.targets)}

    return self._apply("regress", step, batches)

  def generate(self, batches: Batches, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One new jet for each event, of the condition that the head was trained with.

    That is the event's embedding, or its class, pT, |eta|, mass and multiplicity; z is drawn from
    the prior and the multiplicity is `ParticleCloud.keep`'s. The jet has the event's direction.

    Returns: p4 (B, S, 4) float32 in GeV in the laboratory and mask (B, S) of S slots.
    Raises: ValueError for a checkpoint without the task 'generation'.
    """
    task = self._task("generation")
    head = task.head.inner

    def step(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      encoded = self.trained.model.encode(variables, batch, deterministic=True)
      branch = {name: tree["heads"][task.name] for name, tree in variables.items()}
      condition = None
      if head.condition == "jet":
        p4, mask, label = map(jnp.asarray, (batch.p4, batch.mask, batch.label))
        condition = jet_condition(p4, mask, label, head.classes)
      _, _, chosen = head.apply(branch, encoded, condition, method="encode")
      ids = jnp.asarray(batch.event_id)
      z = event_noise(named_key(key, "latent"), ids, head.latent, jax.random.normal)
      return _laboratory(head.apply(branch, z, chosen, method="decode"), encoded.frame)

    made = self._apply("generate", step, batches, seed)
    return made["p4"], made["mask"]

  def super_resolve(self, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """The whole jet, from the leading particles that the task gives to the encoder.

    Returns: p4 (B, S, 4) float32 in GeV in the laboratory and mask (B, S) of S slots.
    Raises: ValueError for a checkpoint without the task 'super_resolution'.
    """
    task = self._task("super_resolution")

    def step(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      outputs = self._outputs(task, variables, task.views(key, batch, False))
      return _laboratory(outputs.output, outputs.frame)

    made = self._apply("super_resolve", step, batches)
    return made["p4"], made["mask"]

  def reconstruct(self, batches: Batches, seed: int = 0) -> Reconstruction:
    """Hides particles as in the evaluation of the pretraining, and predicts them.

    N is the padded length of the longest batch.
    Raises: ValueError for a checkpoint without the task 'masked_particles'.
    """
    task = self._task("masked_particles")

    def step(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      views = task.views(named_key(key, "views"), batch, False)
      outputs = self._outputs(task, variables, views)
      hidden = batch.mask & (views[task.view].hidden_rank >= 0)
      true = standardise_kinematics(transform_vectors(outputs.frame, batch.p4))
      return {
        "hidden": hidden,
        "true": jnp.where(batch.mask[..., None], true, 0),
        "predicted": jnp.where(hidden[..., None], outputs.output, 0),
        "frame": outputs.frame,
      }

    padded = 0

    def measured() -> Iterator[Batch]:
      nonlocal padded
      for batch in [batches] if isinstance(batches, Batch) else batches:
        padded = max(padded, batch.length)
        yield batch

    made = self._apply("reconstruct", step, measured(), seed, per_particle=lambda: padded)
    return Reconstruction(**made)

  def _task(self, name: str) -> Any:
    """The task; of type Any because each has attributes of its own."""
    if name not in self.trained.tasks:
      raise ValueError(
        f"the checkpoint {self.trained.checkpoint.folder} has no task '{name}', only "
        f"{list(self.tasks)}: load the checkpoint of a stage that trained '{name}'"
      )
    return self.trained.tasks[name]

  def _outputs(self, task: Task, variables: Any, views: Views) -> Any:
    """What the task's head says."""
    model = self.trained.model
    encoded = {
      name: model.encode(variables, view, deterministic=True) for name, view in views.items()
    }
    # The key is asked for, and nothing draws from it: a deterministic head is given no noise.
    key = jax.random.key(0)
    return model.head(task.name, variables, encoded, views, deterministic=True, key=key)

  def _apply(
    self,
    name: str,
    step: Step,
    batches: Batches,
    seed: int = 0,
    per_particle: Callable[[], int] | None = None,
  ) -> dict[str, np.ndarray]:
    """Results of all events in the order in which they came.

    Args:
      name: of the method, whose compiled step is kept.
      per_particle: the padded length of results that have a particle axis of the batch's length.
    """
    compiled = self._compiled.setdefault(name, jax.jit(step))
    key = named_key(jax.random.key(seed), "evaluation")
    batches = [batches] if isinstance(batches, Batch) else batches
    results: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    running: collections.deque[tuple[np.ndarray, dict[str, jax.Array]]] = collections.deque()

    def fetch() -> None:
      places, made = running.popleft()
      results.append((places, {k: np.asarray(x)[: len(places)] for k, x in made.items()}))

    for places, batch in canonical_groups(batches, self.schema, self.lengths, self.rows):
      running.append((places, compiled(self._variables, batch, key)))
      if len(running) > _AHEAD:
        fetch()
    while running:
      fetch()
    if not results:
      nothing = filler(self.schema, self.rows, self.lengths[0])
      shapes = jax.eval_shape(step, self._variables, nothing, key)
      empty = {k: np.zeros((0, *x.shape[1:]), x.dtype) for k, x in shapes.items()}
      results.append((np.zeros(0, int), empty))
    return _in_order(results, per_particle)


def _in_order(
  results: list[tuple[np.ndarray, dict[str, np.ndarray]]], per_particle: Callable[[], int] | None
) -> dict[str, np.ndarray]:
  size = sum(len(places) for places, _ in results)
  out = {}
  for name, like in results[0][1].items():
    shape = like.shape[1:]
    ragged = per_particle is not None and name != "frame"
    if ragged:
      assert per_particle is not None
      shape = (per_particle(), *shape[1:])
    out[name] = np.zeros((size, *shape), like.dtype)
    for places, made in results:
      values = made[name]
      if ragged:
        values = values[:, : shape[0]]
        out[name][places, : values.shape[1]] = values
      else:
        out[name][places] = values
  return out


def _laboratory(cloud: ParticleCloud, frame: Array) -> dict[str, jax.Array]:
  """A predicted cloud in the encoder's frame -> momenta in the laboratory and the slots to keep."""
  mask = cloud.keep()
  p4 = transform_vectors(inverse_lorentz(frame), physical_momenta(cloud.kinematics))
  return {"p4": jnp.where(mask[..., None], p4, 0), "mask": mask}
