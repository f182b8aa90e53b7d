"""Scores of a ParT that `benchmarks.peer_training` trained, of any jets.

  python -m benchmarks.peer_scores JETS.npz TRAINED/last.pt SCORES.npy THREADS

Runs in the peers' environment.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import torch

from benchmarks.peer_training import Jets, make, scores


def main() -> None:
  jets, trained, out = (pathlib.Path(argument) for argument in sys.argv[1:4])
  torch.set_num_threads(int(sys.argv[4]))
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  state = torch.load(trained, map_location=device)
  model, _ = make(state["settings"], device)
  model.load_state_dict(state["best"])
  np.save(out, scores(model, Jets(jets), 0, device))


if __name__ == "__main__":
  main()
