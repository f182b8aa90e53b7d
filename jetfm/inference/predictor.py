"""A trained model as functions from batches to numpy arrays."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jetfm.inference.apply import apply_to_groups
from jetfm.inference.chosen import Labels, chosen_jets
from jetfm.inference.few_events import few_events, prepared
from jetfm.inference.groups import LENGTHS, ROWS, canonical_groups, filler
from jetfm.inference.hidden import (
  GuessedMeasurements,
  LocatedParticles,
  Read,
  Reconstruction,
  read_direction_map,
  read_guesses,
  read_location,
  read_reconstruction,
)
from jetfm.inference.online import Online
from jetfm.lorentz import inverse_lorentz, transform_vectors
from jetfm.models import ParticleCloud, jet_condition, physical_momenta
from jetfm.models.foundation import named_key
from jetfm.nn import masked_mean
from jetfm.schema import Schema
from jetfm.tasks import PLAIN, TASKS, Predicted, Task, Views
from jetfm.tasks.masking import event_noise
from jetfm.train.restore import TrainedModel
from jetfm.typing import Array, Batch

Batches = Batch | Iterable[Batch]
EMBED = "embed"
"""Stands for the embedding among names of tasks."""
Step = Callable[[Batch, jax.Array], dict[str, jax.Array]]


class Predictor:
  """A checkpoint's model, applied to events in physical units.

      predictor = jetfm.load("runs/jets/classify/best")
      loader = open_dataset("datasets/jets", predictor.schema.name, "test").loader(
        512, shuffle=False, epochs=1
      )
      batches = [batch for groups in loader.iterate() for batch in groups]  # with filler: weight 0
      scores = predictor.classify(batches)                        # (B, classes)

  Methods take one Batch or an iterable of them, numpy arrays of any number of events and any padded
  length in the laboratory frame (GeV), and return numpy arrays with one row for each row of the
  batches, in their order. The rows of filler have no meaning.

  The result of an event does not depend on the others, on their order or on padding, to the last
  bit (with the same versions, device and number of CPU threads; on a GPU with
  --xla_gpu_deterministic_ops=true). Random draws belong to the seed and `Batch.event_id`. The first
  call of a method compiles once for each of the `lengths` that occurs. `task` names one of several
  tasks of a kind; with one it is not needed.

  Attributes:
    trained: model, tasks, variables and checkpoint.
    lengths, rows: of the groups that the model is applied to; results agree to the last bit only
      between equal ones. Longer events are an error.
  """

  def __init__(self, trained: TrainedModel, lengths: Sequence[int] = LENGTHS, rows: int = ROWS):
    self.trained = trained
    self.lengths, self.rows = tuple(sorted(lengths)), rows
    self._variables = jax.device_put(trained.variables)
    self._compiled: dict[str, Callable[..., Any]] = {}

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

  def of_kind(self, kind: str) -> tuple[str, ...]:
    """Names of the tasks of a kind, one of `jetfm.tasks.TASKS`."""
    found = self.trained.tasks.items()
    return tuple(name for name, task in found if isinstance(task, TASKS[kind]))

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

  def predict(self, batches: Batches, names: Sequence[str] | str) -> dict[str, Any]:
    """What `classify`, `regress` and `embed` give, by name, the encoder applied once for all.

    The results are those of the methods alone, to the last bit.

    Args:
      names: of tasks of the kinds classification and regression; 'embed' is the embedding.
    Raises: ValueError for another name.
    """
    heads = {name: self._plain_head(name) for name in _several(names)}

    def step(batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      encoded = self._encode(self._variables, batch)
      return {name: head(self._variables, encoded, batch) for name, head in heads.items()}

    made: dict[str, Any] = self._apply(step, batches)
    for name in set(made) & set(self.of_kind("regression")):
      targets = self._task("regression", name).targets
      made[name] = {target: made[name][:, i] for i, target in enumerate(targets)}
    return made

  def function(self, name: str) -> Callable[[Batch], jax.Array]:
    """What `predict` gives under that name, as a function of a Batch for JAX's transformations.

        score = tagger.function("classification")
        slope = jax.grad(lambda p4: score(jetfm.batch_of(tagger.schema, p4))[0, 1])(p4)

    It is compiled for every shape of the batch. Gradients reach the momenta through tokens, frame
    and pair bias, and stored features.

    Args:
      name: as in `predict`; of a regression the targets side by side, (B, targets).
    Raises: ValueError for another name.
    """
    head = self._plain_head(name)
    return lambda batch: head(self._variables, self._encode(self._variables, batch), batch)

  def online(
    self, names: Sequence[str] | str, lengths: Sequence[int] = (32, 64, 128), rows: int = 1
  ) -> Online:
    """What `predict` gives, compiled now and made for a few events at a time: see `Online`.

    Args:
      names: as in `predict`.
      lengths: padded lengths; one program is compiled for each.
      rows: most events of a call.
    Raises: ValueError for another name, or without a length.
    """
    names = _several(names)
    few = prepared(self.trained, rows, max(lengths, default=0))
    source = self if few is None else Predictor(few, self.lengths, self.rows)
    heads = {name: source._plain_head(name) for name in names}
    targets = {
      name: tuple(self._task("regression", name).targets)
      for name in names
      if name in self.of_kind("regression")
    }
    # Weights are constants of the programs: the compiler prepares them, and a call does not check
    # hundreds of arguments.
    variables = self._variables

    def model(batch: Batch) -> dict[str, jax.Array]:
      encoded = source._encode(variables, batch)
      return {name: head(variables, encoded, batch) for name, head in heads.items()}

    with contextlib.nullcontext() if few is None else few_events():
      return Online(model, self.schema, targets, lengths, rows)

  def embed(self, batches: Batches) -> np.ndarray:
    """The encoder's own embedding of the event, (B, D) float32, where it makes one (CLEAR).

    Else the mean of its tokens over the particles; 0 for an empty event.
    """
    return self.predict(batches, [EMBED])[EMBED]

  def classify(self, batches: Batches, *, task: str | None = None) -> np.ndarray:
    """Probability of each of `schema.classes`, (B, classes) float32.

    Raises: ValueError for a checkpoint without a task of the kind 'classification'.
    """
    name = self._task("classification", task).name
    return self.predict(batches, [name])[name]

  def regress(self, batches: Batches, *, task: str | None = None) -> dict[str, np.ndarray]:
    """Each target in its unit, such as GeV: {name: (B,) float32}.

    Raises: ValueError for a checkpoint without a task of the kind 'regression'.
    """
    name = self._task("regression", task).name
    return self.predict(batches, [name])[name]

  def generate(
    self, batches: Batches, seed: int = 0, *, task: str | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """One new jet for each event, of the condition that the head was trained with.

    That is the event's embedding, whose multiplicity is drawn by `ParticleCloud.draw_count`, or its
    class, pT, |eta|, mass and multiplicity, up to the S slots. z is drawn from the prior. The jet
    has the event's direction.

    Returns: p4 (B, S, 4) float32 in GeV in the laboratory and mask (B, S) of S slots.
    Raises: ValueError for a checkpoint without a task of the kind 'generation'.
    """
    name = self._task("generation", task).name
    head = self.trained.model.heads[name].inner

    def sample(variables: Any, encoded: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      branch = {collection: tree["heads"][name] for collection, tree in variables.items()}
      ids = jnp.asarray(batch.event_id)
      condition = None
      if head.condition == "jet":
        p4, mask, label = map(jnp.asarray, (batch.p4, batch.mask, batch.label))
        condition = jet_condition(p4, mask, label, head.classes)
      _, _, chosen = head.apply(branch, encoded, condition, method="encode")
      z = event_noise(named_key(key, "latent"), ids, head.latent, jax.random.normal)
      cloud = head.apply(branch, z, chosen, method="decode")
      if head.condition == "jet":
        count = jnp.asarray(batch.mask).sum(axis=-1)
      else:
        uniform = event_noise(named_key(key, "multiplicity"), ids, 1, jax.random.uniform)
        count = cloud.draw_count(uniform[:, 0])
      return _laboratory(cloud, encoded.frame, count)

    compiled = self._compile(name, sample)

    def step(batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      encoded = self._encode(self._variables, batch)
      return compiled(self._variables, encoded, batch, key)

    made = self._apply(step, batches, seed)
    return made["p4"], made["mask"]

  def generate_chosen(
    self,
    label: Labels,
    pt: Array | float,
    eta: Array | float,
    mass: Array | float,
    multiplicity: Array | int,
    phi: Array | float = 0.0,
    seed: int = 0,
    *,
    task: str | None = None,
  ) -> tuple[np.ndarray, np.ndarray]:
    """New jets of chosen classes and kinematics, which no event has to have.

        p4, mask = predictor.generate_chosen(["Tbqq", "QCD"], 800.0, 0.3, [173.0, 60.0], 45)

    Args: (B,) each or one for all.
      label: class names, or their numbers; -1 is no class.
      pt, mass: GeV. phi: rad.
    Returns: as `generate`, for B jets.
    Raises: ValueError as `generate`, for an unknown class and what no jet can have, and for a head
      that was trained with another condition than 'jet'.
    """
    name = self._task("generation", task).name
    if (condition := self.trained.model.heads[name].inner.condition) != "jet":
      raise ValueError(
        f"'{name}' was trained with condition='{condition}', which only an event has: give events "
        "to generate(), or train with condition='jet'"
      )
    kinematics = {"pt": pt, "eta": eta, "phi": phi, "mass": mass, "multiplicity": multiplicity}
    return self.generate(chosen_jets(self.schema, label, kinematics), seed, task=name)

  def super_resolve(
    self, batches: Batches, *, task: str | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """The whole jet, from the leading particles that the task gives to the encoder.

    Returns: p4 (B, S, 4) float32 in GeV in the laboratory and mask (B, S) of S slots.
    Raises: ValueError for a checkpoint without a task of the kind 'super_resolution'.
    """

    def read(
      outputs: Predicted, views: Views, batch: Batch, key: jax.Array
    ) -> dict[str, jax.Array]:
      return _laboratory(outputs.output, outputs.frame)

    step = self._step_of(self._task("super_resolution", task), read)
    made = self._apply(step, batches)
    return made["p4"], made["mask"]

  def reconstruct(
    self, batches: Batches, seed: int = 0, *, task: str | None = None
  ) -> Reconstruction:
    """Hides particles as the pretraining does, others for each seed, and predicts them.

    N is the padded length of the longest batch.
    Raises: ValueError for a checkpoint without a task of the kind 'masked_particles'.
    """
    chosen = self._task("masked_particles", task)
    step = self._step_of(chosen, read_reconstruction(chosen.view))
    return Reconstruction(**self._of_particles(step, batches, seed))

  def locate(self, batches: Batches, seed: int = 0, *, task: str | None = None) -> LocatedParticles:
    """Hides particles as the pretraining does, and says where it expects them.

    With the same options of the tasks and the same seed they are those that `reconstruct` hides. N
    is the padded length of the longest batch.
    Raises: ValueError for a checkpoint without a task of the kind 'masked_directions'.
    """
    chosen = self._task("masked_directions", task)
    step = self._step_of(chosen, read_location(chosen.view))
    return LocatedParticles(**self._of_particles(step, batches, seed))

  def map_directions(
    self, batches: Batches, points: np.ndarray, seed: int = 0, *, task: str | None = None
  ) -> np.ndarray:
    """How many of the particles that `locate` hides are expected near each point.

    Each set of points is compiled once.
    Args:
      points: (P, 2) eta and phi (rad), relative to the axis of the visible particles.
    Returns: (B, P) sums over the hidden particles of their densities, per unit of eta and phi.
    Raises: ValueError for other shapes, and as `locate`.
    """
    chosen = self._task("masked_directions", task)
    points = np.asarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
      raise ValueError(f"points have the shape {points.shape}, expected (P, 2)")
    name = f"{chosen.name}/map/{hash(points.tobytes())}"
    step = self._step_of(chosen, read_direction_map(chosen.view, points), name)
    return self._apply(step, batches, seed)["density"]

  def guess_measurements(
    self, batches: Batches, seed: int = 0, *, task: str | None = None
  ) -> GuessedMeasurements:
    """Hides measurements as in the evaluation of the pretraining, and guesses them.

    N is the padded length of the longest batch.
    Raises: ValueError for a checkpoint without a task of the kind 'masked_features'.
    """
    chosen = self._task("masked_features", task)
    step = self._step_of(chosen, read_guesses(chosen, self.schema))
    return GuessedMeasurements(**self._of_particles(step, batches, seed))

  def _of_particles(self, step: Step, batches: Batches, seed: int) -> dict[str, np.ndarray]:
    """Arrays (B, N, ...), where N is the padded length of the longest batch."""
    padded = 0

    def measured() -> Iterator[Batch]:
      nonlocal padded
      for batch in [batches] if isinstance(batches, Batch) else batches:
        padded = max(padded, batch.length)
        yield batch

    return self._apply(step, measured(), seed, per_particle=lambda: padded)

  def _task(self, kind: str, name: str | None) -> Any:
    """The task of that kind, and that name; of type Any because each has its own attributes."""
    folder, found = self.trained.checkpoint.folder, self.of_kind(kind)
    if not found or (name is not None and name not in found):
      wanted = f"'{kind}'" if name is None else f"'{name}' of the kind '{kind}'"
      raise ValueError(
        f"the checkpoint {folder} has no task {wanted}, only {list(self.tasks)}: load the "
        "checkpoint of a stage that trained it"
      )
    if name is None and len(found) > 1:
      raise ValueError(f"the checkpoint {folder} has the tasks {list(found)}: choose one by task=")
    return self.trained.tasks[found[0] if name is None else name]

  def _compile(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled, the same one for each name: a method compiles once."""
    return self._compiled.setdefault(name, jax.jit(function))

  def _encode(self, variables: Any, view: Batch) -> Any:
    """Compiled apart from the heads: all methods share it, and so the bits of what it says."""
    encode = functools.partial(self.trained.model.encode, deterministic=True)
    return self._compile("/encode", encode)(variables, view)  # no task has such a name

  def _plain_head(self, name: str) -> Callable[[Any, Any, Batch], jax.Array]:
    """What a task, or 'embed', makes of the encoded batch."""
    classify, regress = self.of_kind("classification"), self.of_kind("regression")
    if name not in (EMBED, *classify, *regress):
      raise ValueError(
        f"nothing to predict is named '{name}', expected some of {[EMBED, *classify, *regress]}"
      )

    def read(variables: Any, encoded: Any, batch: Batch) -> jax.Array:
      if name == EMBED and encoded.event is not None:
        return encoded.event.astype(jnp.float32)
      if name == EMBED:
        return masked_mean(encoded.tokens.astype(jnp.float32), encoded.mask)
      task = self.trained.tasks[name]
      output = self._head(task, variables, {PLAIN: encoded}, {PLAIN: batch}).output
      if name in regress:
        return output.physical
      return jax.nn.softmax(output.astype(jnp.float32), axis=-1)

    return self._compile(name, read)

  def _head(self, task: Task, variables: Any, encoded: dict[str, Any], views: Views) -> Predicted:
    # The key is asked for, and nothing draws from it: a deterministic head is given no noise.
    key = jax.random.key(0)
    model = self.trained.model
    return model.head(task.name, variables, encoded, views, deterministic=True, key=key)

  def _step_of(self, task: Task, read: Read, name: str = "") -> Step:
    """A step that encodes the views of a task and reads its head's outputs; a key for draws.

    What is read is compiled once for each name, which is the task's if none is given.
    """

    def look(batch: Batch, key: jax.Array) -> Views:
      return task.views(named_key(key, "views"), batch, False)

    def finish(
      variables: Any, encoded: Any, views: Views, batch: Batch, key: jax.Array
    ) -> dict[str, jax.Array]:
      return read(self._head(task, variables, encoded, views), views, batch, key)

    look = self._compile(f"{task.name}/views", look)
    finish = self._compile(name or task.name, finish)

    def step(batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
      views = look(batch, key)
      encoded = {name: self._encode(self._variables, view) for name, view in views.items()}
      return finish(self._variables, encoded, views, batch, named_key(key, "draws"))

    return step

  def _apply(
    self,
    step: Step,
    batches: Batches,
    seed: int = 0,
    per_particle: Callable[[], int] | None = None,
  ) -> dict[str, np.ndarray]:
    key = named_key(jax.random.key(seed), "evaluation")
    batches = [batches] if isinstance(batches, Batch) else batches
    groups = canonical_groups(batches, self.schema, self.lengths, self.rows)
    nothing = filler(self.schema, self.rows, self.lengths[0])
    return apply_to_groups(lambda batch: step(batch, key), groups, nothing, per_particle)


def _several(names: Sequence[str] | str) -> Sequence[str]:
  return (names,) if isinstance(names, str) else names


def _laboratory(
  cloud: ParticleCloud, frame: Array, count: jax.Array | None = None
) -> dict[str, jax.Array]:
  """A predicted cloud in the encoder's frame -> momenta in the laboratory and the slots to keep."""
  mask = cloud.keep(count)
  p4 = transform_vectors(inverse_lorentz(frame), physical_momenta(cloud.kinematics))
  return {"p4": jnp.where(mask[..., None], p4, 0), "mask": mask}
