"""What training changes from step to step."""

from __future__ import annotations

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jetfm.models.foundation import FoundationModel
from jetfm.tasks.base import Task
from jetfm.train.finetune import trainable
from jetfm.typing import Array, Batch, PyTree


@flax.struct.dataclass
class TrainState:
  """Everything that the next step depends on, besides its batch."""

  step: Array
  """() int32 steps taken; also the position in the stream of batches."""
  params: PyTree
  """`encoder/...` and `heads/<task>/...`"""
  constants: PyTree
  """Numbers of the standardisation, in the same branches; never trained."""
  opt_state: PyTree
  """Of the trained parameters only."""
  key: Array
  """The run's random key; a step draws from `fold_in(key, step)`."""
  nonfinite: Array
  """() int32 successive steps whose loss or gradient was not finite and changed nothing."""

  @property
  def variables(self) -> dict[str, PyTree]:
    return {"params": self.params, "constants": self.constants}


def initialise(
  model: FoundationModel, tasks: Mapping[str, Task], key: jax.Array, events: Batch
) -> dict[str, PyTree]:
  """The first variables of a model, {'params': ..., 'constants': ...}.

  Their shapes depend on the schema, not on the events. One program makes the tasks' views too: as
  nothing is needed of what these hold, nothing of it is computed.
  """

  @jax.jit
  def init(key, events):
    return model.init(key, {name: task.views(key, events, True) for name, task in tasks.items()})

  return init(key, events)


def create(
  variables: dict[str, PyTree],
  optimizer: optax.GradientTransformation,
  labels: PyTree,
  key: jax.Array,
) -> TrainState:
  """The state before the first step. `labels` names the group of each parameter (finetune.py)."""

  @jax.jit  # one program for all, instead of one for each shape
  def first(variables):
    # Strong types throughout, as those of a restored state: the same compiled step serves both.
    variables = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), variables)
    return variables, optimizer.init(trainable(variables["params"], labels))

  variables, opt_state = first(variables)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables["params"],
    constants=variables["constants"],
    opt_state=opt_state,
    key=jax.random.clone(key),  # the state is donated to steps, and the caller's key is not
    nonfinite=jnp.zeros((), jnp.int32),
  )
