"""`tiny_part` whose pretraining has one task: each further one costs every process seconds."""

from configs import lorentz_part


def get_config():
  config = lorentz_part.get_config("tiny_part")
  for name in ("masked_jet", "masked_directions"):
    del config.stage.pretrain.tasks[name]
  return config
