"""weaver-core's ParT trained on jets of `benchmarks.weaver_cell`, and its scores of the test jets.

  python -m benchmarks.peer_training JETS FOLDER THREADS

JETS has train.npz, valid.npz and test.npz, FOLDER settings.json; it gets scores.npy and about.json.
Runs in the peers' environment: needs torch, numpy and weaver-core. AdamW with a rate that rises and
falls as jetfm's and decays the same kinds of parameters, gradients clipped, cross entropy; of the
checkpoints the one is used that is right most often on the jets of validation. SIGTERM saves, and
the same command goes on.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import signal
import sys
from typing import Any

import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from benchmarks.peer_steps import rate, rows_of

LENGTHS = (32, 48, 64, 96, 128)
EVALUATED_AT_ONCE = 500
EXIT_TERMINATED = 75
NOT_DECAYED = ("cls_token", "w_resid", "c_attn")


class Jets:
  """Jets of a file, as padded tensors on request."""

  def __init__(self, path: pathlib.Path):
    file = np.load(path)
    self.particles, self.count, self.label = file["particles"], file["count"], file["label"]
    self.first = np.cumsum(self.count) - self.count
    if (longest := int(self.count.max())) > LENGTHS[-1]:
      sys.exit(f"error: {path}: a jet of {longest} particles, expected at most {LENGTHS[-1]}")

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
    arrays = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    return {name: torch.from_numpy(x).to(device) for name, x in arrays.items()}


def logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
  """(B, classes); weaver's order of momenta is px, py, pz, E."""
  vectors = batch["particles"][:, :4].roll(-1, dims=1)
  return model(batch["particles"][:, 4:], v=vectors, mask=batch["mask"])


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


def make(
  settings: dict[str, Any], device: torch.device
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
  """Fresh model and optimizer."""
  torch.manual_seed(settings["seed"])
  model = ParticleTransformer(
    settings["features"], num_classes=settings["classes"], **settings["model"]
  ).to(device)
  options = settings["optimizer"]
  groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
  for name, parameter in model.named_parameters():
    groups[parameter.ndim >= 2 and name.split(".")[-1] not in NOT_DECAYED].append(parameter)
  optimizer = torch.optim.AdamW(
    [{"params": groups[True]}, {"params": groups[False], "weight_decay": 0.0}],
    lr=options["rate"],
    betas=(options["b1"], options["b2"]),
    eps=options["eps"],
    weight_decay=options["weight_decay"],
  )
  return model, optimizer


def restore(
  path: pathlib.Path,
  settings: dict[str, Any],
  model: torch.nn.Module,
  optimizer: torch.optim.Optimizer,
  device: torch.device,
) -> dict[str, Any]:
  """What was saved, in model and optimizer too; the state of a start where there is nothing."""
  if not path.exists():
    return {"step": 0, "accuracy": -1.0, "best": None, "settings": settings}
  state = torch.load(path, map_location=device)
  if state["settings"] != settings:
    sys.exit(f"error: {path} was trained with other settings: remove it, or give another --out")
  model.load_state_dict(state["model"])
  optimizer.load_state_dict(state["optimizer"])
  torch.manual_seed(settings["seed"] + state["step"])
  return state


def train(
  settings: dict[str, Any], folder: pathlib.Path, last: pathlib.Path, device: torch.device
) -> torch.nn.Module:
  """The model that was right most often on the jets of validation."""
  asked: list[int] = []
  signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
  model, optimizer = make(settings, device)
  state = restore(last, settings, model, optimizer, device)
  jets, valid = Jets(folder / "train.npz"), Jets(folder / "valid.npz")
  steps, size = settings["steps"], settings["batch_size"]

  def save(step: int) -> None:
    new = last.with_suffix(".new")
    arrays = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step} | arrays, new)
    new.replace(last)

  rows = rows_of(len(jets.label), size, settings["seed"], state["step"], steps)
  for step, chosen in enumerate(rows, state["step"]):
    if asked:
      save(step)
      sys.exit(EXIT_TERMINATED)
    for group in optimizer.param_groups:
      group["lr"] = rate(step, steps, settings["optimizer"])
    batch = jets.batch(chosen, device)
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(logits(model, batch), batch["label"])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings["optimizer"]["clip"])
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
    save(done)
  model.load_state_dict(state["best"])
  return model


def main() -> None:
  folder, out = (pathlib.Path(argument) for argument in sys.argv[1:3])
  torch.set_num_threads(int(sys.argv[3]))
  settings = json.loads((out / "settings.json").read_text())
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  model = train(settings, folder, out / "last.pt", device)
  packages = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "weaver-core")]
  about = {
    "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    "versions": ", ".join(packages),
  }
  (out / "about.json").write_text(json.dumps(about))
  np.save(out / "scores.npy", scores(model, Jets(folder / "test.npz"), 0, device))


if __name__ == "__main__":
  main()
