"""A small encoder, tasks and batches: enough to test training without physics."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jetfm.models.foundation import FoundationModel
from jetfm.train import finetune, optim
from jetfm.train import state as train_state
from jetfm.typing import Batch
from tests.variables import initial

LENGTHS = (5, 8)
_VARIABLES: dict = {}


@flax.struct.dataclass
class Tokens:
  tokens: jax.Array
  mask: jax.Array


class Encoder(nn.Module):
  """Tokens of each particle, with the parameter names that real encoders have."""

  depth: int = 3
  width: int = 8
  dropout: float = 0.0

  @nn.compact
  def __call__(self, batch: Batch, *, deterministic: bool = True) -> Tokens:
    scale = self.variable("constants", "scale", lambda: jnp.full((4,), 10.0))
    x = jnp.where(batch.mask[..., None], batch.p4, 0) / scale.value
    x = nn.Dense(self.width, name="embed")(x)
    for i in range(self.depth):
      y = jnp.tanh(nn.Dense(self.width, name=f"block_{i}")(x))
      x = x + nn.Dropout(self.dropout)(y, deterministic=deterministic)
    return Tokens(nn.LayerNorm(name="norm")(x), batch.mask)


class Head(nn.Module):
  view: str = "plain"

  @nn.compact
  def __call__(self, encoded, views, *, deterministic: bool = True) -> jax.Array:
    x = encoded[self.view]
    count = jnp.maximum(x.mask.sum(axis=1), 1)
    pooled = jnp.where(x.mask[..., None], x.tokens, 0).sum(axis=1) / count[:, None]
    return nn.Dense(1, name="output")(pooled)[:, 0]


class Regress:
  """Mean squared error of the first target; the loss is a mean over events."""

  name = "regress"
  view = "plain"

  @property
  def head(self):
    return Head(self.view)

  def views(self, key, batch, train):
    return {"plain": batch}

  def statistics(self, outputs, views, batch):
    return {"error": outputs - batch.targets[:, 0]}

  def loss(self, statistics, weight, step):
    # Filler is taken out, not multiplied by 0: its statistics may be anything.
    square = jnp.where(weight > 0, statistics["error"] ** 2, 0)
    value = (weight * square).sum() / jnp.maximum(weight.sum(), 1e-9)
    return value, {"rmse": jnp.sqrt(value)}

  def metrics(self, statistics, weight):
    absolute = jnp.where(weight > 0, jnp.abs(statistics["error"]), 0)
    return {"mae": jnp.stack([(weight * absolute).sum(), weight.sum()])}


class Denoise(Regress):
  """The same from a random view; the loss is a root of a mean, so it does not add over events."""

  name = "denoise"
  view = "noisy"

  def views(self, key, batch, train):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.event_id)
    noise = jax.vmap(lambda k: jax.random.uniform(k, (1,)))(keys)
    return {"noisy": batch.replace(p4=batch.p4 + noise[:, None])}

  def loss(self, statistics, weight, step):
    value, terms = super().loss(statistics, weight, step)
    return jnp.sqrt(value + 1e-8), terms


def batch(rng, events, length, first_id=0) -> Batch:
  count = rng.integers(1, length + 1, events)
  mask = np.arange(length) < count[:, None]
  p4 = rng.normal(size=(events, length, 4)).astype(np.float32) * 10
  return Batch(
    p4=p4,
    features=np.zeros((events, length, 0), np.float32),
    present=np.ones((events, length, 1), bool),
    mask=mask,
    label=np.zeros(events, np.int32),
    targets=rng.normal(size=(events, 1)).astype(np.float32),
    weight=np.ones(events, np.float32),
    event_id=np.arange(first_id, first_id + events, dtype=np.int32),
    spectators=np.zeros((events, 1), np.float32),
  )


def groups(step, sizes=(4, 4), lengths=LENGTHS, seed=0):
  """The global batch of a step, a pure function of it."""
  rng = np.random.default_rng((seed, step))
  return tuple(
    batch(rng, n, length, 1000 * step + 100 * i)
    for i, (n, length) in enumerate(zip(sizes, lengths, strict=True))
  )


def stream(start, seed=0, sizes=(4, 4)):
  step = start
  while True:
    yield groups(step, sizes, seed=seed)
    step += 1


def setup(
  tasks=None, strategy="full", steps=20, options=None, encoder=None, seed=0, **strategy_options
):
  """A model, its tasks, its optimizer, the groups of its parameters, and its first state."""
  tasks = [(Regress(), 1.0)] if tasks is None else tasks
  encoder = Encoder() if encoder is None else encoder
  model = FoundationModel(encoder, {task.name: task.head for task, _ in tasks})
  key = jax.random.key(seed)
  example = groups(0)[0]
  views = {task.name: task.views(key, example, True) for task, _ in tasks}
  fingerprint = (encoder, tuple(views), seed)
  if fingerprint not in _VARIABLES:
    _VARIABLES[fingerprint] = initial(model.init, key, views, seed=seed)
  variables = copied(_VARIABLES[fingerprint])
  chosen = finetune.make_strategy(strategy, encoder.depth, **strategy_options)
  labels = finetune.label(variables["params"], chosen)
  options = optim.Optimizer(rate=1e-2) if options is None else options
  optimizer = optim.make_optimizer(options, steps, finetune.trained_labels(labels), chosen.rates)
  state = train_state.create(variables, optimizer, labels, key)
  return model, tasks, optimizer, labels, state


def copied(tree):
  """Arrays of their own: a training step reuses the memory of the state it is given."""
  return jax.tree.map(jnp.copy, tree)


def sgd(rate=1.0) -> optax.GradientTransformation:
  """The update is the gradient itself."""
  return optax.sgd(rate)
