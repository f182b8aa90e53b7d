"""ParT of weaver-core with its defaults, for benchmarks/peer_torch.py.

Source: weaver-core 0.5.3, weaver/nn/model/ParticleTransformer.py: 8 layers, two class blocks,
dropout 0.1, trim=True, the pair MLP on pairs of real particles only. To be compiled, it is made
with its own `compile_model=True`: trimmed lengths are multiples of 32 in training, pairs are dense.
Then each length is compiled on its own, as torch's program for any length fails in training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer

Batch = dict[str, torch.Tensor]


def build(
  features: int, classes: int, device: torch.device, compiled: bool
) -> tuple[torch.nn.Module, Callable[[Batch], torch.Tensor]]:
  """The model, and its logits (B, classes) of a batch."""
  model = ParticleTransformer(features, num_classes=classes, compile_model=compiled).to(device)
  runs: dict[bool, Callable[..., torch.Tensor]] = {True: model, False: model}
  if compiled:
    runs = {True: torch.compile(model, dynamic=False), False: torch.compile(model)}

  def logits(batch: Batch) -> torch.Tensor:
    # weaver's order is px, py, pz, E, and particles are the last axis.
    vectors = batch["p4"].roll(-1, dims=-1).transpose(1, 2)
    return runs[model.training](
      batch["features"].transpose(1, 2), v=vectors, mask=batch["mask"][:, None]
    )

  return model, logits
