"""The peer of benchmarks/model_speed.py: a tagger made with PyTorch, trained or applied.

  python -m benchmarks.peer_torch weaver|weaver-compile|lgatr JETS.npz --kind=train|infer
         --batch-size=B --threads=T --dtype=float32|bfloat16

Runs in an environment of its own: needs torch, numpy and the peer's package, and nothing of jetfm.
Takes a GPU where there is one. AdamW, cross entropy, gradients clipped to norm 1; bfloat16 is
autocast, as these packages do it. Jets are on the device before the clock starts.
"""

from __future__ import annotations

import argparse
import importlib

import numpy as np
import torch

from benchmarks import side

CLASSES = 10
WARM_UP = 2
"""Passes over all batches before the first measurement: lengths are compiled, caches are full."""


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("peer", choices=("weaver", "weaver-compile", "lgatr"))
  parser.add_argument("path")
  parser.add_argument("--kind", choices=("train", "infer"), required=True)
  parser.add_argument("--batch-size", type=int, required=True)
  parser.add_argument("--threads", type=int, default=0)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
  options = parser.parse_args()
  if options.threads:
    torch.set_num_threads(options.threads)
  torch.manual_seed(0)
  # As JAX multiplies float32 on a GPU; on a CPU this changes nothing.
  torch.set_float32_matmul_precision("high")
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  half = options.dtype == "bfloat16"

  jets = np.load(options.path)
  data = {name: torch.from_numpy(jets[name]).to(device) for name in jets.files}
  size = options.batch_size
  batches = [
    {name: x[i : i + size].contiguous() for name, x in data.items()}
    for i in range(0, len(data["label"]) - size + 1, size)
  ]
  module = importlib.import_module(f"benchmarks.peer_{options.peer.split('-')[0]}")
  model, logits = module.build(
    data["features"].shape[-1], CLASSES, device, compiled=options.peer.endswith("-compile")
  )
  train = options.kind == "train"
  model.train(train)
  on_gpu = device.type == "cuda"
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=on_gpu)

  def outputs(i: int) -> torch.Tensor:
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
      return logits(batches[i])

  def train_step(i: int) -> None:
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(outputs(i).float(), batches[i]["label"])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  infer_step = torch.inference_mode()(outputs)
  step = train_step if train else infer_step
  wait = torch.cuda.synchronize if on_gpu else lambda: None
  before = side.resident()
  for i in range(WARM_UP * len(batches) if on_gpu else 8):  # weaver begins to trim after five
    step(i % len(batches))
  wait()
  if on_gpu:
    torch.cuda.reset_peak_memory_stats()
  about = {
    "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    "versions": f"torch {torch.__version__}",
    "device": torch.cuda.get_device_name() if on_gpu else "cpu",
  }
  side.serve(
    about,
    step,
    wait,
    [size] * len(batches),
    "gpu" if on_gpu else "cpu",
    before,
    torch.cuda.max_memory_allocated if on_gpu else None,
  )


if __name__ == "__main__":
  main()
