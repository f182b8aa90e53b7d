"""The peer of benchmarks/model_speed.py, run in an environment of its own: ParT of weaver-core.

Needs torch, weaver-core and numpy, and nothing of jetfm. Speaks JSON, one line per message: first
how many parameters it has, then one rate for each line `train SECONDS` or `infer SECONDS`.

Source: weaver-core 0.5.3, weaver/nn/model/ParticleTransformer.py, with its defaults (8 layers, two
class blocks, trim=True, dropout 0.1), AdamW and cross entropy, in float32.
"""

import json
import sys
import time

import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer


def main(path: str, batch_size: int, threads: int) -> None:
  torch.set_num_threads(threads)
  torch.manual_seed(0)
  jets = np.load(path)
  data = {name: torch.from_numpy(jets[name]) for name in jets.files}
  data["features"] = data["features"].transpose(1, 2).contiguous()
  # weaver's order is px, py, pz, E.
  data["vectors"] = data.pop("p4")[..., [1, 2, 3, 0]].transpose(1, 2).contiguous()
  data["mask"] = data["mask"][:, None]
  batches = [
    {name: x[i : i + batch_size] for name, x in data.items()}
    for i in range(0, len(data["label"]) - batch_size + 1, batch_size)
  ]
  model = ParticleTransformer(data["features"].shape[1], num_classes=10)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

  def logits(batch):
    return model(batch["features"], v=batch["vectors"], mask=batch["mask"])

  def train(batch):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(logits(batch), batch["label"])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  @torch.inference_mode()
  def infer(batch):
    logits(batch)

  def rate(kind: str, seconds: float) -> float:
    model.train(kind == "train")
    step = train if kind == "train" else infer
    step(batches[0])
    jets = i = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
      step(batches[i % len(batches)])
      jets += len(batches[i % len(batches)]["label"])
      i += 1
    return jets / spent

  for _ in range(6):  # its trimming begins after five batches
    train(batches[0])
  parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
  versions = f"torch {torch.__version__}"
  print(json.dumps({"parameters": parameters, "versions": versions}), flush=True)
  for line in sys.stdin:
    kind, seconds = line.split()
    print(json.dumps(rate(kind, float(seconds))), flush=True)


if __name__ == "__main__":
  main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
