"""Physics with Pythia 8 and a parametrised detector, written like the experiments' files.

Jets for the LHC, in the layout of the published JetClass files, and e+e- -> J/psi events of a
BESIII-like detector:

  make_files                        whole data sets: parallel, resumable, with progress
  plan_files, JetFile               ... of jets
  plan_event_files, EventFile       ... of J/psi events
  generate_jets, generate_events    in memory, chunk by chunk; take: so many of them
  Table                             jets or events as columns
  write_tables, read_provenance     one ROOT file and what it was made with
  PROCESSES, CLASS_NAMES            the ten classes of jets
  read_chains, write_chains, count_chains   decay chains, the classes of J/psi events
  OutputError                       what goes wrong with files, in words

Needs the extra `generate` (pythia8mc, fastjet, decaylanguage, particle, uproot); they are imported
where they are used.
"""

from jetfm.generate.generator import generate_jets, take
from jetfm.generate.jet_files import JetFile, plan_files
from jetfm.generate.jet_table import JET_BRANCHES, PARTICLE_BRANCHES
from jetfm.generate.jobs import make_files
from jetfm.generate.jpsi_classes import count_chains, read_chains, share_of_chains, write_chains
from jetfm.generate.jpsi_events import EVENT_BRANCHES, OBJECT_BRANCHES, generate_events
from jetfm.generate.jpsi_files import EventFile, plan_event_files
from jetfm.generate.processes import CLASS_NAMES, PROCESSES, JetProcess, process_of_file
from jetfm.generate.root_files import OutputError, read_provenance, write_tables
from jetfm.generate.table import Table

__all__ = [
  "make_files",
  "plan_files",
  "JetFile",
  "plan_event_files",
  "EventFile",
  "generate_jets",
  "generate_events",
  "take",
  "Table",
  "JET_BRANCHES",
  "PARTICLE_BRANCHES",
  "EVENT_BRANCHES",
  "OBJECT_BRANCHES",
  "write_tables",
  "read_provenance",
  "OutputError",
  "CLASS_NAMES",
  "PROCESSES",
  "JetProcess",
  "process_of_file",
  "count_chains",
  "read_chains",
  "share_of_chains",
  "write_chains",
]
