"""Densities of directions: their definition, what they integrate to, where an untrained head is."""

import dataclasses

import jax
import numpy as np
import pytest

from jetfm.models import Directions, MaskedDirectionHead
from tests.compiled import lorentz
from tests.models.test_heads import applied, encoded

nll_of = jax.jit(Directions.nll)
COUNTS = (9, 2, 12, 6, 1)


def normalised(x):
  return np.log(x / x.sum(axis=-1, keepdims=True))


def densities(rng, particles, visible, widths):
  """Any density for each of some particles, around the first few directions."""
  share = rng.uniform(0.1, 1, (2, particles, particles))
  with np.errstate(divide="ignore"):
    log_share = normalised(np.where(np.arange(particles) < visible, share, 0))
  return Directions(
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
  made = made.replace(centres=made.centres + np.array([0, turn]))
  eta, phi = rng.normal(0, 0.4, (2, 1, 5))
  found = np.asarray(nll_of(made, eta, phi + turn))[0]
  for i in range(5):
    density = 0.0
    for k in range(3):
      # The last one is around the axis, which does not turn.
      where = (
        [(0.0, 0.0, 0.0)]
        if k == 2
        else zip(made.log_share[0, k, i], *made.centres[0].T, strict=True)
      )
      for log_share, *centre in where:
        d_eta, d_phi = eta[0, i] - centre[0], phi[0, i] + turn - centre[1]
        square = d_eta**2 + np.angle(np.exp(1j * d_phi)) ** 2
        width = np.exp(made.log_width[0, i, k])
        gauss = np.exp(-square / (2 * width**2)) / (2 * np.pi * width**2)
        density += np.exp(made.log_weight[0, i, k] + log_share) * gauss
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
  total = sum(np.exp(-nll_of(made, np.full((1, len(phi)), eta), phi[None])).sum() for eta in phi)
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
  eta, phi = np.asarray(lorentz.pseudorapidity(p4)), np.asarray(lorentz.azimuth(p4))
  found = np.asarray(nll_of(applied(head, variables, x), eta, phi))
  pt = np.asarray(lorentz.transverse_momentum(p4))
  assert x.hidden.any()
  for event, i in zip(*np.nonzero(x.hidden), strict=True):
    seen = (x.mask & ~x.hidden)[event]
    share = pt[event, seen] / pt[event, seen].sum()
    square = (eta[event, i] - eta[event, seen]) ** 2 + (phi[event, i] - phi[event, seen]) ** 2
    terms = [(share, square, w) for w in (0.1, 0.3)]
    terms.append((np.ones(1), np.array([eta[event, i] ** 2 + phi[event, i] ** 2]), 0.5))
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
  eta, phi = np.asarray(lorentz.pseudorapidity(p4)), np.asarray(lorentz.azimuth(p4))
  found = np.asarray(nll_of(applied(head, variables, x), eta, phi))
  again = np.asarray(nll_of(applied(head, variables, mixed), eta[:, order], phi[:, order]))
  assert np.isfinite(found[x.hidden]).all()
  np.testing.assert_allclose(again[mixed.hidden], found[:, order][mixed.hidden], rtol=1e-10)
