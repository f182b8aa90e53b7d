"""L-GATr as a tagger, for benchmarks/peer_torch.py.

Source: lgatr 2.0.0, built of what its documentation shows (`LGATr`, `embed_vector`,
`get_spurions`), in the size of the taggers of arXiv:2411.00446: 12 blocks, 16 multivector and 32
scalar channels, 8 heads, 1.7 M parameters. The references are further channels, a token without a
particle collects the class scores. Trimmed to the longest jet of a batch, and compiled on a GPU, as
its documentation advises.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from lgatr import LGATr, embed_vector, extract_scalar, get_spurions

Batch = dict[str, torch.Tensor]
SCALE = 20.0
"""GeV: momenta enter in this unit."""


def build(
  features: int, classes: int, device: torch.device, compiled: bool
) -> tuple[torch.nn.Module, Callable[[Batch], torch.Tensor]]:
  """The model, and its logits (B, classes) of a batch."""
  references = get_spurions().to(device)  # (R, 16)
  on_gpu = device.type == "cuda"
  model = LGATr(
    num_blocks=12,
    in_mv_channels=1 + len(references),
    out_mv_channels=classes,
    hidden_mv_channels=16,
    in_s_channels=features + 1,
    out_s_channels=0,
    hidden_s_channels=32,
    attention={"num_heads": 8},
    mlp={},
    compile=compiled or on_gpu,
    compile_kwargs={"dynamic": True},
  ).to(device)

  def logits(batch: Batch) -> torch.Tensor:
    mask = batch["mask"]
    length = int(mask.sum(dim=-1).max())
    mask, p4, scalars = (batch[name][:, :length] for name in ("mask", "p4", "features"))
    # Slot 0 is the token of the class.
    p4 = torch.nn.functional.pad(p4 / SCALE, (0, 0, 1, 0))
    scalars = torch.nn.functional.pad(scalars, (0, 1, 1, 0))
    scalars[:, 0, -1] = 1
    mask = torch.nn.functional.pad(mask, (1, 0), value=True)
    own = embed_vector(p4)[:, :, None]
    shared = references.expand(*own.shape[:2], -1, -1)
    vectors = torch.cat([own, shared], dim=2)
    out, _ = model(vectors, scalars=scalars, attn_mask=mask[:, None, None])
    return extract_scalar(out)[:, 0, :, 0]

  return model, logits
