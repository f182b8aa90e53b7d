"""A task as tests see it: its views, and what it says of outputs."""

import jax
import numpy as np

from jetfm.tasks import make_task
from tests.compiled import lorentz

KEY = jax.random.key(2)


class Judged:
  """A task as two programs: its views, and what it says of outputs."""

  def __init__(self, kind, schema, **options):
    self.task = task = make_task(kind, schema, **options)
    self._views = jax.jit(lambda batch: [task.views(KEY, batch, train) for train in (True, False)])

    @jax.jit
    def judge(outputs, views, batch, step):
      seen, tested = (task.statistics(outputs, x, batch) for x in views)
      return task.loss(seen, batch.weight, step), task.metrics(tested, batch.weight)

    self._judge = judge

  def view(self, batch):
    """What the encoder sees in training."""
    return jax.tree.map(np.asarray, self._views(batch)[0][self.task.view])

  def loss(self, outputs, batch, step=10**6):
    """The loss, and its terms."""
    (loss, terms), _ = self._judge(outputs, self._views(batch), batch, step)
    return float(loss), {name: float(x) for name, x in terms.items()}

  def metrics(self, outputs, batch, step=10**6):
    _, metrics = self._judge(outputs, self._views(batch), batch, step)
    return {name: float(np.divide(*np.asarray(x))) for name, x in metrics.items()}


def in_jet_frame(batch, seen):
  """Momenta of all particles and the matrix, in the frame of the particles that are seen."""
  jet = lorentz.jet_momentum(batch.p4, seen)
  return map(np.asarray, lorentz.to_jet_frame(batch.p4, batch.mask, jet=jet))
