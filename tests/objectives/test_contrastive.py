"""Contrastive losses: what pulls, what counts, and that several devices compute what one does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jetfm.objectives import nearest_is_positive, nt_xent, supervised_contrastive
from tests.processes import on_devices

DEVICES = 4
LABEL = np.array([0, 1, 0, 2, 1, 0, 2, 3])
"""Class 3 has one event: an anchor without positives."""

COMPILED = {
  loss: jax.jit(jax.value_and_grad(loss), static_argnames="temperature")
  for loss in (supervised_contrastive, nt_xent)
}


def value_and_gradient(loss, z, other, weight, temperature=0.1):
  value, gradient = COMPILED[loss](z, other, weight, temperature=temperature)
  return value, np.asarray(gradient)


def value(*args):
  return float(value_and_gradient(*args)[0])


def embeddings(seed=0, events=8, width=6, dtype=np.float64):
  z = np.random.default_rng(seed).normal(size=(events, width)).astype(dtype)
  return z / np.linalg.norm(z, axis=-1, keepdims=True)


def by_hand(z, label, weight, temperature):
  """The equation, event by event."""
  total = count = 0.0
  real = [i for i in range(len(z)) if weight[i] and label[i] >= 0]
  for i in real:
    others = [a for a in real if a != i]
    positives = [p for p in others if label[p] == label[i]]
    if positives:
      norm = sum(np.exp(z[i] @ z[a] / temperature) for a in others)
      logs = [np.log(np.exp(z[i] @ z[p] / temperature) / norm) for p in positives]
      total += -weight[i] * np.mean(logs)
      count += weight[i]
  return total / count


def test_supervised_is_its_equation(x64):
  z, weight = embeddings(), np.array([1.0, 0.5, 2, 1, 1, 0, 1, 1])
  label = np.where(np.arange(len(LABEL)) == 6, -1, LABEL)
  for temperature in (0.1, 0.7):
    loss = value(supervised_contrastive, z, label, weight, temperature)
    assert loss == pytest.approx(by_hand(z, label, weight, temperature), rel=1e-10)


def test_nt_xent_is_its_equation(x64):
  a, b, weight = embeddings(1), embeddings(2), np.array([1.0, 1, 1, 0, 1, 1, 1, 2])
  event = np.tile(np.arange(len(a)), 2)
  expected = by_hand(np.concatenate([a, b]), event, np.tile(weight, 2), 0.2)
  assert value(nt_xent, a, b, weight, 0.2) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", (supervised_contrastive, nt_xent))
def test_filler_never_counts(x64, loss):
  """Neither as an anchor nor as a negative, and whatever it holds."""
  second = LABEL if loss is supervised_contrastive else embeddings(3)
  alone = value(loss, embeddings(), second, np.ones(8))
  z = np.concatenate([embeddings(), np.full((3, 6), np.nan)])
  more = np.concatenate([second, second[:3]])
  weight = np.append(np.ones(8), np.zeros(3))
  padded, gradient = value_and_gradient(loss, z, more, weight)
  assert float(padded) == pytest.approx(alone, rel=1e-12)
  assert np.isfinite(gradient).all() and not gradient[8:].any()


def test_gradients(x64):
  weight = np.linspace(0.5, 1.5, 8)
  for loss in (
    lambda z: supervised_contrastive(z, LABEL, weight),
    lambda a: nt_xent(a, embeddings(1), weight),
  ):
    check_grads(jax.jit(loss), (embeddings(),), 1, ["rev"])


@pytest.mark.parametrize("label", ([0, 1, 2, 3], [-1, -1, -1, -1]), ids=("alone", "unlabelled"))
def test_a_batch_without_positives_is_zero(label):
  z = embeddings(events=4, dtype=np.float32)
  loss, gradient = value_and_gradient(supervised_contrastive, z, np.array(label), np.ones(4))
  assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
def test_small_temperatures_are_finite(dtype):
  z = jnp.asarray(np.repeat(embeddings(events=4), 2, axis=0), dtype)
  label = np.repeat(np.arange(4), 2)
  loss, gradient = value_and_gradient(supervised_contrastive, z, label, np.ones(8), 1e-3)
  assert loss.dtype == jnp.float32 and np.isfinite(loss)
  assert np.isfinite(gradient.astype(np.float32)).all()
  with pytest.raises(ValueError, match="temperature"):
    supervised_contrastive(z, LABEL, np.ones(8), 0.0)


def test_nearest_other_event():
  z = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [np.nan, 0]], np.float32)
  hit, counted = jax.jit(nearest_is_positive)(
    z, np.array([0, 0, 1, 2, 0]), np.array([1, 1, 1, 1, 0])
  )
  np.testing.assert_array_equal(hit[:2], True)
  np.testing.assert_array_equal(counted, [True, True, False, False, False])


def on_all_devices():
  """Losses and a sum of gradients, inputs split over all devices that there are."""
  from jetfm.train import data_mesh
  from jetfm.train.sharding import DATA

  mesh = data_mesh()
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(DATA))
  z, other = (embeddings(seed, 32, dtype=np.float32) for seed in (1, 2))
  label = np.random.default_rng(0).integers(0, 5, 32)
  weight = np.where(np.arange(32) % 7 == 0, 0, np.linspace(0.5, 1.5, 32)).astype(np.float32)
  z, other, label, weight = jax.device_put((z, other, label, weight), split)
  out = []
  for loss, second in ((supervised_contrastive, label), (nt_xent, other)):
    total, gradient = value_and_gradient(loss, z, second, weight)
    out += [float(total), *map(float, gradient[3])]
  return out


def test_four_devices_give_the_loss_of_one():
  found = on_devices(DEVICES, f"{__name__}:on_all_devices")
  np.testing.assert_allclose(found, on_all_devices(), rtol=1e-5, atol=1e-6)
