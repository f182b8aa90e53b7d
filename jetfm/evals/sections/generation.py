"""Section of generation: generated against true particles, beside trivial generators."""

from __future__ import annotations

import numpy as np

from jetfm.evals.metrics import (
  Measurement,
  Particles,
  UndefinedMetric,
  flat_particles,
  gaussian_baseline,
  generation_seed,
  generation_summary,
  histogram_sampling_baseline,
  jet_mass,
  particle_coordinates,
  seed_constants,
  seed_coordinates,
  seed_multivector,
  split_jets,
)
from jetfm.evals.metrics.seed import GENERATED_SLOTS
from jetfm.evals.metrics.weighting import random_halves
from jetfm.evals.sections.jets import Jets, Section, packed_by_pt

HISTOGRAMS, GAUSSIAN = "histogram sampling", "Gaussian fit"
PAIRED = (
  "conditioned on the true jets it is compared with: no floor of independent halves bounds it"
)


def generation_section(
  jets: Jets,
  generated: Jets,
  training: Jets | None,
  *,
  jetnet_jets: int = 0,
  seed: int = 0,
  figures: bool = True,
) -> Section:
  """Distances of the generated jets from the true ones, their floors, and the seed's variants.

  Each generated jet was made knowing the true one of its row: its embedding or its kinematics, and
  its direction. So jets generated from one half are compared with the true ones of the other half,
  and the floor compares the two true halves. The seed's variants compare all with all, as it did.

  `generated` has weights of its own; `training` are other jets than the true ones, to which the
  trivial generators and the seed's standardisation are fitted: without them both are left out.
  """
  try:
    told, unseen = random_halves(len(jets), seed=seed)
    for some, rows in ((jets, told), (jets, unseen), (generated, told)):
      flat_particles(some.p4[rows], some.mask[rows], some.weight[rows])
  except UndefinedMetric as error:
    return Section({"mmd": Measurement(None, reason=str(error))})
  true, made = jets.select(unseen), generated.select(told)
  baselines = {} if training is None else _trivial(true, training, seed)
  metrics = generation_summary(
    *((some.p4, some.mask, some.weight) for some in (true, made, jets.select(told))),
    baselines=baselines,
    jetnet_jets=jetnet_jets,
    seed=seed,
  )
  kl = metrics["pt_kl_equiprobable"]
  gaussian = kl.others.get(GAUSSIAN)
  if kl.value is not None and gaussian:
    metrics["pt_kl_ratio"] = Measurement(
      kl.value / gaussian,
      reference=None if kl.reference is None else kl.reference / gaussian,
      reference_kind="floor",
      baseline=1.0,
      baseline_kind=GAUSSIAN,
    )
  if training is not None:
    metrics |= _as_the_seed(jets, generated, training, seed)
  details = {
    "jets that were generated from": len(told),
    "other jets that these are compared with": len(unseen),
    "trivial generators were fitted to": len(training or ()),
  }
  section = Section(metrics, details)
  if figures:
    section.figures.extend(_draw(true, made, baselines))
  return section


def _trivial(jets: Jets, training: Jets, seed: int) -> dict[str, Particles]:
  """Particles of the trivial generators, as many jets of each class as the true ones."""
  coordinates = particle_coordinates(training.p4, training.mask)
  label, like = training.label, jets.label
  if set(like.tolist()) - set(label.tolist()):  # a class that training lacks: all are one
    label, like = np.zeros_like(label), np.zeros_like(like)
  drawn = histogram_sampling_baseline(
    coordinates, training.mask, label, training.weight, like=like, seed=seed
  )
  particles = flat_particles(coordinates, training.mask, training.weight)
  size = int(jets.mask.sum())
  return {
    HISTOGRAMS: flat_particles(*drawn, jets.weight),
    GAUSSIAN: gaussian_baseline(particles, size, seed=seed),
  }


def _as_the_seed(jets: Jets, generated: Jets, training: Jets, seed: int) -> dict[str, Measurement]:
  mean, std = seed_constants(training.p4, training.mask)

  def seen(some: Jets) -> np.ndarray:
    p4, mask = packed_by_pt(some.p4, some.mask, GENERATED_SLOTS)
    return seed_multivector(seed_coordinates(p4, mask, mean, std))

  true = seen(jets)
  floor = generation_seed(*(half for (half,) in split_jets(true, seed=seed)), seed=seed)
  found = generation_seed(true, seen(generated), seed=seed)
  return {
    name: Measurement(value, reference=floor[name], reference_kind="floor", note=PAIRED)
    for name, value in found.items()
  }


def _draw(jets: Jets, generated: Jets, baselines: dict[str, Particles]):
  from jetfm.evals import plots

  def particles(some: Jets) -> Particles:
    return flat_particles(particle_coordinates(some.p4, some.mask), some.mask, some.weight)

  def whole(some: Jets) -> Particles:
    values = [jet_mass(some.p4, some.mask), some.pt, some.mask.sum(axis=1)]
    return Particles(np.stack(values, axis=1).astype(np.float64), some.weight)

  samples = {"generated": particles(generated)}
  if HISTOGRAMS in baselines:
    samples[HISTOGRAMS] = baselines[HISTOGRAMS]
  jet_axes = ("jet mass (GeV)", r"jet $p_T$ (GeV)", "particles in the jet")
  return [
    ("spectra", "particles", plots.spectra_figure(particles(jets), samples)),
    (
      "spectra",
      "jets",
      plots.spectra_figure(
        whole(jets), {"generated": whole(generated)}, jet_axes, (False,) * 3, of="jets"
      ),
    ),
  ]
