"""Several devices compute what one does."""

import jax
import numpy as np
import pytest

from jetfm.train import data_mesh, make_train_step, replicate, shard_batches
from tests.processes import on_devices
from tests.train import toy

DEVICES = 4


def losses(steps=3):
  """Losses of the first steps, on all devices that there are."""
  mesh = data_mesh()
  tasks = [(toy.Regress(), 1.0), (toy.Denoise(), 0.5)]
  model, tasks, optimizer, labels, state = toy.setup(tasks)
  step = make_train_step(model, tasks, optimizer, labels, mesh=mesh)
  state, found = replicate(state, mesh), []
  for i in range(steps):
    state, logs = step(state, shard_batches(toy.groups(i, (8, 4)), mesh))
    found.append(float(logs["loss"]))
  assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state))
  return found


def test_four_devices_give_the_loss_of_one():
  found = on_devices(DEVICES, f"{__name__}:losses")
  np.testing.assert_allclose(found, losses(), rtol=1e-6)


def test_stacked_batches_are_split_over_events():
  stacked = jax.tree.map(lambda *xs: np.stack(xs), toy.groups(0), toy.groups(1))
  short, _ = shard_batches(stacked, data_mesh(), axis=1)
  assert short.p4.shape == stacked[0].p4.shape
  assert short.p4.sharding.spec == jax.sharding.PartitionSpec(None, "data")


class TwoDevices:
  """Stands for a mesh of two devices where there is one: the check comes before the transfer."""

  def __init__(self):
    self.mesh = data_mesh()
    self.local_mesh = type("Local", (), {"size": 2})


def test_group_that_does_not_split_evenly_is_an_error(monkeypatch):
  monkeypatch.setattr("jetfm.train.sharding.NamedSharding", lambda *_: None)
  with pytest.raises(ValueError, match="3 events for 2 devices"):
    shard_batches(toy.groups(0, (3, 4)), TwoDevices())
