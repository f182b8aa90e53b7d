"""Training: state, step, optimizers, fine-tuning strategies, checkpoints, and the loop.

It gets its batches as iterators and its objectives as tasks, and knows neither files of data nor
configs.
"""

from jetfm.train.balance import BALANCES, check_balance, with_log_variances
from jetfm.train.checkpoint import (
  CannotSave,
  CheckpointError,
  Checkpoints,
  DamagedCheckpoint,
  Loaded,
  complete_steps,
  differences,
  load,
  newest_progress,
)
from jetfm.train.early_stopping import EarlyStopping
from jetfm.train.finetune import (
  STRATEGIES,
  Strategy,
  UncoveredParameter,
  label,
  make_strategy,
  trained_labels,
)
from jetfm.train.loop import (
  NonFiniteLoss,
  Schedule,
  Stage,
  Terminated,
  UnknownResult,
  check_monitor,
  evaluate,
  run_stage,
)
from jetfm.train.optim import Optimizer, make_optimizer, schedule
from jetfm.train.processes import from_first, initialize_distributed, is_first
from jetfm.train.restore import TrainedModel, build_model, describe_model, load_model
from jetfm.train.sharding import data_mesh, replicate, shard_batches
from jetfm.train.state import TrainState, create, initialise
from jetfm.train.step import global_statistics, make_eval_step, make_train_step, quotients
from jetfm.train.termination import TerminationFlag
from jetfm.train.transfer import (
  Report,
  Rules,
  TransferError,
  check_same_encoder,
  check_same_heads,
  transfer,
)

__all__ = [
  # state and steps
  "TrainState",
  "create",
  "initialise",
  "make_train_step",
  "make_eval_step",
  "global_statistics",
  "quotients",
  "BALANCES",
  "check_balance",
  "with_log_variances",
  # optimizers and strategies
  "Optimizer",
  "make_optimizer",
  "schedule",
  "Strategy",
  "STRATEGIES",
  "make_strategy",
  "label",
  "trained_labels",
  "UncoveredParameter",
  # checkpoints
  "Checkpoints",
  "Loaded",
  "load",
  "differences",
  "complete_steps",
  "newest_progress",
  "CheckpointError",
  "CannotSave",
  "DamagedCheckpoint",
  "TrainedModel",
  "load_model",
  "build_model",
  "describe_model",
  "Rules",
  "Report",
  "transfer",
  "check_same_encoder",
  "check_same_heads",
  "TransferError",
  # loop
  "Stage",
  "Schedule",
  "EarlyStopping",
  "run_stage",
  "evaluate",
  "check_monitor",
  "TerminationFlag",
  "Terminated",
  "UnknownResult",
  "NonFiniteLoss",
  # devices and processes
  "data_mesh",
  "replicate",
  "shard_batches",
  "initialize_distributed",
  "is_first",
  "from_first",
]
