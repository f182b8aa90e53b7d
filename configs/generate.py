"""Generated jets, or e+e- -> J/psi events. Launch: python -m launch.generate --config.out=FOLDER

Variants of jets: (none) 1,000 jets of each class; `tiny` 200 of each, two minutes on one core;
`jetclass100k` the published size, 100,000 jets of each class in one file per class.
One process makes 80-90 jets per second (all classes equally).

Variants of J/psi events: `jpsi` 200,000 events of the 100 most frequent decay chains, half a minute
on one core; `jpsi_tiny` 20,000 of them.

Keys
  physics         jets or jpsi: set by the variant
  out             folder of the ROOT files; made if missing
  classes         jets: which of QCD, Hbb, Hcc, Hgg, H4q, Hqql, Zqq, Wqq, Tbqq, Tbl, separated by
                  commas
  jets_per_class  jets of each class
  jets_per_file   a class is cut into files of so many jets (published files hold 100,000); files
                  are made in parallel and kept when a run is continued
  chains          J/psi: a file of decay chains, the classes, as `launch.generate chains` writes it;
                  '' for the 100 most frequent ones. Other events are left out
  events          events of these chains, in all, with their natural frequencies
  events_per_file ... and in one file
  seed            the same seed gives the same jets or events, whatever the number of processes
  processes       how many files are made at the same time; 0 means one per CPU core
"""

from ml_collections import ConfigDict

VARIANTS = {
  "": {},
  "tiny": {"jets_per_class": 200},
  "jetclass100k": {"jets_per_class": 100_000, "processes": 0},
  "jpsi": {},
  "jpsi_tiny": {"events": 20_000, "events_per_file": 10_000},
}


def get_config(variant: str = "") -> ConfigDict:
  """The config of a variant."""
  if variant not in VARIANTS:
    known = ", ".join(sorted(name for name in VARIANTS if name))
    raise ValueError(f"no variant '{variant}'; there are {known}")
  config = ConfigDict()
  config.physics = "jpsi" if variant.startswith("jpsi") else "jets"
  config.out = "datasets/root"
  if config.physics == "jpsi":
    config.out = "datasets/jpsi_root"
    config.chains = ""
    config.events = 200_000
    config.events_per_file = 50_000
  else:
    config.classes = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
    config.jets_per_class = 1_000
    config.jets_per_file = 100_000
  config.seed = 0
  config.processes = 1
  config.update(VARIANTS[variant])
  return config
