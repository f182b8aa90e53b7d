"""What every metric is called, which way is better, what it means in plain words, what others got.

The keys are those of `jetfm.evals.metrics.summaries`.
"""

from __future__ import annotations

import dataclasses

from jetfm.evals.metrics.working_points import AGAINST, BACKGROUND, working_point_of


@dataclasses.dataclass(frozen=True)
class About:
  """label of a table row; better: 'higher' or 'lower'; unit; meaning in one or two sentences."""

  label: str
  better: str
  meaning: str
  unit: str = ""


TASKS = {
  "pretraining": "Pretraining",
  "classification": "Classification",
  "regression": "Regression",
  "generation": "Generation",
  "super_resolution": "Super-resolution",
  "embedding": "Embedding",
}
"""Sections of a report, in order."""

METRICS: dict[str, About] = {
  "reconstruction_gain": About(
    "reconstruction gain",
    "higher",
    "How far the reconstruction loss of masked particles lies below that of predicting the mean, "
    "as a share of the latter. A hidden particle keeps its rank in pT, which alone gives most of "
    "this: the next rows say what was learned beyond it.",
  ),
  "gain_over_rank": About(
    "reconstruction gain over the rank",
    "higher",
    "The same against guesses that know the rank: pT and E are the means of hidden particles of "
    "that rank in other jets, directions the mean.",
  ),
  "gain_over_interpolation": About(
    "reconstruction gain over interpolation",
    "higher",
    "The same against guesses without a network that know the jet: how far pT and E lie from what "
    "is usual at their rank is interpolated between the visible particles of the next ranks. Above "
    "0 the network knows more of the jet than the spectrum of its visible particles.",
  ),
  "feature_gain": About(
    "mean gain of hidden measurements",
    "higher",
    "Share of the squared error of a constant guess that is avoided, on the scale of the network's "
    "inputs; of categories, of the wrong guesses of the most frequent one. Averaged over features: "
    "1 is perfect, 0 nothing learnt.",
  ),
  "pt_gain": About(
    "gain in pT",
    "higher",
    "Share of the variance of standardised log pT of masked particles that is explained; nearly "
    "all of it by their rank in pT, which is given.",
  ),
  "pt_gain_over_rank": About(
    "gain in pT over the rank",
    "higher",
    "Share of the squared error that the mean at the rank leaves which is avoided.",
  ),
  "pt_gain_over_interpolation": About(
    "gain in pT over interpolation",
    "higher",
    "Share of the squared error that interpolation between visible ranks leaves which is avoided.",
  ),
  "eta_gain": About(
    "gain in eta", "higher", "The same of eta, relative to the axis of the jet's visible rest."
  ),
  "phi_gain": About("gain in phi", "higher", "The same of phi, in 1 − cos of the difference."),
  "energy_gain": About("gain in E", "higher", "The same of standardised log E."),
  "direction_gain": About(
    "gain in direction",
    "higher",
    "How much larger the logarithm of the predicted density at the true directions of hidden "
    "particles is than that of the jet's visible particles, smeared by their pT and as wide as is "
    "usual at the rank. Above 0 the network knows better than these where a particle is missing; a "
    "single value of eta and phi, as in the rows above, cannot say it for a jet of several prongs.",
    "nats",
  ),
  "accuracy": About(
    "accuracy", "higher", "Share of jets whose most probable class is the true one."
  ),
  "accuracy_hadronic": About(
    "accuracy without leptonic classes",
    "higher",
    "The same of jets whose true class has hadrons in its final state: decays to leptons are easy.",
  ),
  "final_state_accuracy": About(
    "accuracy of the final state",
    "higher",
    "Share of jets of which at least the final state of the most probable class is right.",
  ),
  "oracle_accuracy": About(
    "final-state oracle",
    "higher",
    "Accuracy of knowing the true final state, and always answering its most frequent class. Who "
    "reconstructs perfectly but looks at no angle or mass reaches this; more means that resonances "
    "were seen.",
  ),
  "oracle_accuracy_hadronic": About(
    "final-state oracle without leptonic classes", "higher", "The same without these classes."
  ),
  "top3": About(
    "top-3 accuracy",
    "higher",
    "Share of jets whose true class is among the three most probable.",
  ),
  "macro_f1": About(
    "macro F1",
    "higher",
    "Balance of purity and efficiency, averaged over classes without regard to their size.",
  ),
  "auc_ovr": About(
    "AUC, one against rest",
    "higher",
    "Chance that one jet of a class gets a higher score for it than one of any other class, "
    "averaged over classes.",
  ),
  "auc_ovo": About(
    "AUC, one against one",
    "higher",
    "The same between two classes only, averaged over all pairs: the AUC of the ParT paper.",
  ),
  "ece": About(
    "calibration error",
    "lower",
    "Mean distance between the stated probability and the share of right answers. 0 means that of "
    "jets that are called a class with 80 %, 80 % are of it.",
  ),
  "r2": About(
    "R²",
    "higher",
    "Share of the target's variance that the prediction explains: 1 is perfect, 0 no better than "
    "always predicting the mean.",
  ),
  "mse_gev2": About("mean squared error", "lower", "Mean squared difference.", "GeV²"),
  "mae_gev": About("mean absolute error", "lower", "Mean absolute difference.", "GeV"),
  "resolution_gev": About(
    "resolution",
    "lower",
    "Standard deviation of the difference over the mean target; a constant bias does not count.",
  ),
  "half_width": About(
    "68 % half-width",
    "lower",
    "Half the interval that holds the central 68 % of predicted over true: the width of the peak, "
    "whatever its tails.",
  ),
  "mse": About("MSE, standardised", "lower", "Mean squared difference of the z-scored target."),
  "mae": About("MAE, standardised", "lower", "Mean absolute difference of the z-scored target."),
  "resolution": About(
    "resolution, standardised",
    "lower",
    "Standard deviation of the difference over the mean absolute z-scored target; not a physical "
    "resolution, kept because it was published.",
  ),
  "mmd": About(
    "MMD",
    "lower",
    "Distance of the distributions of 5,000 true and generated particles in pT, eta, phi and E, "
    "standardised, with a Gaussian kernel. Here and below jets generated from one half of the true "
    "ones are compared with the other half; the floor compares the two halves.",
  ),
  "pt_kl": About(
    "KL of pT",
    "lower",
    "Information lost when the generated pT spectrum stands for the true one, in 50 bins over the "
    "range of both.",
    "nats",
  ),
  "pt_kl_equiprobable": About(
    "KL of pT, equiprobable bins",
    "lower",
    "The same in 50 bins that each hold 2 % of the true particles, which no generated particle of "
    "huge pT can widen.",
    "nats",
  ),
  "pt_kl_ratio": About(
    "KL of pT over the Gaussian's",
    "lower",
    "In equiprobable bins, over that of a Gaussian with the mean and covariance of the training "
    "particles: below 1 more than two moments were learned.",
  ),
  "histogram_mse": About(
    "histogram MSE",
    "lower",
    "Mean squared difference of 50-bin histograms of pT, eta, phi and E.",
  ),
  "w1_pt": About(
    "W1 of pT", "lower", "How far pT must be moved on average to match the spectra.", "GeV"
  ),
  "w1_eta": About("W1 of eta", "lower", "How far eta must be moved on average."),
  "w1_phi": About("W1 of phi", "lower", "How far phi must be moved, not wrapped.", "rad"),
  "w1_deta": About(
    "W1 of eta in the jet", "lower", "How far eta relative to the jet's axis must be moved."
  ),
  "w1_dphi": About(
    "W1 of phi in the jet", "lower", "How far phi relative to the jet's axis must be moved.", "rad"
  ),
  "w1_energy": About("W1 of E", "lower", "How far energies must be moved on average.", "GeV"),
  "w1_mass": About(
    "W1 of jet mass", "lower", "How far the masses of jets must be moved on average.", "GeV"
  ),
  "w1_multiplicity": About(
    "W1 of multiplicity",
    "lower",
    "How far the numbers of particles of jets must be moved on average.",
  ),
  "fpd": About(
    "FPD",
    "lower",
    "Fréchet distance of 36 energy flow polynomials of jets, extrapolated to infinitely many jets "
    "from samples of several sizes; never below zero. The error is that of the extrapolation.",
  ),
  "kpd": About(
    "KPD",
    "lower",
    "Kernel distance of 36 energy flow polynomials of jets, without the bias of finite samples, so "
    "that it may be below zero.",
  ),
  "chamfer": About(
    "Chamfer distance",
    "lower",
    "Mean squared angular distance to the nearest particle, from predicted to true and back.",
  ),
  "chamfer_dr": About(
    "Chamfer distance, not squared",
    "lower",
    "Chamfer with distances for their squares. Copying the input is hard to beat in it: an added "
    "particle pays only where it comes nearer to several true ones than to the next.",
  ),
  "chamfer_ratio": About(
    "Chamfer over the input's",
    "lower",
    "The squared distance over that of the input itself: below 1 by more than its error the added "
    "particles bring the jet nearer to the truth. Far particles count most; see the next row too.",
  ),
  "chamfer_dr_ratio": About(
    "Chamfer, not squared, over the input's",
    "lower",
    "The same of distances that are not squared: above 1 the added particles cost more by their "
    "own distance from true ones than they gain by being near to others.",
  ),
  "pt_emd": About(
    "EMD of pT",
    "lower",
    "How far the pT of a jet's particles must be moved on average to match the true ones.",
    "GeV",
  ),
  "multiplicity_error": About(
    "multiplicity error",
    "lower",
    "Difference of the number of particles over the true number, averaged over jets.",
  ),
  "mmd_seed": About(
    "MMD, as the seed",
    "lower",
    "On its pseudo-coordinates, padding included, of all jets against those they were made from.",
  ),
  "pt_kl_seed": About(
    "“pT” KL, as the seed",
    "lower",
    "Of its column 0, which is the standardised log energy.",
    "nats",
  ),
  "histogram_mse_seed": About(
    "histogram MSE, as the seed", "lower", "On its pseudo-coordinates, padding included."
  ),
  "chamfer_seed": About(
    "Chamfer, as the seed",
    "lower",
    "Squared distance in standardised deta and unwrapped phi over all 128 slots.",
  ),
  "pt_emd_seed": About(
    "EMD of pT, as the seed", "lower", "Of standardised log pT over all 128 slots."
  ),
  "multiplicity_error_seed": About(
    "multiplicity error, as the seed",
    "lower",
    "Slots with standardised log pT above 0.1 counted as particles.",
  ),
  "knn": About(
    "k-NN probe",
    "higher",
    "Accuracy of the nearest neighbours in the frozen embedding: what it holds without training.",
  ),
  "mlp1": About(
    "linear probe", "higher", "Accuracy of logistic regression on the frozen embedding."
  ),
  "mlp2": About("2-layer probe", "higher", "Accuracy of a network with one hidden layer on it."),
  "mlp3": About("3-layer probe", "higher", "Accuracy of a network with two hidden layers on it."),
}

TARGETS = {
  "mass": "mass",
  "gen_mass": "particle-level mass",
  "seed_mass": "“mass” of the seed",
}
"""Regression targets; their metrics are called <target>_<metric>."""


FEATURE_GAIN = "feature_gain_"
"""Begins the names of metrics of hidden measurements; the feature's name follows."""


def about(key: str) -> About:
  """The entry of a metric; for an unknown one its own name, better higher and no meaning.

  `feature_gain_<feature>`, `rejection_<class>`, `sculpting_<class>` (`.._against_<class>` where the
  background is not QCD) and `<target>_<metric>` are put together here.
  """
  if key in METRICS:
    return METRICS[key]
  if key.startswith(FEATURE_GAIN):
    name = key.removeprefix(FEATURE_GAIN)
    return About(f"gain in {name}", "higher", "")
  if key.startswith("rejection_"):
    name, background = _two_classes(key.removeprefix("rejection_"))
    point = 100 * working_point_of(name)
    return About(
      f"rejection of {background} by {name}",
      "higher",
      f"One {background} jet in how many passes a cut that keeps {point:g} % of {name} jets.",
    )
  if key.startswith("sculpting_"):
    name, background = _two_classes(key.removeprefix("sculpting_"))
    return About(
      f"mass sculpting by {name}",
      "lower",
      f"Jensen-Shannon distance of the mass spectra of {background} before and after the cut of "
      f"{name}.",
    )
  for target in sorted(TARGETS, key=len, reverse=True):
    metric = key.removeprefix(f"{target}_")
    if metric != key and metric in METRICS:
      entry = METRICS[metric]
      return dataclasses.replace(entry, label=f"{TARGETS[target]}: {entry.label}")
  return About(key.replace("_", " "), "higher", "")


def _two_classes(name: str) -> tuple[str, str]:
  signal, _, background = name.partition(AGAINST)
  return signal, background or BACKGROUND
