"""weaver-core's ParT trained on jets of `benchmarks.weaver_cell`, and its scores of the test jets.

  python -m benchmarks.peer_training JETS FOLDER

JETS has train.npz, valid.npz and test.npz, FOLDER settings.json. Runs in the peers' environment:
needs torch, numpy and weaver-core. AdamW with a rate that rises and falls as jetfm's, gradients
clipped, cross entropy; of the checkpoints the one is used that is right most often on the jets of
validation. What is written at each evaluation is where the same command goes on.
"""

from __future__ import annotations

import json
import math
import pathlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer

LENGTHS = (32, 48, 64, 96, 128)
EVALUATED_AT_ONCE = 500


class Jets:
  """Jets of a file, as padded tensors on request."""

  def __init__(self, path: pathlib.Path):
    file = np.load(path)
    self.particles, self.count, self.label = file["particles"], file["count"], file["label"]
    self.first = np.cumsum(self.count) - self.count

  def batch(self, rows: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
    """Padded to the next of a few lengths."""
    most = int(self.count[rows].max())
    length = next(n for n in LENGTHS if n >= most)
    slots = np.arange(length)
    mask = slots < self.count[rows, None]
    particles = self.particles[np.where(mask, self.first[rows, None] + slots, 0)]
    tensors = {
      "particles": (particles * mask[..., None]).transpose(0, 2, 1),
      "mask": mask[:, None],
      "label": self.label[rows].astype(np.int64),
    }
    return {
      name: torch.from_numpy(np.ascontiguousarray(x)).to(device) for name, x in tensors.items()
    }


def logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
  """(B, classes); weaver's order of momenta is px, py, pz, E."""
  vectors = batch["particles"][:, :4].roll(-1, dims=1)
  return model(batch["particles"][:, 4:], v=vectors, mask=batch["mask"])


def rows_of(jets: int, size: int, seed: int, first: int, steps: int) -> Iterator[np.ndarray]:
  """The jets of each step from `first`: every epoch another order."""
  per_epoch = jets // size
  for step in range(first, steps):
    epoch, place = divmod(step, per_epoch)
    if step == first or not place:
      order = np.random.default_rng((seed, epoch)).permutation(jets)
    yield order[place * size : (place + 1) * size]


def rate(step: int, steps: int, optimizer: dict[str, Any]) -> float:
  """Rises linearly from zero, falls as half a cosine to `final` of the peak."""
  if step < optimizer["warmup"]:
    return optimizer["rate"] * step / optimizer["warmup"]
  fallen = (step - optimizer["warmup"]) / max(1, steps - optimizer["warmup"])
  low = optimizer["final"]
  return optimizer["rate"] * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * fallen)))


@torch.inference_mode()
def scores(model: torch.nn.Module, jets: Jets, most: int, device: torch.device) -> np.ndarray:
  """(B, classes) probabilities of the first `most` jets, 0 for all."""
  model.eval()
  number = min(most or len(jets.label), len(jets.label))
  found = np.concatenate(
    [
      logits(model, jets.batch(np.arange(i, min(i + EVALUATED_AT_ONCE, number)), device))
      .softmax(dim=1)
      .cpu()
      .numpy()
      for i in range(0, number, EVALUATED_AT_ONCE)
    ]
  )
  model.train()
  return found


def main() -> None:
  folder, out = (pathlib.Path(argument) for argument in sys.argv[1:])
  settings = json.loads((out / "settings.json").read_text())
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  torch.manual_seed(settings["seed"])
  train, valid = Jets(folder / "train.npz"), Jets(folder / "valid.npz")
  model = ParticleTransformer(
    settings["features"], num_classes=settings["classes"], **settings["model"]
  ).to(device)
  print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
  options = settings["optimizer"]
  optimizer = torch.optim.AdamW(
    model.parameters(),
    lr=options["rate"],
    betas=(options["b1"], options["b2"]),
    eps=options["eps"],
    weight_decay=options["weight_decay"],
  )
  state: dict[str, Any] = {"step": 0, "accuracy": -1.0, "best": None}
  last = out / "last.pt"
  if last.exists():
    state = torch.load(last, map_location=device)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.manual_seed(settings["seed"] + state["step"])
  steps, size = settings["steps"], settings["batch_size"]
  rows = rows_of(len(train.label), size, settings["seed"], state["step"], steps)
  for step, chosen in enumerate(rows, state["step"]):
    for group in optimizer.param_groups:
      group["lr"] = rate(step, steps, options)
    batch = train.batch(chosen, device)
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(logits(model, batch), batch["label"])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), options["clip"])
    optimizer.step()
    done = step + 1
    if done % settings["eval_every"] and done < steps:
      continue
    found = scores(model, valid, settings["eval_events"], device).argmax(axis=1)
    accuracy = float((found == valid.label[: len(found)]).mean())
    print(f"step {done}: loss {loss.item():.4f}, validation {accuracy:.4f}", flush=True)
    if accuracy > state["accuracy"]:
      best = {name: x.detach().clone() for name, x in model.state_dict().items()}
      state |= {"accuracy": accuracy, "best": best}
    state |= {"step": done, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, out / "new.pt")
    (out / "new.pt").replace(last)
  model.load_state_dict(state["best"])
  np.save(out / "scores.npy", scores(model, Jets(folder / "test.npz"), 0, device))


if __name__ == "__main__":
  main()
