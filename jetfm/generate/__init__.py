"""Physics with Pythia 8 and a parametrised detector, written like the experiments' files.

Jets for the LHC, in the layout of the published JetClass files:

  make_files, plan_files, JetFile   whole data sets: parallel, resumable, with progress
  generate_jets, take               jets of one class in memory, chunk by chunk
  JetTable                          jets as columns
  write_jets, read_provenance       one ROOT file and what it was made with
  PROCESSES, CLASS_NAMES            the ten classes
  OutputError                       what goes wrong with files, in words

Needs the extra `generate` (pythia8mc, fastjet, uproot); they are imported where they are used.
"""

from jetfm.generate.generator import generate_jets, take
from jetfm.generate.jet_table import JET_BRANCHES, PARTICLE_BRANCHES, JetTable
from jetfm.generate.jobs import JetFile, make_files, plan_files
from jetfm.generate.processes import CLASS_NAMES, PROCESSES, JetProcess, process_of_file
from jetfm.generate.root_files import OutputError, read_provenance, write_jets

__all__ = [
  "make_files",
  "plan_files",
  "JetFile",
  "generate_jets",
  "take",
  "JetTable",
  "JET_BRANCHES",
  "PARTICLE_BRANCHES",
  "write_jets",
  "read_provenance",
  "OutputError",
  "CLASS_NAMES",
  "PROCESSES",
  "JetProcess",
  "process_of_file",
]
