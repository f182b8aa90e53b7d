"""LorentzParT: masked pretraining, then fine-tuning for four tasks.

  python -m launch.train --config=configs/lorentz_part.py:base --workdir=runs/base \\
      --config.data.directory=datasets/jets

Variants: `base` is the published size (D 128, H 8, L 8, about 2.1 M parameters), `short` the same
with a schedule of minutes on one H100; `tiny` runs in minutes on a laptop, `cpu` trains the same
longer, for the table of `benchmarks.reproduce`. `part`, `short_part`, `cpu_part` and `tiny_part`
lack the equivariant layers. A run is a list of stages; each has its folder in the workdir, with the
checkpoints `last` (for resuming) and `best` (for use), metrics.jsonl and TensorBoard files. The
same command goes on with a run that was interrupted. One stage alone, from another run's encoder:

  python -m launch.train --config=configs/lorentz_part.py:base --workdir=runs/tag \\
      --config.data.directory=datasets/jets --config.stages=classify \\
      --config.stage.classify.init_from=runs/base/pretrain/best

Expected of `tiny` after ./launch/quickstart (12,000 jets, under 20 minutes on two cores, seed 0),
on 1,167 test jets: accuracy 0.55, AUC 0.898; R2 of mass 0.988, of gen_mass 0.899; reconstruction
gain 0.62; generated pT KL 0.023 in equiprobable bins, jet mass W1 5.5 GeV, multiplicity W1 1.5;
super-resolution Chamfer 0.0050, multiplicity error 0.068. All of it, with errors:
benchmarks/results/quickstart-cpu.json.
Of `cpu` with 80,000 jets and kin4, three seeds: accuracy 0.640 +- 0.007, AUC 0.929
(benchmarks/results/jets-cpu.json).
`base` was not trained yet: it needs a GPU. The published run of 2.4 M parameters on 80,000 JetClass
jets has accuracy 0.49, AUC 0.876.

seed          of parameters, order of the data, masks, augmentations and dropout, and of which
              events are the `train_events`.
stages        which stages run, in order, of those in `stage`.
max_nonfinite successive steps without a finite loss after which a run gives up.
data          directory: from launch.ingest. inputs: kin4, kin, kinpid or full. batch_size: events
              of a global batch, split into groups of the padded `lengths`. train_events and
              eval_events: at most so many events of training and of validation, 0 for all. lanes:
              streams that a batch joins, a multiple of the number of processes. workers: processes
              that read ahead (0: threads only).
encoder       kind: lorentz_part, in two variants part; the rest are attributes of its class. On
              GPUs and TPUs take dtype=bfloat16, for which the kernels are made; each of the lengths
              adds about a minute of compilation there.
stage.NAME    tasks: weight and options of each (jetfm/tasks); weight 0 takes it out of the loss.
              Pretraining is masked_particles, as published, masked_jet and masked_directions, which
              read the same view. strategy: full, frozen, partial (last `last_blocks` blocks and
              what follows), differential (learning rates fall by `rate_decay` per block),
              class_attention. balance of several tasks: fixed, uncertainty or gradient_norm
              (jetfm/train/balance.py). init_from: a stage of this run, a folder of checkpoints, or
              '' for a fresh start; rename, fresh and differing: its rules
              (jetfm/train/transfer.py). augment: rotate_phi, flip_eta. accumulate: global batches
              per step. remat: keep only one length group's activations in memory. patience:
              evaluations without improvement of `monitor` before the stage ends, 0 for never;
              monitor_mode: min or max.
"""

from ml_collections import ConfigDict

SIZES = ("base", "short", "cpu", "tiny")
VARIANTS = (*SIZES, "part", *(f"{size}_part" for size in SIZES[1:]))
STEPS = {
  "pretrain": {"base": 200_000, "short": 5_000, "cpu": 4_000, "tiny": 800},
  "classify": {"base": 50_000, "short": 3_000, "cpu": 4_000, "tiny": 600},
  "regress": {"base": 50_000, "short": 3_000, "cpu": 2_500, "tiny": 500},
  "generate": {"base": 50_000, "short": 3_000, "cpu": 2_500, "tiny": 500},
  "super_resolve": {"base": 50_000, "short": 3_000, "cpu": 2_500, "tiny": 400},
}


def get_config(variant="base"):
  if variant not in VARIANTS:
    raise ValueError(f"no variant '{variant}'; there are {', '.join(VARIANTS)}")
  size = "base" if variant == "part" else variant.removesuffix("_part")
  small, equivariant = size in ("cpu", "tiny"), not variant.endswith("part")
  config = ConfigDict()
  config.workdir = ""
  config.seed = 0
  config.max_nonfinite = 10
  config.stages = ("pretrain", "classify", "regress", "generate", "super_resolve")
  config.data = ConfigDict(
    {
      "directory": "",
      "inputs": "kin",
      # A compiled step for every length: on a GPU it takes minutes, and kernels skip padding.
      "lengths": {"tiny": (32, 64, 128), "short": (64, 128)}.get(size, (32, 48, 64, 96, 128)),
      "batch_size": {"tiny": 64, "cpu": 128}.get(size, 512),
      "eval_batch_size": {"tiny": 64, "cpu": 128}.get(size, 512),
      "train_events": 0,
      "eval_events": {"base": 100_000, "short": 10_000, "cpu": 5_000, "tiny": 2_000}[size],
      "lanes": 4,
      "workers": 0 if small else 2,
    }
  )
  config.encoder = ConfigDict(
    {
      "kind": "lorentz_part" if equivariant else "part",
      "width": 32 if small else 128,
      "depth": 2 if small else 8,
      "heads": 4 if small else 8,
      "embed_widths": (32,) if small else (128, 512),
      "pair_widths": (16, 16) if small else (64, 64, 64),
      "pair_activation": "gelu",
      "pair_norm": True,
      "frame": "jet",
      "pair": "part",
      **({"scalars": "schema", "mv_out": "equivariant"} if equivariant else {}),
      "dropout": 0.0 if small else 0.1,
      "dtype": "bfloat16" if size == "short" else "float32",
      "remat": False,
    }
  )
  pooled = {"heads": 4, "layers": 1} if small else {"heads": 8, "layers": 2}
  cloud = {**pooled, "dropout": 0.0}
  particles = 64 if size == "tiny" else 128
  pretrain = ("rotate_phi", "flip_eta")
  whole = 1e-3 if small else 3e-4  # the learning rate of all layers, pretrained ones too
  stage = config.stage = ConfigDict()
  stage.pretrain = _stage(
    size,
    "pretrain",
    {
      "masked_particles": {"ratio": 0.3, "masking": "biased", "objective": "conservation"},
      "masked_jet": {"ratio": 0.3, "masking": "biased"},
      "masked_directions": {"ratio": 0.3, "masking": "biased"},
    },
    augment=pretrain,
  )
  stage.classify = _stage(
    size,
    "classify",
    {"classification": {"smoothing": 0.0, "head_options": {**pooled, "dropout": 0.1}}},
    strategy="differential",
    monitor="classification/accuracy",
    monitor_mode="max",
  )
  stage.regress = _stage(
    size,
    "regress",
    {"regression": {"targets": ("mass", "gen_mass"), "error": "huber", "head_options": pooled}},
    rate=whole,
  )
  stage.generate = _stage(
    size,
    "generate",
    {
      "generation": {
        "particles": particles,
        "latent": 32,
        "condition": "embedding",
        # With `chamfer` hardly any particle is as soft as the softest few per cent are.
        "distance": "angular",
        "jet_term": 0.3,
        "beta": 1.0,
        "warm_up_steps": STEPS["generate"][size] // 10,
        "head_options": {**cloud, "width": 32 if small else 128},
      }
    },
    strategy="frozen",
  )
  stage.super_resolve = _stage(
    size,
    "super_resolve",
    {
      "super_resolution": {
        "given": 30,
        "particles": particles,
        "distance": "angular",
        "head_options": cloud,
      }
    },
    rate=whole,
  )
  return config


def _stage(
  size,
  name,
  tasks,
  strategy="full",
  augment=(),
  rate=1e-3,
  monitor="loss",
  monitor_mode="min",
):
  steps, small = STEPS[name][size], size in ("cpu", "tiny")
  every = {"base": 2_000, "short": 500, "cpu": 500, "tiny": 200}[size]
  return ConfigDict(
    {
      "tasks": {name: {"weight": 1.0, **options} for name, options in tasks.items()},
      "strategy": strategy,
      "last_blocks": 1 if small else 2,
      "rate_decay": 0.75,
      "balance": "fixed",
      "init_from": "" if name == "pretrain" else "pretrain",
      "rename": (("(encoder/.*)", r"\1"), ("heads/.*", "")),
      "fresh": ("heads/.*",),
      "differing": (),
      "augment": augment,
      "steps": steps,
      "accumulate": 1,
      "remat": False,
      "log_every": 10 if small else 100,
      "eval_every": every,
      "save_every": every,
      "patience": 0,
      "monitor": monitor,
      "monitor_mode": monitor_mode,
      "optimizer": {
        "rate": rate,
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
