"""CLEAR: e+e- -> J/psi events, masked and contrastive pretraining, then every way of fine-tuning.

  python -m launch.train --config=configs/clear.py:base --workdir=runs/clear \\
      --config.data.directory=datasets/jpsi

Variants: `base` (D 128, 8 heads, 6 self-attention and 2 class-attention blocks, about 1.9 M
parameters); `short` the same with a schedule of minutes on one H100; `tiny`, of 60,000 parameters,
runs in minutes on a laptop; `cpu` trains the same longer, for the table of `benchmarks.reproduce`.
One stage alone, from another run's encoder:

  python -m launch.train --config=configs/clear.py:base --workdir=runs/probe \\
      --config.data.directory=datasets/jpsi --config.stages=probe_2 \\
      --config.stage.probe_2.init_from=runs/clear/pretrain/best

Stages, with the published accuracy of 100 classes for each strategy (BESIII foundation model, 3 M
events; jetfm.evals.probes has the k-NN probe of [A], 0.543):
pretrain         hidden measurements under the schema's likelihoods, and supervised contrast.
pretrain_views   the same without labels: two distorted views of each event instead of classes. Not
                 run by default; the others start from it with --config.stage.NAME.init_from.
probe_1          [A] frozen encoder, logistic regression: 0.598
probe_2, probe_3 [A] frozen encoder, MLP of two and three layers: 0.611, 0.612
class_attention  [B] class-attention blocks and head: 0.653
differential     [C] everything, learning rates fall block by block: 0.691
multi_task       [D] classification with the pretraining's tasks, balanced by their noise: 0.693
two_stage        [E] goes on from class_attention with everything, at a very low rate: 0.685

`cpu` reached with 60,000 generated events, mean of three seeds: k-NN 0.615, probe_1 0.604, probe_2
0.610, probe_3 0.612, class_attention 0.626, differential 0.639, multi_task 0.639, two_stage 0.630.
Seeing only the true final state allows 0.702. All of it: benchmarks/results/README.md.

Keys are those of configs/lorentz_part.py. encoder.conditions are event counts (() for plain norms),
encoder.pair 'event' or None; encoder.combine 'concatenate' or 'sum'.
"""

from ml_collections import ConfigDict

VARIANTS = ("base", "short", "cpu", "tiny")


def get_config(variant="base"):
  if variant not in VARIANTS:
    raise ValueError(f"no variant '{variant}'; there are {', '.join(VARIANTS)}")
  tiny, short = variant in ("cpu", "tiny"), variant == "short"
  batch = {"base": 1024, "short": 4096, "cpu": 256, "tiny": 256}[variant]
  config = ConfigDict()
  config.workdir = ""
  config.seed = 0
  config.max_nonfinite = 10
  config.stages = (
    "pretrain",
    "probe_1",
    "probe_2",
    "probe_3",
    "class_attention",
    "differential",
    "multi_task",
    "two_stage",
  )
  config.data = ConfigDict(
    {
      "directory": "",
      "inputs": "bes",
      # A compiled step for every length: where training is short, compiling takes longer.
      "lengths": (8, 16) if tiny else (8, 24) if short else (4, 6, 8, 12, 16, 24),
      "batch_size": batch,
      "eval_batch_size": batch,
      "train_events": 0,
      "eval_events": {"base": 100_000, "short": 10_000, "cpu": 5_000}.get(variant, 2_000),
      "lanes": 4,
      "workers": 0 if tiny else 2,
    }
  )
  config.encoder = ConfigDict(
    {
      "kind": "clear",
      "width": 32 if tiny else 128,
      "depth": 2 if tiny else 6,
      "class_depth": 1 if tiny else 2,
      "heads": 4 if tiny else 8,
      "embed_widths": (32,) if tiny else (128,),
      "combine": "concatenate",
      "conditions": ("charged", "neutral", "charged_without_emc", "neutral_without_moments"),
      "pair": "event",
      "pair_widths": (16, 16) if tiny else (64, 64, 64),
      "pair_activation": "gelu",
      "pair_norm": True,
      "dropout": 0.0 if tiny else 0.1,
      "dtype": "float32",
      "remat": False,
    }
  )
  width = 32 if tiny else 128
  projection = {"widths": (width, width // 2)}
  features = {
    "object_ratio": 0.15,
    "group_ratio": 0.15,
    "components": 5,
    "head_options": {"widths": (width,)},
  }
  classes = {"temperature": 0.1, "head_options": projection}
  views = {
    "temperature": 0.2,
    "distortion": {"rotate": True, "smear": 0.02, "drop": 0.1},
    "head_options": projection,
  }
  tagging = {
    "smoothing": 0.0,
    "head_options": {"widths": (width,), "dropout": 0.0 if tiny else 0.1},
  }
  pretraining, tuning = {
    "base": (200_000, 50_000),
    "short": (3_000, 1_000),
    "cpu": (2_500, 1_500),
    "tiny": (1_000, 450),
  }[variant]
  stage = config.stage = ConfigDict()
  stage.pretrain = _stage(
    variant,
    {"masked_features": features, "supervised_contrastive": {**classes, "weight": 0.5}},
    steps=pretraining,
    init_from="",
  )
  stage.pretrain_views = _stage(
    variant,
    {"masked_features": features, "view_contrastive": {**views, "weight": 0.5}},
    steps=pretraining,
    init_from="",
    augment=(),  # the two views are turned
  )
  for layers in (1, 2, 3):
    head = {"widths": (width,) * (layers - 1)}
    stage[f"probe_{layers}"] = _stage(
      variant, {"classification": {"smoothing": 0.0, "head_options": head}}, tuning, "frozen"
    )
  stage.class_attention = _stage(variant, {"classification": tagging}, tuning, "class_attention")
  stage.differential = _stage(variant, {"classification": tagging}, tuning, "differential")
  stage.multi_task = _stage(
    variant,
    {
      "classification": tagging,
      "masked_features": {**features, "weight": 0.2},
      "supervised_contrastive": {**classes, "weight": 0.2},
    },
    steps=tuning,
    strategy="differential",
    balance="uncertainty",
  )
  stage.two_stage = _stage(
    variant,
    {"classification": tagging},
    steps=tuning // 2,
    init_from="class_attention",
    rename=(("(.*)", r"\1"),),
    fresh=(),
    rate={"base": 2e-5, "short": 1e-4}.get(variant, 3e-4),
  )
  return config


def _stage(
  variant,
  tasks,
  steps,
  strategy="full",
  balance="fixed",
  init_from="pretrain",
  rename=(("(encoder/.*)", r"\1"), ("heads/.*", "")),
  fresh=("heads/.*",),
  augment=("rotate_phi", "flip_eta"),
  rate=None,
):
  every = {"base": 2_000, "short": 500}.get(variant, 250)
  tagging = "classification" in tasks
  return ConfigDict(
    {
      "tasks": {name: {"weight": 1.0, **options} for name, options in tasks.items()},
      "strategy": strategy,
      "last_blocks": 1 if variant in ("cpu", "tiny") else 2,
      "rate_decay": 0.75,
      "balance": balance,
      "init_from": init_from,
      "rename": rename,
      "fresh": fresh,
      "differing": (),
      "augment": augment,
      "steps": steps,
      "accumulate": 1,
      "remat": False,
      "log_every": every // 20,
      "eval_every": every,
      "save_every": every,
      "patience": 0,
      "monitor": "classification/accuracy" if tagging else "loss",
      "monitor_mode": "max" if tagging else "min",
      "optimizer": {
        "rate": rate or {"base": 1e-3, "short": 2e-3}.get(variant, 3e-3),
        "warmup": steps // 20,
        "final": 0.01,
        "restarts": 0,
        "weight_decay": 0.01,
        "clip": 1.0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
      },
    }
  )
