"""What a report says in plain words of each kind of figure, and how its page looks."""

from __future__ import annotations

import re

FIGURES = {
  "training": (
    "Training curves",
    "The loss against the training step. Training and validation should fall together; validation "
    "that rises while training falls is overtraining.",
  ),
  "true_predicted": (
    "Masked particles: predicted against true",
    "Particles that were hidden from the encoder, reconstructed from the rest of the jet. Perfect "
    "predictions lie on the red diagonal; a horizontal band is a prediction that ignores its "
    "input.",
  ),
  "directions": (
    "Where hidden particles are expected",
    "How many hidden particles are expected in each direction by what the encoder sees of the jet: "
    "darker is more, on a logarithmic scale. Circles are the visible particles, areas "
    "proportional to pT; red crosses the hidden ones. They should lie where it is dark.",
  ),
  "features": (
    "Hidden measurements",
    "Measurements that were hidden from the encoder, guessed from the rest of the jet. A bar at 1 "
    "is a perfect guess, one at 0 no better than the same guess for all.",
  ),
  "reconstruction": (
    "Hidden measurements: best guess against truth",
    "Perfect guesses lie on the red diagonal; a horizontal band is a guess that ignores the rest "
    "of the jet. Scaled as the network's inputs; a category's column shows what it is taken for.",
  ),
  "densities": (
    "Hidden measurements: sampled densities",
    "A value drawn from the density that was predicted for each hidden measurement, beside the "
    "data. They agree where the shape of the density is right, however well single ones are known.",
  ),
  "roc": (
    "Background rejection against signal efficiency",
    "How many background jets are rejected for one that passes, at each share of signal kept. "
    "Higher is better; the dotted line is guessing; markers are the published working points.",
  ),
  "confusion": (
    "Confusion matrix",
    "Of the jets of the class in a row, how many per cent are called each class. A perfect tagger "
    "has 100 on the diagonal. Blocks beside the diagonal show which classes look alike. Classes "
    "that are too many to be named have the numbers of their order in results.json.",
  ),
  "confusions": (
    "Worst confusions",
    "Which classes are taken for which, by the share of the true one that goes wrong so; of "
    "classes with 20 jets and more. The whole matrix is in results.json.",
  ),
  "pt_dependence": (
    "Dependence on jet momentum",
    "One cut for all jets, its efficiency and rejection in bins of jet pT. Flat efficiency means "
    "that the working point holds for soft and hard jets alike.",
  ),
  "sculpting": (
    "Mass sculpting",
    "The mass of background jets before (grey) and after the cut of each class. A tagger that "
    "carves a peak into it fakes a resonance; the distance says how much, the floor what chance "
    "gives.",
  ),
  "response": (
    "Regressed mass against truth",
    "Left: each jet's regressed against its true value. Right: their ratio; the band holds the "
    "central 68\u00a0%. A peak at 1 means no bias, its width is the resolution.",
  ),
  "spectra": (
    "Generated against true spectra",
    "Distributions of particles, and below their ratio to the truth, of other jets than those they "
    "were generated from. The grey band is what statistics allows; inside it generated particles "
    "cannot be told from true ones here.",
  ),
  "jets": (
    "Jets before and after super-resolution",
    "Single jets in the plane of eta and phi around their axis; the larger a circle, the more pT. "
    "The dotted circle is the jet radius.",
  ),
  "embedding": (
    "Map of the embedding",
    "The encoder's jet embeddings squeezed into two dimensions; near points were embedded alike. "
    "Sizes of gaps and of clusters mean nothing.",
  ),
}
"""Kind of figure -> title, explanation."""


def worded(text: str, of: str) -> str:
  """A text about jets, in the words of a report of jets or of events."""
  if of == "jets":
    return text
  return re.sub(r"\b([Jj])et(s?)\b", lambda m: ("E" if m[1] == "J" else "e") + "vent" + m[2], text)


STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #5a5f66; --line: #d5d8dc; --tint: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.2rem 3rem; max-width: 78rem; color: var(--ink);
  background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .6rem 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .2rem; }
p { margin: .3rem 0 .7rem; max-width: 48rem; }
small, .soft { color: var(--soft); font-size: .82rem; line-height: 1.35; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .8rem 0; }
nav a { color: #1f5fa8; padding: .3rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; vertical-align: top; padding: .4rem .6rem;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid var(--soft); font-size: .88rem; }
.wide { overflow-x: auto; }
td.metric { min-width: 15rem; }
td.compared { min-width: 9.5rem; }
td small { display: block; font-weight: 400; }
td.best { font-weight: 600; background: var(--tint); }
td.text { text-align: left; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
figure { margin: 0; break-inside: avoid; max-width: 46rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .88rem; color: var(--soft); }
@media screen and (max-width: 700px) {
  body { padding: .6rem .8rem 2rem; }
  .figures { grid-template-columns: 1fr; }
  table, tbody, tr, td { display: block; width: 100%; }
  thead { position: absolute; left: -9999px; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .3rem 0; }
  td, td.text, td.compared { border: 0; padding: .15rem .7rem; text-align: right; display: flex;
    gap: 1rem; justify-content: space-between; min-width: 0; }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; flex: 0 1 45%;
    font-weight: 400; }
  td > span { flex: 1 1 55%; }
  td.metric { display: block; text-align: left; min-width: 0; padding-bottom: .3rem; }
  td.metric::before { content: none; }
  td.empty { display: none; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  h3 + p { break-after: avoid; }
  .wide { overflow: visible; }
  table { font-size: 8.5pt; }
  thead { display: table-header-group; }
  th, td { padding: .25rem .3rem; }
  td.metric { min-width: 8rem; }
  td small { font-size: 7pt; }
  .figures { grid-template-columns: repeat(auto-fit, minmax(8cm, 1fr)); }
  figure { max-width: 12cm; }
}
"""
