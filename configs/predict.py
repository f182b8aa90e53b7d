"""Scores for files of jets, or of e+e- events.

Launch: python -m launch.predict --config.checkpoint=RUN/classify/best \\
    --config.sources=datasets/root --config.out=predictions

checkpoint     folders of checkpoints or of stages, separated by commas: RUN/classify/best gives
               class scores, RUN/regress/best masses. Nothing else of the training is needed.
sources        files, directories or globs, separated by commas: .root and .parquet in the JetClass
               layout, .h5 (top tagging), .npz. Labels, jet branches and targets may be missing.
               e+e- events (.root) for a checkpoint that was trained with them, without chains too.
branches       what ROOT and Parquet files call branches of the JetClass layout, as for
               launch.ingest: part_px=pf_px,part_d0val=pf_d0,tree=Events
out            folder of the predictions: one ROOT file for each file, of the same name.
embedding      also the embedding of each jet, the mean of the encoder's tokens, or CLEAR's own of
               each event; of several checkpoints, that of the first.
max_particles  longer jets keep their leading particles, as many as this; launch.ingest keeps as
               many as its last edge, by default 128 too.
on_bad         error: stop at the first unusable jet, such as one without particles; nan: such jets
               get NaN in every branch and are counted.
overwrite      replace predictions that are there; without it those are kept that would come out the
               same, and any other is an error.
chunk          jets that are read, predicted and written at a time: what memory holds.
"""

from ml_collections import ConfigDict


def get_config():
  config = ConfigDict()
  config.checkpoint = ()
  config.sources = ""
  config.branches = ()
  config.out = ""
  config.embedding = False
  config.max_particles = 128
  config.on_bad = "error"
  config.overwrite = False
  config.chunk = 8192
  return config
