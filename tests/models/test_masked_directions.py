"""Densities of directions: their definition, what they integrate to, where an untrained head is."""

import dataclasses

import jax
import numpy as np
import pytest

from jetfm.models import Directions, MaskedDirectionHead
from tests.compiled import lorentz
from tests.models.test_heads import applied, encoded

nll_of = jax.jit(Directions.nll)


def direction_of(p4):
  return np.stack([np.asarray(lorentz.pseudorapidity(p4)), np.asarray(lorentz.azimuth(p4))], -1)


COUNTS = (9, 2, 12, 6, 1)


def normalised(x):
  return np.log(x / x.sum(axis=-1, keepdims=True))


def densities(rng, particles, visible, widths):
  """Any density for each of some particles, around the first few directions."""
  share = rng.uniform(0.1, 1, (2, particles, particles))
  with np.errstate(divide="ignore"):
    log_share = normalised(np.where(np.arange(particles) < visible, share, 0))
  return Directions(
    axis=rng.normal(0, 0.1, (1, 2)),
    centres=rng.normal(0, 0.3, (1, particles, 2)),
    log_share=np.maximum(log_share, -1e9)[None],
    log_weight=normalised(rng.uniform(0.1, 1, (1, particles, 3))),
    log_width=np.log(np.broadcast_to(widths, (1, particles, 3))),
  )


@pytest.mark.parametrize("turn", [0.0, np.pi])
def test_it_is_the_mixture_that_it_says(x64, turn):
  """Also across phi = pi, where distances are the shorter way round."""
  rng = np.random.default_rng(0)
  made = densities(rng, 5, 5, [0.1, 0.3, 0.5])
  turned = np.array([0, turn])
  around = made.replace(centres=made.centres + turned, axis=made.axis + turned)
  at = rng.normal(0, 0.4, (1, 5, 2))
  found = np.asarray(nll_of(around, at - turned))[0]
  width, weight = np.exp(made.log_width[0]), np.exp(made.log_weight[0])
  for i in range(5):
    density = 0.0
    for k in range(3):
      centres = made.centres[0] if k < 2 else made.axis
      shares = np.exp(made.log_share[0, k, i]) if k < 2 else [1.0]
      for share, centre in zip(shares, centres, strict=True):
        square = ((at[0, i] - centre) ** 2).sum()
        gauss = np.exp(-square / (2 * width[i, k] ** 2)) / (2 * np.pi * width[i, k] ** 2)
        density += weight[i, k] * share * gauss
    np.testing.assert_allclose(found[i], -np.log(density), rtol=1e-10)


def test_it_integrates_to_one(x64):
  """Over a grid in phi, a particle for each point of which has the same density."""
  rng, step = np.random.default_rng(1), 0.02
  phi = np.arange(-2, 2, step)
  made = densities(rng, len(phi), 4, [0.06, 0.15, 0.3])
  same = {name: np.broadcast_to(getattr(made, name)[:, :1], getattr(made, name).shape)
          for name in ("log_weight", "log_width")}  # fmt: skip
  share = np.broadcast_to(made.log_share[:, :, :1], made.log_share.shape)
  made = made.replace(log_share=share, **same)
  grid = np.stack(np.meshgrid(phi, phi, indexing="ij"), axis=-1)
  total = sum(np.exp(-nll_of(made, at[None])).sum() for at in grid)
  np.testing.assert_allclose(total * step**2, 1, rtol=1e-5)


def events(make_batch):
  batch = make_batch(lengths=COUNTS, dtype=np.float64)
  hidden = np.zeros_like(batch.mask)
  for event, n in enumerate(COUNTS):
    hidden[event, np.random.default_rng(event).permutation(n)[: n // 2]] = True
  x = encoded(batch)
  return x.replace(hidden=hidden, p4=np.where(hidden[..., None], np.nan, x.p4)), x.p4


def test_an_untrained_head_smears_visible_particles_by_their_pt(x64, make_batch, initialise):
  x, p4 = events(make_batch)
  head = MaskedDirectionHead(widths=(0.1, 0.3), axis_width=0.5, features=4)
  variables = jax.tree.map(np.zeros_like, initialise(head, x))
  at = direction_of(p4)
  found = np.asarray(nll_of(applied(head, variables, x), at))
  pt = np.asarray(lorentz.transverse_momentum(p4))
  assert x.hidden.any()
  for event, i in zip(*np.nonzero(x.hidden), strict=True):
    seen = (x.mask & ~x.hidden)[event]
    share = pt[event, seen] / pt[event, seen].sum()
    square = ((at[event, i] - at[event, seen]) ** 2).sum(axis=1)
    axis = direction_of(p4[event, seen].sum(axis=0))
    terms = [(share, square, w) for w in (0.1, 0.3)]
    terms.append((np.ones(1), ((at[event, i] - axis) ** 2).sum(), 0.5))
    # Widths are a smooth maximum with the smallest one, 1e-3.
    widths = [w + 1e-3 for _, _, w in terms]
    want = sum(
      (a * np.exp(-s / (2 * w**2))).sum() / (2 * np.pi * w**2) / 3
      for (a, s, _), w in zip(terms, widths, strict=True)
    )
    np.testing.assert_allclose(found[event, i], -np.log(want), rtol=1e-9)


def test_slots_have_no_order(x64, make_batch, initialise):
  x, p4 = events(make_batch)
  head = MaskedDirectionHead(features=4)
  variables = initialise(head, x)
  order = np.random.default_rng(0).permutation(x.mask.shape[1])
  mixed = dataclasses.replace(
    x, **{name: getattr(x, name)[:, order] for name in ("tokens", "mask", "hidden", "rank", "p4")}
  )
  at = direction_of(p4)
  found = np.asarray(nll_of(applied(head, variables, x), at))
  again = np.asarray(nll_of(applied(head, variables, mixed), at[:, order]))
  assert np.isfinite(found[x.hidden]).all()
  np.testing.assert_allclose(again[mixed.hidden], found[:, order][mixed.hidden], rtol=1e-10)
