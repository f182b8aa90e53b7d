"""The ten JetClass classes: names, ids, file prefixes, and the Pythia settings that make them.

Class *names* are the contract. The ids follow the order of the label branches in the published
files; other code bases order them differently.
Source: arXiv:2202.03772 and the settings of its generation code (github.com/jet-universe/
jetclass_generation), translated to Pythia's internal processes.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMON_SETTINGS = (
  "Print:quiet = on",
  "Beams:eCM = 13000",
  # Jets are selected above 500 GeV: a lower bound on the hard scale would add 3-8 % of jets, all
  # just above 500 GeV, for several times the work.
  "PhaseSpace:pTHatMin = 450",
  "23:onMode = off",
  "23:onIfAny = 12 14 16",
  "25:m0 = 125",
)

_Z_JET = (
  "WeakBosonAndParton:qqbar2gmZg = on",
  "WeakBosonAndParton:qg2gmZq = on",
  "WeakZ0:gmZmode = 2",
)
_ZH = ("HiggsSM:ffbar2HZ = on", "25:onMode = off")
_TOPS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off")
_W_TO_QUARKS = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")


@dataclass(frozen=True)
class JetProcess:
  """One class of jets.

  Attributes:
    name: class name; the label branch is `label_<name>`.
    class_id: position in the published order of labels.
    prefix: files are named `<prefix>_<number>.root`.
    settings: one tuple of Pythia settings for each generator that is needed. Two generators, used
      in turn with equal numbers of events, make what no single list of decay channels can force.
    resonance: |PDG id| of the particle whose decay products the jet must contain; 0 for QCD.
  """

  name: str
  class_id: int
  prefix: str
  settings: tuple[tuple[str, ...], ...]
  resonance: int


PROCESSES: dict[str, JetProcess] = {
  process.name: process
  for process in (
    JetProcess("QCD", 0, "ZJetsToNuNu", (_Z_JET,), 0),
    JetProcess("Hbb", 1, "HToBB", ((*_ZH, "25:onIfMatch = 5 -5"),), 25),
    JetProcess("Hcc", 2, "HToCC", ((*_ZH, "25:onIfMatch = 4 -4"),), 25),
    JetProcess("Hgg", 3, "HToGG", ((*_ZH, "25:onIfMatch = 21 21"),), 25),
    JetProcess("H4q", 4, "HToWW4Q", ((*_ZH, "25:onIfMatch = 24 -24", *_W_TO_QUARKS),), 25),
    JetProcess(
      "Hqql",
      5,
      "HToWW2Q1L",
      # A single list of channels for both charges would give mostly four quarks.
      tuple(
        (
          *_ZH,
          "25:onIfMatch = 24 -24",
          "24:onMode = off",
          f"24:on{leptonic}IfAny = 11 13",
          f"24:on{hadronic}IfAny = 1 2 3 4 5",
        )
        for leptonic, hadronic in (("Pos", "Neg"), ("Neg", "Pos"))
      ),
      25,
    ),
    JetProcess(
      "Zqq",
      6,
      "ZToQQ",
      # One neutrino pair and one quark pair cannot be forced: both may be hadronic.
      (
        (
          "WeakDoubleBoson:ffbar2gmZgmZ = on",
          "WeakZ0:gmZmode = 2",
          "23:onIfAny = 1 2 3 4 5 12 14 16",
        ),
      ),
      23,
    ),
    JetProcess("Wqq", 7, "WToQQ", (("WeakDoubleBoson:ffbar2ZW = on", *_W_TO_QUARKS),), 24),
    JetProcess("Tbqq", 8, "TTBar", ((*_TOPS, "24:onIfAny = 1 2 3 4 5"),), 6),
    JetProcess("Tbl", 9, "TTBarLep", ((*_TOPS, "24:onIfAny = 11 13"),), 6),
  )
}

CLASS_NAMES: tuple[str, ...] = tuple(PROCESSES)


def process_of_file(name: str) -> JetProcess | None:
  """The class of a published file name, e.g. HToBB_120.root; None if no prefix fits.

  The longest prefix wins: TTBarLep_000.root is Tbl, not Tbqq.
  """
  fitting = [process for process in PROCESSES.values() if name.startswith(process.prefix + "_")]
  return max(fitting, key=lambda process: len(process.prefix), default=None)
