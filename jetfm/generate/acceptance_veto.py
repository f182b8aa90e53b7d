"""A veto, early in the event, of events that will give no jet of the class.

Nearly all the time of an event goes into multiparton interactions and showers below 10 GeV. By then
the hard particles have their final directions and momenta up to a few GeV, so that most events
without an accepted jet can be told. An event is given up when, for every resonance that could
make the jet, one of these holds, each with a margin for what is still to come:

- the pT of the visible decay products and of all partons around them is below PT_BOUND;
- their axis lies beyond |eta| = MAX_ETA;
- a visible decay product lies further than MAX_DISTANCE from the axis (jets need 0.8).

Measured on 4,000 events per class without it, it loses 0.5-1.1 % of the jets that would have been
accepted, all at the edges: pT just above 500 GeV, or decay products that end 0.8 from the axis only
thanks to hard radiation. That is far less than what the lower bound on the hard scale costs there
(3-8 %, `processes.py`). `AcceptanceVeto(process, armed=False)` records its decisions without acting
on them, so that the loss can be measured again.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from jetfm.generate.processes import JetProcess

SCALE = 10.0  # GeV
# GeV: per class the bound that loses just under one per cent of its jets.
PT_BOUND = {
  "QCD": 467.0,
  "Hbb": 480.0,
  "Hcc": 476.0,
  "Hgg": 475.0,
  "H4q": 475.0,
  "Hqql": 470.0,
  "Zqq": 472.0,
  "Wqq": 472.0,
  "Tbqq": 485.0,
  "Tbl": 473.0,
}
MAX_ETA = 2.1
MAX_DISTANCE = 0.95
_COLLECT_RADIUS = 1.0
_SEED_PT = 100.0  # GeV
_CARRIED_ON = (23, 24, 25, 6)
_NEUTRINOS = (12, 14, 16)


@functools.cache
def veto_class() -> type:
  """The hook, a subclass of Pythia's: made on first use, because Pythia is an optional package."""
  import pythia8mc

  class AcceptanceVeto(pythia8mc.UserHooks):
    """Vetoes events of a class that can give no jet.

    Attributes:
      armed: whether to veto, or only to record.
      decisions: unless armed, one bool per event that reached the veto scale, True for a veto.
      pythia: set this to the Pythia that runs the hook.
    """

    def __init__(self, process: JetProcess, armed: bool = True):
      pythia8mc.UserHooks.__init__(self)
      self.process, self.armed = process, armed
      self.decisions: list[bool] = []
      self.pythia: Any = None

    def canVetoPT(self) -> bool:
      return True

    def scaleVetoPT(self) -> float:
      return SCALE

    def doVetoPT(self, i_pos: int, event: Any) -> bool:
      # Called again (i_pos > 3) by the showers of the resonances, when all work is done.
      if i_pos > 3:
        return False
      veto = not can_give_jet(self.process, self.pythia.process, event)
      if not self.armed:
        self.decisions.append(veto)
        return False
      return veto

  return AcceptanceVeto


def can_give_jet(process: JetProcess, hard: Any, event: Any) -> bool:
  """Whether an event may still give an accepted jet.

  Args:
    process: the class.
    hard: Pythia's record of the hard process, decays of resonances included.
    event: Pythia's record at the veto scale, where resonances have not decayed yet.
  """
  final = [p for p in (event[i] for i in range(3, event.size())) if p.isFinal()]
  others = [p for p in final if p.idAbs() not in _CARRIED_ON and p.idAbs() not in _NEUTRINOS]
  around = [(p.pT(), p.eta(), p.phi(), p.p()) for p in others]
  bound = PT_BOUND[process.name]
  if not process.resonance:
    # Any hard parton or photon may start the jet.
    return any(
      abs(eta) < MAX_ETA and _collected(around, eta, phi, _COLLECT_RADIUS) > bound
      for pt, eta, phi, _ in around
      if pt > _SEED_PT
    )
  return any(
    _resonance_can(hard, hard[p.iTopCopyId()], p, around, bound)
    for p in final
    if p.idAbs() == process.resonance
  )


def _resonance_can(hard: Any, made: Any, recoiled: Any, around: list, bound: float) -> bool:
  """`made` in the hard process, with its decay; `recoiled` is the same particle in the event."""
  products = []
  for decayed in _visible_products(hard, made):
    momentum = decayed.p()
    # What Pythia does with the decay later: a boost with the resonance's recoil.
    momentum.bstback(made.p())
    momentum.bst(recoiled.p())
    products.append(momentum)
  if not products:
    return False
  axis = functools.reduce(lambda a, b: a + b, products)
  eta, phi = axis.eta(), axis.phi()
  if axis.pT() + _collected(around, eta, phi, _COLLECT_RADIUS) < bound:
    return False
  for _, other_eta, other_phi, momentum in around:
    if _distance(eta, phi, other_eta, other_phi) < 0.8:
      axis = axis + momentum
  eta, phi = axis.eta(), axis.phi()
  return abs(eta) < MAX_ETA and all(
    _distance(eta, phi, p.eta(), p.phi()) < MAX_DISTANCE for p in products
  )


def _visible_products(hard: Any, particle: Any) -> list:
  """Decay products of a resonance, those of its W bosons included, without neutrinos."""
  products = []
  for place in (particle.daughter1(), particle.daughter2()):
    daughter = hard[place]
    if daughter.idAbs() == 24:
      products += _visible_products(hard, daughter)
    elif daughter.idAbs() not in _NEUTRINOS:
      products.append(daughter)
  return products


def _collected(around: list, eta: float, phi: float, radius: float) -> float:
  """Scalar sum of pT in GeV within a radius."""
  return sum(pt for pt, e, f, _ in around if _distance(eta, phi, e, f) < radius)


def _distance(eta1: float, phi1: float, eta2: float, phi2: float) -> float:
  d_phi = (phi1 - phi2 + math.pi) % (2 * math.pi) - math.pi
  return math.hypot(eta1 - eta2, d_phi)
