"""How files of jets, or of e+e- events, become a data set.

Variants: (none) jets; `bes` e+e- -> J/psi events of launch.generate: input set and edges.

sources           files, directories or globs, separated by commas: .root and .parquet in the
                  JetClass layout, .h5 (top tagging), .npz. Their events are split by a hash.
train, valid,     the same for files that belong to one split as a whole, as in published data
test              sets that come divided.
out               directory of the data set.
inputs            the largest input set to store: kin4, kin, kinpid or full. Files that have only
                  four-momenta give kin. Smaller sets can always be read from what is stored.
                  bes: e+e- events (.root), with the branches of jetfm/data/event_schema.py.
branches          what ROOT and Parquet files call branches of the JetClass layout, as
                  part_px=pf_px,label_top=is_signal,... (jetfm/data/README.md); others as they are.
                  tree=Events is the tree of ROOT files that have several.
classes           names of the labels in order, separated by commas, for files whose labels are
                  bare numbers, or without labels: then file names must begin with a class.
                  'jetclass' stands for the ten of JetClass; '' takes the files' own. For e+e-
                  events decay chains, or a .csv file of them; other events are bad ones (on_bad).
fractions         of events in train, valid and test. Jets of one generated event stay together,
                  and adding files moves no event.
edges             longest event of each length class. Longer jets keep their leading particles.
block_events      events in a record, what is read at a time.
seed              of the split and of the order.
on_bad            error: stop at the first bad file or jet; drop: leave it out and count it.
check_names       file names must begin with a class's published prefix and agree with the labels;
                  of classes that are not JetClass's nothing is asked.
overwrite         replace a different data set in `out`.
processes         that work in parallel; the result is the same for any number.
memory_megabytes  about what the second pass takes per process; a quarter is the size of a shard.
"""

from ml_collections import ConfigDict

VARIANTS = {
  "": {},
  "bes": {"inputs": "bes", "edges": (4, 6, 8, 12, 16, 24)},
}


def get_config(variant: str = "") -> ConfigDict:
  """The config of a variant."""
  if variant not in VARIANTS:
    known = ", ".join(name for name in VARIANTS if name)
    raise ValueError(f"no variant '{variant}'; there is {known}")
  config = ConfigDict()
  config.sources = ""
  config.train = ""
  config.valid = ""
  config.test = ""
  config.out = ""
  config.inputs = "full"
  config.branches = ()
  config.classes = ""
  config.fractions = (0.8, 0.1, 0.1)
  config.edges = (16, 32, 48, 64, 80, 96, 128)
  config.block_events = 256
  config.seed = 0
  config.on_bad = "error"
  config.check_names = True
  config.overwrite = False
  config.processes = 1
  config.memory_megabytes = 512
  config.update(VARIANTS[variant])
  return config
