"""The whole encoder in its invariant mode: tokens do not change, multivectors transform."""

import jax
import numpy as np
import pytest

from jetfm.models import LorentzParT
from jetfm.nn import reference_vectors
from tests.compiled import lorentz

REFERENCES = ("time", "beam")


@pytest.fixture
def encode(sizes, schema, initialise):
  """encode(batch, transform, **options): tokens and multivectors after a transformation of
  everything that has a direction; parameters are the same for every call with equal options."""
  programs = {}

  def run(batch, transform, **options):
    options = {"scalars": "invariant", "frame": "lab", "pair": "invariant", **options}
    key = tuple(options.items())
    if key not in programs:
      encoder = LorentzParT(schema, references=REFERENCES, **sizes, **options)
      variables = initialise(encoder, batch)
      programs[key] = jax.jit(lambda b, r: encoder.apply(variables, b, references=r))
    p4 = lorentz.transform_vectors(transform, batch.p4)
    references = lorentz.transform_vectors(transform, reference_vectors(REFERENCES))
    out = programs[key](batch.replace(p4=p4), references)
    return np.asarray(out.tokens), np.asarray(out.multivectors)

  return run


def errors(encode, batch, transform, **options):
  """Largest change of the tokens, and of the multivectors from what they should become."""
  tokens, mv = encode(batch, np.eye(4), **options)
  moved_tokens, moved_mv = encode(batch, transform, **options)
  expected = np.asarray(lorentz.transform_multivectors(transform, mv))
  real = batch.mask
  assert np.abs(mv[real]).max(axis=(-1, -2)).min() > 1e-3  # none is zero
  return (
    np.abs(moved_tokens - tokens).max() / np.abs(tokens).max(),
    np.abs(moved_mv - expected).max() / np.abs(expected).max(),
  )


@pytest.mark.parametrize("subgroup, hide", [(False, True), (True, False)])
def test_the_whole_encoder_is_equivariant(x64, encode, make_batch, subgroup, hide):
  batch = make_batch(dtype=np.float64, hide=hide)
  for seed in range(3):
    transform = lorentz.random_lorentz(
      jax.random.key(seed), max_rapidity=2.0, reflections=not subgroup
    )
    assert max(errors(encode, batch, transform, subgroup=subgroup)) < 1e-10


def test_what_is_not_equivariant_fails(x64, encode, make_batch):
  """The negative controls: each option that gives up the symmetry is seen by the same check."""
  batch = make_batch(dtype=np.float64)
  boost = lorentz.boost(0.7, np.array([1.0, 0.5, -0.2]))
  tokens, mv = errors(encode, batch, boost, mv_out="projected")
  assert tokens < 1e-10 and mv > 1e-3  # the published projection, alone
  assert errors(encode, batch, boost, scalars="schema")[0] > 1e-6


def test_jet_frame_makes_tokens_invariant_about_and_along_the_beam(
  x64, sizes, schema, make_batch, initialise
):
  """With invariant scalars in the jet frame the collider's own symmetries are exact for fixed
  references: rotations about the beam and boosts along it."""
  batch = make_batch(dtype=np.float64, hide=True)
  encoder = LorentzParT(schema, scalars="invariant", **sizes)
  variables = initialise(encoder, batch)
  apply = jax.jit(lambda b: encoder.apply(variables, b))
  still = apply(batch)
  beam = np.array([0.0, 0.0, 1.0])
  for boost, turn in ((0.0, 2.1), (0.4, -0.3)):
    transform = np.asarray(lorentz.boost(boost, beam)) @ lorentz.rotation(beam, turn)
    moved = apply(batch.replace(p4=lorentz.transform_vectors(transform, batch.p4)))
    np.testing.assert_allclose(moved.tokens, still.tokens, atol=1e-10)
    np.testing.assert_allclose(moved.multivectors, still.multivectors, atol=1e-10)
    back = lorentz.transform_vectors(moved.frame, lorentz.transform_vectors(transform, batch.p4))
    ours = lorentz.transform_vectors(still.frame, batch.p4)
    np.testing.assert_allclose(back, ours, atol=1e-10)
